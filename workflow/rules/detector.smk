# inputs:  a network, its Gaussians and the scores of a machine's clips; the ensemble's selection
# outputs: results/detectors/<model>/<machine>.zip, and results/detectors/<machine>.zip, the chosen model's

DETECTOR = f"{RESULTS}/detectors/{{model}}/{{machine}}.zip"


rule detector:
    """Pack all that scoring a recording needs into one file."""
    input:
        cache=cache_of,
        network=lambda wildcards: network_path(network_of(wildcards), wildcards.machine),
        mvg=lambda wildcards: (
            [MVG.format(**wildcards)] if settings.models[wildcards.model].detector == "gaussian" else []
        ),
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
        mvg=lambda wildcards, input: f"--mvg {shlex.quote(input.mvg[0])}" if input.mvg else "",
        title=lambda wildcards: settings.models[wildcards.model].title,
        settings=lambda wildcards: flags(settings.networks[network_of(wildcards)].windows),
        quantile=lambda wildcards: settings.models[wildcards.model].threshold.quantile,
    shell:
        "alone {log:q}; python {params.script}"
        " --cache {input.cache:q}"
        " --network {input.network:q}"
        " {params.mvg}"
        " --scores {input.scores:q}"
        " --model {wildcards.model:q}"
        " --title {params.title:q}"
        " {params.settings}"
        " --quantile {params.quantile}"
        " --out {output.detector:q}"
        " >{log:q} 2>&1"


rule chosen_detector:
    """Take the detector of the model that the ensemble chose for a machine."""
    input:
        selection=rules.ensemble.output.selection,
        detectors=expand(DETECTOR, model=settings.run_models, allow_missing=True),
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
