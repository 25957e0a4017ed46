# inputs:  log-mel cache, network, features, fitted detector and scores of each member of a model; the ensemble's selection
# outputs: results/detectors/<model>/<machine>.zip, and results/detectors/<machine>.zip with the chosen model

DETECTOR = f"{RESULTS}/detectors/{{model}}/{{machine}}.zip"


rule detector:
    """Pack everything that scoring a recording needs into one file."""
    input:
        parts=lambda wildcards: [
            source[key]
            for source in sources_of(wildcards)
            for key in ("cache", "network", "features", "fitted", "scores")
            if key in source
        ],
        scores=CLIP_SCORES,
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
        mem_mb=by_attempt(2000),
        runtime=by_attempt(10),
    params:
        script=f"{SCRIPTS}/detector.py",
        code=code("detector"),
        members=lambda wildcards: [json.dumps(source, sort_keys=True) for source in sources_of(wildcards)],
        title=lambda wildcards: settings.models[wildcards.model].title,
        decision=lambda wildcards: flags(settings.models[wildcards.model].decision),
        fuse=lambda wildcards: settings.models[wildcards.model].fuse,
        weights=lambda wildcards: settings.models[wildcards.model].weights,
    shell:
        command(
            "--members {params.members:q}",
            "--scores {input.scores:q}",
            "--model {wildcards.model:q}",
            "--title {params.title:q}",
            "{params.decision}",
            "--fuse {params.fuse}",
            "--weights {params.weights}",
            "--out {output.detector:q}",
        )


rule chosen_detector:
    """Copy the detector of the model that the ensemble chose for a machine."""
    input:
        selection=SELECTION,
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
        mem_mb=by_attempt(500),
        runtime=by_attempt(10),
    params:
        script=f"{SCRIPTS}/chosen_detector.py",
        code=code("chosen_detector"),
    shell:
        command(
            "--selection {input.selection:q}",
            "--detectors {input.detectors:q}",
            "--out {output.detector:q}",
        )
