# inputs:  every figure of every model
# outputs: results/tables/sweep.csv and sweep.md, results/figures/sweep.{svg,png}, if the configuration has a sweep

SWEPT = [f"{RESULTS}/tables/sweep.csv"] if settings.variants else []


rule sweep:
    """Write each combination of values with its mean and spread over the seeds."""
    input:
        metrics=METRICS,
    output:
        table=f"{RESULTS}/tables/sweep.csv",
        page=f"{RESULTS}/tables/sweep.md",
        svg=report(f"{RESULTS}/figures/sweep.svg", caption="../report/sweep.rst", category="Figures"),
        png=f"{RESULTS}/figures/sweep.png",
    log:
        f"{RESULTS}/logs/sweep.log",
    benchmark:
        f"{RESULTS}/benchmarks/sweep.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/sweep.py",
        code=code("sweep"),
        variants=argument(json.dumps({name: variant.model_dump() for name, variant in settings.variants.items()})),
        pauc_anomalies=settings.metrics.pauc_anomalies,
        out_dir=lambda wildcards, output: os.path.dirname(output.table),
        figures_dir=lambda wildcards, output: os.path.dirname(output.svg),
    shell:
        command(
            "--metrics {input.metrics:q}",
            "--variants {params.variants:q}",
            "--pauc-anomalies {params.pauc_anomalies}",
            "--out-dir {params.out_dir:q}",
            "--figures-dir {params.figures_dir:q}",
        )
