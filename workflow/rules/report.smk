# inputs:  what the other stages wrote
# outputs: results/figures/, results/report/index.html and all that the page needs beside it; on request single.html

REPORTED = [*settings.run_models, "ensemble"]
TITLES = [settings.models[name].title for name in settings.run_models] + ["Ensemble"]
GAUSSIAN = [name for name in settings.run_models if settings.models[name].detector == "gaussian"]
WINDOWED = [name for name in GAUSSIAN if settings.networks[settings.models[name].network].window]
MAPPED = [name for name in GAUSSIAN if name not in WINDOWED] or GAUSSIAN  # whole clips where there is a choice
SHOWN = (WINDOWED or settings.run_models)[0]  # whose log-mels are shown, those that its windows were cut from
FIGURES = [
    *(f"{kind}-{model}" for model in ("ensemble", *settings.run_models) for kind in ("roc", "scores")),
    *(["map"] if MAPPED else []),
    *("training", "spectra", "spectrograms"),
]
CLIPS = f"{RESULTS}/report/clips/{{machine}}"

# The features of the first of some models, as a list; an empty one where there is no such model.
MAP_FEATURES, WINDOW_FEATURES = (
    [FEATURES.format(network=settings.models[name].network, machine="{machine}") for name in models[:1]]
    for models in (MAPPED, WINDOWED)
)


rule figures:
    """Draw the figures of a machine, as SVG and PNG."""
    input:
        cache=cache_path(settings.models[SHOWN].network, "{machine}"),
        features=MAP_FEATURES,
        curves=curves_of,
        selection=rules.ensemble.output.selection,
        scores=expand(SCORES, model=REPORTED, allow_missing=True),
    output:
        svg=report(
            expand(f"{RESULTS}/figures/{{{{machine}}}}/{{name}}.svg", name=FIGURES),
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{machine}",
        ),
        png=expand(f"{RESULTS}/figures/{{{{machine}}}}/{{name}}.png", name=FIGURES),
    log:
        f"{RESULTS}/logs/figures/{{machine}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{machine}}.tsv"
    conda:
        ENVIRONMENT
    threads: settings.compute.threads
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=f"{SCRIPTS}/figures.py",
        code=code("figures"),
        features=lambda wildcards, input: f"--features {shlex.quote(input.features[0])}" if input.features else "",
        titles=TITLES,
        quantiles=[settings.models[name].threshold.quantile for name in settings.run_models],
        max_fpr=settings.metrics.max_fpr,
        threads=settings.compute.threads,
        out_dir=lambda wildcards, output: os.path.dirname(output.svg[0]),
    shell:
        "alone {log:q}; python {params.script}"
        " --cache {input.cache:q}"
        " {params.features}"
        " --curves {input.curves:q}"
        " --scores {input.scores:q}"
        " --titles {params.titles:q}"
        " --quantiles {params.quantiles}"
        " --selection {input.selection:q}"
        " --max-fpr {params.max_fpr}"
        " --threads {params.threads}"
        " --out-dir {params.out_dir:q}"
        " >{log:q} 2>&1"


rule clips:
    """Write what the report plays and shows of each test clip of a machine."""
    input:
        cache=cache_path(settings.models[SHOWN].network, "{machine}"),
        features=WINDOW_FEATURES,
        selection=rules.ensemble.output.selection,
        mvg=[MVG.format(model=name, machine="{machine}") for name in WINDOWED[:1]],
        scores=expand(SCORES, model=REPORTED, allow_missing=True),
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
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        script=f"{SCRIPTS}/clips.py",
        code=code("clips"),
        windows=lambda wildcards, input: (
            f"--features {shlex.quote(input.features[0])} --mvg {shlex.quote(input.mvg[0])}" if input.mvg else ""
        ),
        quantiles=[settings.models[name].threshold.quantile for name in settings.run_models],
        threads=settings.compute.threads,
    shell:
        "alone {log:q}; python {params.script}"
        " --cache {input.cache:q}"
        " {params.windows}"
        " --scores {input.scores:q}"
        " --quantiles {params.quantiles}"
        " --selection {input.selection:q}"
        " --threads {params.threads}"
        " --out-dir {output.clips:q}"
        " >{log:q} 2>&1"


rule report:
    """Write the page of the run."""
    input:
        metrics=rules.tables.output.metrics,
        selection=rules.ensemble.output.selection,
        versus=rules.compare_paper.output.versus,
        figures=expand(rules.figures.output.svg, machine=settings.machines),
        clips=expand(CLIPS, machine=settings.machines),
    output:
        page=f"{RESULTS}/report/index.html",
        overview=report(f"{RESULTS}/figures/overview.svg", caption="../report/overview.rst", category="Figures"),
        png=f"{RESULTS}/figures/overview.png",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=f"{SCRIPTS}/report.py",
        code=code("report"),
        template=contents_at_hand(*(f"workflow/report/page.{kind}" for kind in ("html", "css", "js"))),
        configuration=argument(settings.model_dump_json()),
        # The page says what the benchmark files that are there say; nothing is made again for their sake.
        benchmarks=[f"{RESULTS}/benchmarks", f"{DATA}/benchmarks", f"{settings.data_dir}/weights/benchmarks"],
        overview_dir=lambda wildcards, output: os.path.dirname(output.overview),
    shell:
        "alone {log:q}; python {params.script}"
        " --configuration {params.configuration:q}"
        " --metrics {input.metrics:q}"
        " --selection {input.selection:q}"
        " --versus {input.versus:q}"
        " --figures {input.figures:q}"
        " --clips {input.clips:q}"
        " --benchmarks {params.benchmarks:q}"
        ' --template "$WORKFLOW"/report/page.html'
        " --overview-dir {params.overview_dir:q}"
        " --out {output.page:q}"
        " >{log:q} 2>&1"


rule single:
    """Write the page as one file, with its figures, pictures and sounds inside."""
    input:
        page=rules.report.output.page,
        clips=rules.report.input.clips,
    output:
        page=f"{RESULTS}/report/single.html",
    log:
        f"{RESULTS}/logs/single.log",
    benchmark:
        f"{RESULTS}/benchmarks/single.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=f"{SCRIPTS}/single.py",
        code=code("single"),
    shell:
        "alone {log:q}; python {params.script} --page {input.page:q} --out {output.page:q} >{log:q} 2>&1"
