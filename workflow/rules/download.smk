# inputs:  none in the graph: the published archives, a folder of recordings, or the generator
# outputs: data/<dataset>/<machine>/manifest.csv; the wavs beside it are undeclared, since Snakemake deletes what is
#          declared before a rerun


rule download:
    """List a machine's recordings, fetching or synthesising them where they are not there."""
    output:
        manifest=f"{DATA}/{{machine}}/manifest.csv",
    log:
        f"{DATA}/logs/download/{{machine}}.log",
    benchmark:
        f"{DATA}/benchmarks/download/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=1000,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        script=f"{SCRIPTS}/download.py",
        code=code("download", unused=() if settings.dataset.kind == "demo" else ("synthesis",)),
        settings=settings.dataset.flags,
    shell:
        "python {params.script}"
        " --machine {wildcards.machine:q}"
        " {params.settings}"
        " --threads {threads}"
        " --out {output.manifest:q}"
        " >{log:q} 2>&1"
