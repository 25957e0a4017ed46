"""Write the paper's tables of results from the scores.

Reads the score files of every model and machine, <anything>/<model>/<machine>.csv (the last two parts of a path say
which), and the ensemble's selection. Writes into <out-dir> {auc,pauc}_{total,source,target}.csv (development part,
percent) and metrics.csv, the long form: every figure of every model, machine, section and domain at full precision,
with bootstrap intervals. Prints the table of the total AUC.
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
    selection: Path,
    out_dir: Path,
    settings: Annotated[Metrics, tyro.conf.arg(name="")],
) -> None:
    """
    Args:
        scores: The score files of all models and machines.
        models: The models, in the order of the rows.
        titles: The rows' names, one a model.
        selection: The ensemble's choice (machine, model, …).
        out_dir: The folder of the tables.
    """
    import pandas as pd

    from asd import tables
    from asd.ensemble import read_scored
    from asd.errors import InputError
    from asd.files import written

    if len(titles) != len(models):
        raise InputError(f"--titles: one for each of {len(models)} models is needed; found {len(titles)}")
    read = read_scored(scores, models)
    chosen = tables.read_selection(selection, read)
    metrics = tables.long_form(read, dict(zip(models, titles, strict=True)), chosen, settings)
    with written(out_dir / "metrics.csv") as aside:
        metrics.to_csv(aside, index=False, lineterminator="\n")
    made = {}
    for name in tables.TABLES:
        made[name] = tables.published(tables.cells(metrics, name, settings.pauc_anomalies))
        tables.write_table(out_dir / f"{name}.csv", made[name])
    tables.name_empty(made)
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print("AUC (total), percent, development part\n")
        print(made["auc_total"].to_string(float_format="%.2f", na_rep=""))


if __name__ == "__main__":
    run(main, __doc__)
