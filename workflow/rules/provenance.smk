# inputs:  the recordings, and the files that were made from them
# outputs: results/provenance.json: the code, configuration, versions, data and seeds that made the tables

PROVENANCE = f"{RESULTS}/provenance.json"
STAGES = [
    "download",
    "weights",
    "logmel",
    "train",
    "features",
    "spectra",
    "fit",
    "score",
    "score_exposure",
    "fuse",
    "ensemble",
    "tables",
]


rule provenance:
    """Record what made the tables, so that they can be made again."""
    input:
        manifests=expand(rules.download.output.manifest, machine=settings.machines),
        weights=expand(
            WEIGHTS,
            backbone=dict.fromkeys(
                settings.networks[name].backbone.file for name in RUN_NETWORKS if settings.networks[name].starts
            ),
        ),
        networks=network_paths(RUN_NETWORKS),
        scores=ALL_SCORES,
        selection=SELECTION,
        tables=TABLES,
        metrics=METRICS,
    output:
        document=PROVENANCE,
    log:
        f"{RESULTS}/logs/provenance.log",
    benchmark:
        f"{RESULTS}/benchmarks/provenance.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/provenance.py",
        digest=code("provenance"),
        configuration=argument(settings.model_dump_json()),
        code=[f"{stage}={code(stage)}" for stage in STAGES],
        files=lambda wildcards, input: [path for path in input if path not in input.manifests],
    shell:
        command(
            "--configuration {params.configuration:q}",
            "--code {params.code:q}",
            "--manifests {input.manifests:q}",
            "--files {params.files:q}",
            "--out {output.document:q}",
        )
