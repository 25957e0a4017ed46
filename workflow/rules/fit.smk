# inputs:  the features of a machine's training clips
# outputs: results/fitted/<model>/<machine>.h5


rule fit:
    """Fit a detector per section, and compute held-out scores of the training clips."""
    input:
        features=features_of,
    output:
        fitted=FITTED,
    log:
        f"{RESULTS}/logs/fit/{{model}}/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit/{{model}}/{{machine}}.tsv"
    wildcard_constraints:
        model=models_with(*DETECTORS),
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=by_attempt(3000),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/fit.py",
        code=code_of_detector("fit"),
        settings=lambda wildcards: settings.models[wildcards.model].fit.flags,
        threads=settings.compute.threads,
    shell:
        command(
            "--features {input.features:q}",
            "{params.settings}",
            "--threads {params.threads}",
            "--out {output.fitted:q}",
        )
