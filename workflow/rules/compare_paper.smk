# inputs:  our six tables, and the paper's in resources/paper/
# outputs: results/tables/versus_paper.csv, ours beside the paper's; results/tables/paper_audit.csv, the paper's cells
#          recomputed from its other cells

VERSUS_PAPER = f"{RESULTS}/tables/versus_paper.csv"


rule compare_paper:
    """Put our tables beside the paper's, and check whether the paper's tables agree with themselves."""
    input:
        tables=TABLES,
    output:
        versus=VERSUS_PAPER,
        audit=f"{RESULTS}/tables/paper_audit.csv",
    log:
        f"{RESULTS}/logs/compare_paper.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_paper.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(10),
    params:
        script=f"{SCRIPTS}/compare_paper.py",
        code=code("compare_paper"),
        tables=lambda wildcards, input: os.path.dirname(input.tables[0]),
        paper=contents_at_hand(*(f"resources/paper/{os.path.basename(table)}" for table in TABLES)),
    shell:
        command(
            "--tables {params.tables:q}",
            '--paper "$WORKFLOW"/../resources/paper',
            "--versus {output.versus:q}",
            "--audit {output.audit:q}",
        )
