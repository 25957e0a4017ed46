# inputs:  the scores of every model and machine, and the ensemble's selection
# outputs: results/tables/{auc,pauc}_{total,source,target}.csv, metrics.csv, comparison.csv and summary.md

TABLES = expand(
    f"{RESULTS}/tables/{{figure}}_{{domain}}.csv", figure=["auc", "pauc"], domain=["total", "source", "target"]
)


rule tables:
    """Write the paper's tables, and every figure at full precision."""
    input:
        scores=ALL_SCORES,
        selection=SELECTION,
    output:
        tables=report(TABLES, caption="../report/tables.rst", category="Tables"),
        metrics=METRICS,
        comparison=f"{RESULTS}/tables/comparison.csv",
        summary=f"{RESULTS}/tables/summary.md",
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/tables.py",
        code=code("tables"),
        models=settings.run_models,
        titles=[settings.models[name].title for name in settings.run_models],
        paper_models=settings.chosen_from,
        settings=flags(settings.metrics),
        out_dir=lambda wildcards, output: os.path.dirname(output.metrics),
    shell:
        command(
            "--scores {input.scores:q}",
            "--models {params.models:q}",
            "--titles {params.titles:q}",
            "--paper-models {params.paper_models:q}",
            "--selection {input.selection:q}",
            "{params.settings}",
            "--out-dir {params.out_dir:q}",
        )
