# inputs:  the ensemble's scores of all machines, and their log-mel caches
# outputs: results/tables/suspicious.csv, the test clips of all machines, the most suspicious first

# Your own recordings are ranked in every run, with labels or without.
SUSPICIOUS = [RANKED] if settings.dataset.kind == "folder" else []


rule suspicious:
    """Rank the test clips of all machines."""
    input:
        scores=CHOSEN_CLIP_SCORES,
        # SHOWN is defined in report.smk.
        caches=lambda wildcards: [cache_path(settings.models[SHOWN].network, machine) for machine in settings.machines],
    output:
        table=RANKED,
    log:
        f"{RESULTS}/logs/suspicious.log",
    benchmark:
        f"{RESULTS}/benchmarks/suspicious.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/suspicious.py",
        code=code("suspicious"),
    shell:
        command("--scores {input.scores:q}", "--caches {input.caches:q}", "--out {output.table:q}")
