# inputs:  what the other stages wrote
# outputs: results/figures/, results/report/index.html and the files that the page needs; on request single.html

REPORTED = [*settings.run_models, "ensemble"]
# The models with features of a network: those of windows (their scores over time are drawn) and of whole clips (they
# are mapped).
ON_NETWORKS = [name for name in SCORED if settings.models[name].fitted and settings.models[name].network]
WINDOWED = [name for name in ON_NETWORKS if settings.networks[settings.models[name].network].windows.window]
MAPPED = [name for name in ON_NETWORKS if name not in WINDOWED] or ON_NETWORKS
MAPPED = [name for name in MAPPED if settings.models[name].network in TRAINED_NETWORKS] or MAPPED
SHOWN = (WINDOWED or settings.run_models)[0]  # the model whose log-mels are shown
# A model of spectra, for the share of each band, which is drawn beside the log-mels from which it was computed.
SPECTRAL = [
    name
    for name in SCORED
    if (one := settings.models[name]).spectrum
    and settings.models[SHOWN].network
    in ("", *(n for n, b in settings.networks.items() if b.logmel == settings.logmel))
    and one.detector == "gaussian"
    and "level" not in settings.spectra[one.spectrum].pool
]
FIGURES = f"{RESULTS}/figures/machines/{{machine}}"
CLIPS = f"{RESULTS}/report/clips/{{machine}}"

# A list with the features of the first model; it is empty if there is no such model.
MAP_FEATURES, WINDOW_FEATURES = (
    [features_path(name, "{machine}") for name in models[:1]] for models in (MAPPED, WINDOWED)
)


rule figures:
    """Draw the figures of a machine, as SVG and PNG."""
    input:
        cache=cache_path(settings.models[SHOWN].network, "{machine}"),
        features=MAP_FEATURES,
        curves=curves_of,
        scores=expand(SCORES, model=REPORTED, allow_missing=True),
        clip_scores=expand(CLIP_SCORES, model="ensemble", allow_missing=True),
    output:
        # The folder, since some clips lack what a figure needs: without labels, for example, there is no ROC curve.
        figures=report(
            directory(FIGURES),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{machine}",
        ),
    log:
        f"{RESULTS}/logs/figures/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/figures.py",
        code=code("figures"),
        features=lambda wildcards, input: f"--features {shlex.quote(input.features[0])}" if input.features else "",
        max_fpr=settings.metrics.max_fpr,
        threads=settings.compute.threads,
    shell:
        command(
            "--cache {input.cache:q}",
            "{params.features}",
            "--curves {input.curves:q}",
            "--scores {input.scores:q}",
            "--clip-scores {input.clip_scores:q}",
            "--max-fpr {params.max_fpr}",
            "--threads {params.threads}",
            "--out-dir {output.figures:q}",
        )


rule clips:
    """Write the sounds and pictures of a machine's test clips for the report."""
    input:
        cache=cache_path(settings.models[SHOWN].network, "{machine}"),
        features=WINDOW_FEATURES,
        selection=SELECTION,
        fitted=[fitted_path(name, "{machine}") for name in WINDOWED[:1]],
        spectra=[features_path(name, "{machine}") for name in SPECTRAL[:1]],
        spectra_fitted=[fitted_path(name, "{machine}") for name in SPECTRAL[:1]],
        scores=expand(CLIP_SCORES, model=REPORTED, allow_missing=True),
    output:
        clips=directory(CLIPS),
    log:
        f"{RESULTS}/logs/clips/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/clips/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(60),
    params:
        script=f"{SCRIPTS}/clips.py",
        code=code("clips"),
        spectra=lambda wildcards, input: (
            f"--spectra {shlex.quote(input.spectra[0])} --spectra-fitted {shlex.quote(input.spectra_fitted[0])}"
            if input.spectra
            else ""
        ),
        windows=lambda wildcards, input: (
            f"--features {shlex.quote(input.features[0])} --fitted {shlex.quote(input.fitted[0])}"
            if input.fitted
            else ""
        ),
        threads=settings.compute.threads,
    shell:
        command(
            "--cache {input.cache:q}",
            "{params.windows}",
            "{params.spectra}",
            "--scores {input.scores:q}",
            "--threads {params.threads}",
            "--out-dir {output.clips:q}",
        )


rule report:
    """Write the page of the run."""
    input:
        metrics=METRICS,
        selection=SELECTION,
        suspicious=RANKED,
        scores=CHOSEN_SCORES,
        versus=[VERSUS_PAPER] if settings.dataset.kind == "dcase2022" else [],
        figures=expand(FIGURES, machine=settings.machines),
        clips=expand(CLIPS, machine=settings.machines),
    output:
        page=PAGE,
        verdict=f"{RESULTS}/report/verdict.rst",
        models=report(
            directory(f"{RESULTS}/figures/models"),
            patterns=["{name}.svg"],
            caption="../report/models.rst",
            category="Figures",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/report.py",
        code=code("report"),
        template=contents_at_hand(*(f"workflow/report/page.{kind}" for kind in ("html", "css", "js"))),
        configuration=argument(settings.model_dump_json()),
        # Not inputs: the page shows the benchmark files that exist, but does not depend on them.
        benchmarks=[f"{RESULTS}/benchmarks", f"{DATA}/benchmarks", f"{settings.data_dir}/weights/benchmarks"],
        versus=lambda wildcards, input: f"--versus {shlex.quote(input.versus[0])}" if input.versus else "",
    shell:
        command(
            "--configuration {params.configuration:q}",
            "--metrics {input.metrics:q}",
            "--selection {input.selection:q}",
            "--suspicious {input.suspicious:q}",
            "{params.versus}",
            "--scores {input.scores:q}",
            "--figures {input.figures:q}",
            "--clips {input.clips:q}",
            "--benchmarks {params.benchmarks:q}",
            '--template "$WORKFLOW"/report/page.html',
            "--models-dir {output.models:q}",
            "--out {output.page:q}",
        )


rule single:
    """Write the page as one file that contains its figures, pictures and sounds."""
    input:
        page=PAGE,
        clips=rules.report.input.clips,
    output:
        page=f"{RESULTS}/report/single.html",
    log:
        f"{RESULTS}/logs/single.log",
    benchmark:
        f"{RESULTS}/benchmarks/single.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(30),
    params:
        script=f"{SCRIPTS}/single.py",
        code=code("single"),
    shell:
        command("--page {input.page:q}", "--out {output.page:q}")
