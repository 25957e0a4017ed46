# inputs:  network, fitted detector and scores of each member of a model; the ensemble's selection
# outputs: results/detectors/<model>/<machine>.zip, and results/detectors/<machine>.zip with the chosen model

DETECTOR = f"{RESULTS}/detectors/{{model}}/{{machine}}.zip"


def sources_of(wildcards):
    """What the detector of a model is packed from: per member, the fields of asd.detector.Source."""
    sources = []
    for name in settings.models[wildcards.model].members or [wildcards.model]:
        model, machine = settings.models[name], wildcards.machine
        source = {"model": name, "title": model.title, "detector": model.detector}
        source["cache"] = cache_path(model.network, machine)
        source["scores"] = SCORES.format(model=name, machine=machine)
        if model.fitted:
            source["fitted"] = fitted_path(name, machine)
        if model.network:
            source["network"] = network_path(model.network, machine)
            source["windows"] = settings.networks[model.network].windows.model_dump()
        else:
            source["spectrum"] = settings.spectra[model.spectrum].model_dump()
        sources.append(source)
    return sources


rule detector:
    """Pack everything that scoring a recording needs into one file."""
    input:
        parts=lambda wildcards: [
            source[key]
            for source in sources_of(wildcards)
            for key in ("cache", "network", "fitted", "scores")
            if key in source
        ],
        scores=SCORES,
    output:
        detector=DETECTOR,
    log:
        f"{RESULTS}/logs/detector/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/detector/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model="|".join(settings.models),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        script=f"{SCRIPTS}/detector.py",
        code=code("detector"),
        members=lambda wildcards: [json.dumps(source, sort_keys=True) for source in sources_of(wildcards)],
        title=lambda wildcards: settings.models[wildcards.model].title,
        fuse=lambda wildcards: settings.models[wildcards.model].fuse,
        weights=lambda wildcards: settings.models[wildcards.model].weights,
    shell:
        "alone {log:q}; python {params.script}"
        " --members {params.members:q}"
        " --scores {input.scores:q}"
        " --model {wildcards.model:q}"
        " --title {params.title:q}"
        " --fuse {params.fuse}"
        " --weights {params.weights}"
        " --out {output.detector:q}"
        " >{log:q} 2>&1"


rule chosen_detector:
    """Copy the detector of the model that the ensemble chose for a machine."""
    input:
        selection=rules.ensemble.output.selection,
        detectors=expand(DETECTOR, model=CANDIDATES, allow_missing=True),
    output:
        detector=f"{RESULTS}/detectors/{{machine}}.zip",
    log:
        f"{RESULTS}/logs/chosen_detector/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/chosen_detector/{{machine}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        script=f"{SCRIPTS}/chosen_detector.py",
        code=code("chosen_detector"),
    shell:
        "alone {log:q}; python {params.script}"
        " --selection {input.selection:q}"
        " --detectors {input.detectors:q}"
        " --out {output.detector:q}"
        " >{log:q} 2>&1"
