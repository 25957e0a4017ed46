# inputs:  the features of a machine's training clips
# outputs: results/mvg/<model>/<machine>.h5


rule mvg:
    """Fit a Gaussian a section, and score the training clips held out."""
    input:
        features=lambda wildcards: FEATURES.format(network=network_of(wildcards), machine=wildcards.machine),
    output:
        mvg=MVG,
    log:
        f"{RESULTS}/logs/mvg/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/mvg/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with("gaussian"),
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        script=f"{SCRIPTS}/mvg.py",
        code=code("mvg"),
        settings=lambda wildcards: flags(settings.models[wildcards.model].mvg),
        folds=lambda wildcards: settings.models[wildcards.model].threshold.folds,
        threads=settings.compute.threads,
    shell:
        "alone {log:q}; python {params.script}"
        " --features {input.features:q}"
        " {params.settings}"
        " --folds {params.folds}"
        " --threads {params.threads}"
        " --out {output.mvg:q}"
        " >{log:q} 2>&1"
