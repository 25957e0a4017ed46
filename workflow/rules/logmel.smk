# inputs:  data/<dataset>/<machine>/manifest.csv, and the recordings that it lists; for a folder the result of the check
# outputs: data/<dataset>/logmel-<digest of its settings>/<machine>.h5


rule logmel:
    """Compute a machine's log-mel spectrograms into one HDF5 file."""
    input:
        manifest=rules.download.output.manifest,
        checked=ancient(CHECKED) if settings.dataset.kind == "folder" else [],
    output:
        cache=CACHE,
    log:
        f"{DATA}/logs/logmel/{{logmel}}/{{machine}}.log",
    benchmark:
        f"{DATA}/benchmarks/logmel/{{logmel}}/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/logmel.py",
        code=code("logmel"),
        settings=lambda wildcards: flags(LOGMELS[wildcards.logmel]),
    shell:
        command("--manifest {input.manifest:q}", "{params.settings}", "--out {output.cache:q}")
