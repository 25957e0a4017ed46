# Anomalous sound detection, from recordings to tables, report and detectors. See README.md.
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


configfile: f"{workflow.current_basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/terminal.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/check_corpus.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/logmel.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/ensemble.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/suspicious.smk"
include: "workflow/rules/compare_paper.smk"
include: "workflow/rules/submission.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/detector.smk"
include: "workflow/rules/leaderboard.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        TABLES,
        SWEPT,
        SUSPICIOUS,
        PROVENANCE,
        PAGE,
        [VERSUS_PAPER] if settings.dataset.kind == "dcase2022" else [],


onsuccess:
    print(finished())
