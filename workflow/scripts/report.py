"""Write the report: a page that opens from disk, without a network.

Reads  the tables (metrics.csv, the ensemble's selection, suspicious.csv and, if it exists, the comparison with the
       paper), the folders of figures and of clips of each machine, and the benchmark files that exist.
Writes the page, its figures in figures/ and the verdict as text (verdict.rst) beside it, and a figure per machine that
       compares the models, as SVG and PNG. The folders of clips must lie in the page's folder, so that this folder
       holds everything that the page needs.
"""

from pathlib import Path

from asd import command


def main(
    *,
    configuration: str,
    metrics: Path,
    selection: Path,
    suspicious: Path,
    versus: Path | None = None,
    scores: list[Path],
    figures: list[Path],
    clips: list[Path],
    benchmarks: list[Path],
    template: Path,
    models_dir: Path,
    out: Path,
) -> None:
    """Write the report.

    Args:
        configuration: the effective configuration, as JSON.
        metrics: the table metrics.csv, with all figures.
        selection: the ensemble's choice.
        suspicious: the ranking of the test clips, with its remarks.
        versus: our tables beside the paper's, as compare_paper.py writes them.
        scores: the ensemble's scores of each machine, in the order of the figures; of recordings, if these were cut.
        figures: one folder of figures per machine.
        clips: one folder of clips per machine.
        benchmarks: folders of benchmark files; missing ones are left out.
        template: the template of the page (Jinja2).
        models_dir: the folder of the figures that compare the models.
        out: the page to write.
    """
    import os
    import shutil

    import yaml

    from asd.files import read_table, written
    from asd.report import page, style
    from asd.report.machine_figures import model_figures
    from asd.results import alarms
    from asd.results.metrics_table import read_metrics
    from asd.scores import read_scores
    from asd.settings import Settings
    from asd.threshold import FEWEST

    settings = Settings.model_validate_json(configuration)
    titles = {name: settings.models[name].title for name in settings.run_models}
    table = read_metrics(metrics)
    chosen = read_table(selection)
    machines = [page.read_clips(folder) for folder in clips]
    for one, folder in zip(machines, clips, strict=True):
        one["folder"] = Path(os.path.relpath(folder, out.parent)).as_posix()

    untrained = page.untrained(settings)
    drawn = dict(model_figures(page.systems(table, settings.metrics.pauc_anomalies), untrained))
    models_dir.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        style.save(figure, models_dir, name)
    shutil.rmtree(out.parent / "figures", ignore_errors=True)
    rates = alarms.text(table[table["metric"].isin(alarms.RATES)])
    verdicts = page.verdicts({path.stem: read_scores(path) for path in scores}, chosen, table, titles)
    with written(out.with_name("verdict.rst")) as aside:
        aside.write_text(page.verdict_text(verdicts), encoding="utf-8")
    page.write_page(
        out,
        template,
        settings=settings,
        titles={"ensemble": "Ensemble", **titles},
        untrained=untrained,
        verdicts=verdicts,
        rates={machine: own[[alarms.EVERY, *own.columns.drop(alarms.EVERY)]] for machine, own in rates.items()},
        fewest=FEWEST,
        remarks=page.remarks(read_table(suspicious)),
        tables=page.result_tables(table, settings.metrics.pauc_anomalies),
        versus=page.beside_paper(read_table(versus, numbers=("ours", "paper"))) if versus else [],
        machines=machines,
        compared=[page.shown(out, models_dir / f"{name}.svg", "models", name, "models", titles) for name in drawn],
        figures={
            folder.name: [
                page.shown(out, path, f"machines/{folder.name}", folder.name, path.stem, titles)
                for path in sorted(folder.glob("*.svg"))
            ]
            for folder in figures
        },
        configuration=yaml.safe_dump(settings.model_dump(), sort_keys=False, allow_unicode=True),
        versions=page.versions(),
        seeds=page.seeds(settings),
        stages=page.stages(benchmarks),
    )


if __name__ == "__main__":
    command.run(main, __doc__)
