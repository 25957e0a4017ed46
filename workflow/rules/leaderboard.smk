# inputs:  the scores of every model and machine; their log-mel caches, networks and fitted detectors, for their size;
#          the folders of leaderboard.submissions
# outputs: results/leaderboard/index.html, and beside it the tables and figures of each part that has labels. Which parts
#          these are is known only from the recordings

STRANGERS = settings.leaderboard.submissions
TRUTH = settings.dataset.published.ground_truth
for name, folder in STRANGERS.items():
    if not os.path.isdir(folder):
        raise WorkflowError(f"leaderboard.submissions: {name}: {folder}: no such folder; expected one of score files")


rule leaderboard:
    """Rank the models and the submissions."""
    input:
        scores=ALL_SCORES,
        caches=rules.submission.input.caches,
        networks=rules.submission.input.networks,
        fitted=rules.submission.input.fitted,
    output:
        page=f"{RESULTS}/leaderboard/index.html",
    log:
        f"{RESULTS}/logs/leaderboard.log",
    benchmark:
        f"{RESULTS}/benchmarks/leaderboard.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/leaderboard.py",
        code=code("leaderboard"),
        files=contents_at_hand(
            "workflow/report/leaderboard.html", "workflow/report/page.css", "resources/published/figures.csv"
        ),
        strangers=contents(
            [
                path
                for folder in filter(None, [*STRANGERS.values(), TRUTH])
                for path in sorted(Path(folder).rglob("*.csv"))
            ],
            Path(".snakemake/contents.json"),
        ),
        configuration=lambda wildcards: argument(
            settings.model_dump_json(
                include={"machines", "networks", "spectra", *DETECTORS.values(), "models", "run_models", "variants"}
            )
        ),
        benchmarks=lambda wildcards: argument(json.dumps({name: benchmarks_of(name) for name in settings.run_models})),
        submissions=words("--submissions", [word for pair in STRANGERS.items() for word in pair]),
        chosen_by_labels=words(
            "--chosen-by-labels", [word for pair in settings.leaderboard.chosen_by_labels.items() for word in pair]
        ),
        ground_truth=words("--ground-truth", [TRUTH] if TRUTH else []),
        kind=settings.dataset.kind,
        settings=flags(settings.metrics),
    shell:
        command(
            "--configuration {params.configuration:q}",
            "--scores {input.scores:q}",
            "--caches {input.caches:q}",
            "--networks {input.networks:q}",
            "--fitted {input.fitted:q}",
            "--benchmarks {params.benchmarks:q}",
            "{params.submissions}",
            "{params.chosen_by_labels}",
            "{params.ground_truth}",
            "--kind {params.kind}",
            "{params.settings}",
            "--out {output.page:q}",
        )
