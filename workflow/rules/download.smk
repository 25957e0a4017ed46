# inputs:  the official labels of the evaluation part, where the configuration names them, and the manifest of a tree of
#          recordings, where its owner wrote one; else none in the graph: the published archives, a folder of recordings,
#          or the generator
# outputs: data/<dataset>/<machine>/manifest.csv; what else comes with it (wavs, archives under way, checksums) is
#          undeclared, since Snakemake deletes what is declared before a rerun
UNUSED = {
    "demo": {"dcase.download", "releases", "own_manifest"},
    "folder": {"dcase.download", "releases", "demo.synthesis"},
}


rule download:
    """List a machine's recordings, fetching or synthesising them where they are not there."""
    input:
        truth=truth_of,
        own=ancient(own_manifest),  # its content is in `listing`
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
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        # How recordings are fetched is no param: another mirror does not make another manifest.
        transfer=settings.dataset.transfer,
    params:
        script=f"{SCRIPTS}/download.py",
        code=code("download", unused=UNUSED.get(settings.dataset.kind, {"demo.synthesis", "own_manifest"})),
        settings=settings.dataset.flags,
        releases=releases_of,
        listing=listing_of,
        contents=contents_of,
    shell:
        "alone {log:q}; python {params.script}"
        " --machine {wildcards.machine:q}"
        " {params.settings}"
        " {resources.transfer}"
        " {params.contents}"
        " --threads {threads}"
        " --out {output.manifest:q}"
        " >{log:q} 2>&1"
