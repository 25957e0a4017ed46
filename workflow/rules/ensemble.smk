# inputs:  the scores of the models that the ensemble chooses from (paper_models), and of the fallback
# outputs: results/ensemble/selection.csv, results/scores/ensemble/<machine>.csv; if recordings are cut into clips, also
#          results/clip_scores/ensemble/<machine>.csv

ALL_SCORES = expand(SCORES, model=settings.run_models, machine=settings.machines)
CHOSEN_SCORES = expand(SCORES, model="ensemble", machine=settings.machines)
CHOSEN_CLIP_SCORES = expand(CLIP_SCORES, model="ensemble", machine=settings.machines)
CANDIDATES = list(dict.fromkeys([*settings.chosen_from, settings.fallback]))


rule ensemble:
    """Choose a model for each machine, and copy its scores."""
    input:
        scores=expand(SCORES, model=CANDIDATES, machine=settings.machines),
        clip_scores=expand(CLIP_SCORES, model=CANDIDATES, machine=settings.machines) if CLIP_SCORES != SCORES else [],
    output:
        selection=SELECTION,
        scores=CHOSEN_SCORES,
        clip_scores=CHOSEN_CLIP_SCORES if CLIP_SCORES != SCORES else [],
    log:
        f"{RESULTS}/logs/ensemble.log",
    benchmark:
        f"{RESULTS}/benchmarks/ensemble.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/ensemble.py",
        code=code("ensemble"),
        models=settings.chosen_from,
        fallback=settings.fallback,
        clip_scores=lambda wildcards, input: words("--clip-scores", input.clip_scores),
        out_dir=lambda wildcards, output: list(
            dict.fromkeys(map(os.path.dirname, [*output.scores, *output.clip_scores]))
        ),
    shell:
        command(
            "--scores {input.scores:q}",
            "{params.clip_scores}",
            "--models {params.models:q}",
            "--fallback {params.fallback:q}",
            "--selection {output.selection:q}",
            "--out-dir {params.out_dir:q}",
        )
