# inputs:  the features of a machine's training clips
# outputs: results/mvg/<model>/<machine>.h5 (detector gaussian), results/knn/… or results/gmm/…

# One rule per detector. It has the name of the detector's block of settings.
for detector, block in DETECTORS.items():

    rule:
        """Fit a detector per section, and compute held-out scores of the training clips."""
        name:
            block
        input:
            features=features_of,
        output:
            fitted=FITTED.replace("{block}", block),
        log:
            f"{RESULTS}/logs/{block}/{{model}}/{{machine}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{block}/{{model}}/{{machine}}.tsv"
        wildcard_constraints:
            model=models_with(detector),
        conda:
            ENVIRONMENT
        threads: settings.compute.threads
        resources:
            mem_mb=by_attempt(3000),
            runtime=by_attempt(60),
        params:
            script=f"{SCRIPTS}/fit.py",
            code=code("fit", unused=set(DETECTORS) - {detector}),
            settings=lambda wildcards: settings.models[wildcards.model].fit.flags,
            threads=settings.compute.threads,
        shell:
            command(
                "--features {input.features:q}",
                "{params.settings}",
                "--threads {params.threads}",
                "--out {output.fitted:q}",
            )
