# inputs:  the ensemble's scores of all machines
# outputs: results/tables/suspicious.csv, the test clips of all machines, the most suspicious first

# A folder of one's own is asked what is suspicious in it, whether there are labels or not.
SUSPICIOUS = [f"{RESULTS}/tables/suspicious.csv"] if settings.dataset.kind == "folder" else []


rule suspicious:
    """Rank the test clips of all machines."""
    input:
        scores=rules.ensemble.output.scores,
    output:
        table=f"{RESULTS}/tables/suspicious.csv",
    log:
        f"{RESULTS}/logs/suspicious.log",
    benchmark:
        f"{RESULTS}/benchmarks/suspicious.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=f"{SCRIPTS}/suspicious.py",
        code=code("suspicious"),
    shell:
        "alone {log:q}; python {params.script}" " --scores {input.scores:q}" " --out {output.table:q}" " >{log:q} 2>&1"
