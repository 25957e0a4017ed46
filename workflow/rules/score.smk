# inputs:  features and Gaussians (detector gaussian), or log-mel cache and network (detector exposure)
# outputs: results/scores/<model>/<machine>.csv, a row a clip


rule score_gaussian:
    """Score a machine's clips by their Mahalanobis distance, and decide."""
    input:
        features=lambda wildcards: FEATURES.format(network=network_of(wildcards), machine=wildcards.machine),
        mvg=rules.mvg.output.mvg,
    output:
        scores=SCORES,
    log:
        f"{RESULTS}/logs/score/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with("gaussian"),
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        script=f"{SCRIPTS}/score_gaussian.py",
        code=code("score_gaussian"),
        quantile=lambda wildcards: settings.models[wildcards.model].threshold.quantile,
        threads=settings.compute.threads,
    shell:
        "alone {log:q}; python {params.script}"
        " --features {input.features:q}"
        " --mvg {input.mvg:q}"
        " --quantile {params.quantile}"
        " --threads {params.threads}"
        " --out {output.scores:q}"
        " >{log:q} 2>&1"


rule score_exposure:
    """Score a machine's clips by the classifier's doubt about their section, and decide."""
    input:
        cache=cache_of,
        network=lambda wildcards: network_path(network_of(wildcards), wildcards.machine),
    output:
        scores=SCORES,
    log:
        f"{RESULTS}/logs/score/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with("exposure"),
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        gpu=1,
        mem_mb=lambda wildcards, input, attempt: attempt * scoring_needs(network_of(wildcards), input.cache)["mem_mb"],
        runtime=lambda wildcards, input, attempt: attempt * scoring_needs(network_of(wildcards), input.cache)["runtime"],
    params:
        script=f"{SCRIPTS}/score_exposure.py",
        code=code("score_exposure"),
        settings=lambda wildcards: flags(settings.networks[network_of(wildcards)].windows),
        quantile=lambda wildcards: settings.models[wildcards.model].threshold.quantile,
        compute=COMPUTE,
    shell:
        "alone {log:q}; python {params.script}"
        " --cache {input.cache:q}"
        " --network {input.network:q}"
        " {params.settings}"
        " --quantile {params.quantile}"
        " {params.compute}"
        " --out {output.scores:q}"
        " >{log:q} 2>&1"
