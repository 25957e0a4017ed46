# inputs:  the manifests of all machines, and the recordings that they list
# outputs: data/<dataset>/check-<digest of its settings>/summary.csv, only where no recording is refused; what says why
#          one is (corpus.csv and a plot a machine) is undeclared, since Snakemake deletes what a failed job declared


rule check_corpus:
    """Listen to all recordings: which are faulty, and how levels and spectra lie."""
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
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        script=f"{SCRIPTS}/check_corpus.py",
        code=code("check_corpus"),
        settings=f"{flags(settings.logmel)} {flags(settings.check)}",
        out_dir=lambda wildcards, output: os.path.dirname(output.summary),
    shell:
        "alone {log:q}; python {params.script}"
        " {input.manifests:q}"
        " {params.settings}"
        " --threads {threads}"
        " --out-dir {params.out_dir:q}"
        " >{log:q} 2>&1"
