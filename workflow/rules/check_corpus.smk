# inputs:  the manifests of all machines, and the recordings that they list
# outputs: data/<dataset>/check/summary.csv, if no recording is refused. corpus.csv and a plot per machine, which say
#          why a recording is refused, are not declared, since Snakemake deletes the declared files of a failed job


rule check_corpus:
    """Check all recordings for faults, and plot their levels and spectra."""
    input:
        manifests=expand(rules.download.output.manifest, machine=settings.machines),
    output:
        summary=CHECKED,
    log:
        f"{DATA}/logs/check_corpus.log",
    benchmark:
        f"{DATA}/benchmarks/check_corpus.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=by_attempt(1500),
        runtime=by_attempt(120),
    params:
        script=f"{SCRIPTS}/check_corpus.py",
        code=code("check_corpus"),
        settings=f"{flags_of(settings.logmel.model_dump(include={'rate', 'convert', 'channel'}))} {flags(settings.check)}",
        out_dir=lambda wildcards, output: os.path.dirname(output.summary),
    shell:
        command(
            "{input.manifests:q}",
            "{params.settings}",
            "--threads {threads}",
            "--out-dir {params.out_dir:q}",
        )
