# inputs:  the official labels of the evaluation part, if the configuration names them; the manifest of a folder of
#          recordings, if its owner wrote one. Published archives and recordings are read too, but not declared
# outputs: data/<dataset>/<machine>/manifest.csv. Recordings, archives and checksums are not declared, since Snakemake
#          deletes declared files before a rerun
UNUSED = {
    "demo": {"dcase.download", "releases", "own_manifest"},
    "folder": {"dcase.download", "releases", "demo.synthesis"},
}


rule download:
    """List a machine's recordings; download or synthesise them if they are missing."""
    input:
        truth=truth_of,
        own=ancient(own_manifest),  # its content is in `listing`
    output:
        manifest=f"{DATA}/{{machine}}/manifest.csv",
    log:
        f"{DATA}/logs/download/{{machine}}.log",
    benchmark:
        f"{DATA}/benchmarks/download/{{machine}}.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(240),
        # Not a parameter: the manifest does not depend on how recordings are downloaded, for example from which mirror.
        transfer=settings.dataset.transfer,
    params:
        script=f"{SCRIPTS}/download.py",
        code=code("download", unused=UNUSED.get(settings.dataset.kind, {"demo.synthesis", "own_manifest"})),
        settings=settings.dataset.flags,
        releases=releases_of,
        listing=listing_of,
        contents=contents_of,
    shell:
        command(
            "--machine {wildcards.machine:q}",
            "{params.settings}",
            "{resources.transfer}",
            "{params.contents}",
            "--threads {threads}",
            "--out {output.manifest:q}",
        )
