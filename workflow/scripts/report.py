"""Write the report: a page that opens from disk, without a network.

Reads  the tables (metrics.csv, the ensemble's selection and, if it exists, the comparison with the paper), the figures
       <anything>/<machine>/<name>.svg, the machines' folders of clips, and the benchmark files that exist.
Writes the page, its figures in figures/<machine>/ beside it, and the overview of all machines as SVG and PNG. The
       folders of clips must lie in the page's folder, so that this folder holds everything that the page needs.
"""

from pathlib import Path

from asd import command


def main(
    *,
    configuration: str,
    metrics: Path,
    selection: Path,
    versus: Path | None = None,
    figures: list[Path],
    clips: list[Path],
    benchmarks: list[Path],
    template: Path,
    overview_dir: Path,
    out: Path,
) -> None:
    """Write the report.

    Args:
        configuration: the effective configuration, as JSON.
        metrics: the long form of all figures.
        selection: the ensemble's choice.
        versus: our tables beside the paper's, as compare_paper.py writes them.
        figures: figures of the machines (SVG).
        clips: one folder of clips per machine.
        benchmarks: folders of benchmark files; missing ones are left out.
        template: the template of the page (Jinja2).
        overview_dir: the folder of the overview's figure.
        out: the page to write.
    """
    import os
    import shutil

    import yaml

    from asd.files import read_table, written
    from asd.report import figures as drawing
    from asd.report import page
    from asd.results.long_form import NUMBERS
    from asd.settings import Settings

    settings = Settings.model_validate_json(configuration)
    titles = {name: settings.models[name].title for name in settings.run_models}
    table = read_table(metrics, NUMBERS)
    tables = page.result_tables(table, settings.metrics.pauc_anomalies)
    panels = {"AUC": ("auc", "total"), "pAUC": (f"pauc_{settings.metrics.pauc_anomalies}", "total")}
    drawing.save(drawing.overview(table, panels), overview_dir, "overview")

    machines = [page.read_clips(folder) for folder in clips]
    for one, folder in zip(machines, clips, strict=True):
        one["folder"] = Path(os.path.relpath(folder, out.parent)).as_posix()
    shown: dict[str, list[dict]] = {one["machine"]: [] for one in machines}
    for path in [overview_dir / "overview.svg", *figures]:
        copy = out.parent / "figures" / path.relative_to(overview_dir)
        with written(copy) as aside:
            shutil.copyfile(path, aside)
        if path.parent != overview_dir:
            figure = page.figure_of(path, titles | {"ensemble": "Ensemble"})
            figure["src"] = copy.relative_to(out.parent).as_posix()
            figure["svg"] = page.inlined(path.read_text(encoding="utf-8")) if figure["kind"] == "map" else ""
            shown[figure["machine"]].append(figure)
    page.write_page(
        out,
        template,
        settings=settings,
        titles=titles | {"ensemble": "Ensemble"},
        tables=tables,
        choices=page.choices(read_table(selection), titles, tables),
        versus=page.beside_paper(read_table(versus, ("ours", "paper"))) if versus else [],
        machines=machines,
        figures=shown,
        configuration=yaml.safe_dump(settings.model_dump(), sort_keys=False, allow_unicode=True),
        versions=page.versions(),
        seeds=page.seeds(settings),
        stages=page.stages(benchmarks),
    )


if __name__ == "__main__":
    command.run(main, __doc__)
