"""Write the paper's tables of results from the scores.

Reads  the score files of every model and machine, <anything>/<model>/<machine>.csv (the last two parts of a path are
       the names of model and machine), and the ensemble's selection.
Writes into <out-dir> {auc,pauc}_{total,source,target}.csv (development part, percent); metrics.csv, every figure of
       every model, machine, section and domain with its interval (asd/results/metrics_table.py explains its columns);
       comparison.csv, pairs of models on the same clips; and summary.md, which it prints.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd.command import run
from asd.settings import Metrics


def main(
    *,
    scores: list[Path],
    models: list[str],
    titles: list[str],
    paper_models: list[str],
    selection: Path,
    out_dir: Path,
    settings: Annotated[Metrics, tyro.conf.arg(name="")],
) -> None:
    """Write the tables.

    Args:
        scores: The score files of all models and machines.
        models: The models, in the order of the rows.
        titles: The names of the rows, one per model.
        paper_models: The rows of the six tables, from which the ensemble chose.
        selection: The ensemble's choice (machine, model, …).
        out_dir: The folder of the tables.
        settings: How figures are computed from scores.
    """
    import pandas as pd

    from asd.errors import InputError
    from asd.files import write_table, written
    from asd.results import long_form, tables
    from asd.results.alarms import alarms
    from asd.results.ensemble import read_scored
    from asd.results.metrics_table import ENSEMBLE

    if len(titles) != len(models):
        raise InputError(f"--titles: one for each of {len(models)} models is needed; found {len(titles)}")
    read = read_scored(scores, models)
    named = dict(zip(models, titles, strict=True))
    chosen = tables.read_selection(selection, read)
    figures = long_form.system_figures(read, settings)
    halves = long_form.half_figures({name: read[name] for name in paper_models}, settings)
    metrics = long_form.long_form(figures, halves, named, chosen, settings)
    decided = alarms(read, named, settings.level)
    pairs = long_form.comparison(figures["development"], named, settings)
    for name, table in (("metrics", pd.concat([metrics, decided])), ("comparison", pairs)):
        write_table(out_dir / f"{name}.csv", table)
    rows = [*(named[name] for name in paper_models), ENSEMBLE]
    made = {
        name: tables.published(tables.cells(metrics, name, settings.pauc_anomalies).loc[rows]) for name in tables.TABLES
    }
    for name, table in made.items():
        tables.write_percentages(out_dir / f"{name}.csv", table)
    tables.name_empty(made)
    page = tables.page(metrics, decided, settings.level, settings.pauc_anomalies)
    with written(out_dir / "summary.md") as aside:
        aside.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    run(main, __doc__)
