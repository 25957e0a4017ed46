"""The paper's tables of results.

A table has one row per model, one for "Our Best" (the maximum of each table by itself, as in the paper) and one for
"Ensemble" (one chosen model per machine, which is a system that one can run); one column per machine, and one for their
arithmetic mean, "Total (Ave.)". Cells are percentages; a cell that cannot be computed is empty.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from asd.errors import InputError
from asd.files import read_table, written
from asd.results import alarms
from asd.results.ensemble import Scores
from asd.results.metrics import arithmetic_mean, harmonic_mean, percent
from asd.results.metrics_table import ALL_CLIPS, ENSEMBLE, select

BEST, AVERAGE = "Our Best", "Total (Ave.)"
TABLES = tuple(f"{metric}_{domain}" for metric in ("auc", "pauc") for domain in ("total", "source", "target"))

ENSEMBLES = """\
Ensemble, in sample: each machine's model is chosen by the labels of the clips on which it is then judged,
as in the paper, so its figures are too high. Cross-fitted: the model is chosen on one half of the clips and
judged on the other, over many halvings. Without an interval: all resamples give the same value."""

log = logging.getLogger(__name__)


def cells(metrics: pd.DataFrame, table: str, reading: str = "both", selection: str = "in_sample") -> pd.DataFrame:
    """Return the machines' values of one table.

    Args:
        metrics: the table `asd.results.metrics_table`.
        table: an entry of `TABLES`.
        reading: whether the pAUC of a domain uses the anomalies of both domains or of its own: both or own.
        selection: in_sample or cross_fitted, for the ensemble.

    Returns:
        One row per model (title) and one for the ensemble, one column per machine; values are fractions.
    """
    metric, domain = table.split("_")
    rows = select(metrics, f"pauc_{reading}" if metric == "pauc" else metric, domain)
    rows = rows[(rows["machine"] != "") & rows["selection"].isin(("", selection))]
    wide = rows.pivot(index="title", columns="machine", values="value")
    return wide.loc[rows["title"].unique(), rows["machine"].unique()]


def total(source: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of a "Total" table: the harmonic mean of the two domains; empty if one of them is."""
    pair = np.stack([source.to_numpy(float), target.reindex_like(source).to_numpy(float)])
    mean = np.where(np.isnan(pair).any(axis=0), np.nan, harmonic_mean(pair))
    return pd.DataFrame(mean, index=source.index, columns=source.columns)


def best(models: pd.DataFrame) -> pd.Series:
    """Return "Our Best": the highest of the models' values in each column."""
    return models.max(axis=0).rename(BEST)


def average(table: pd.DataFrame) -> pd.Series:
    """Return "Total (Ave.)": the arithmetic mean over the machines that have a value."""
    return pd.Series(arithmetic_mean(table.to_numpy(float), axis=1), index=table.index, name=AVERAGE)


def published(cells: pd.DataFrame) -> pd.DataFrame:
    """A table as the paper prints it, in percent: the models, Our Best, the ensemble, and the average column."""
    models, ensemble = cells.drop(index=ENSEMBLE), cells.loc[[ENSEMBLE]]
    table = 100 * pd.concat([models, best(models).to_frame().T, ensemble])
    table.index.name, table.columns.name = "Model", None
    alike = len({column.endswith(ALL_CLIPS) for column in table.columns}) == 1
    return table.assign(**{AVERAGE: average(table) if alike else np.nan})


def write_percentages(path: Path, table: pd.DataFrame) -> None:
    """Write a table in percent with two decimals; empty cells for what is undefined."""
    with written(path) as aside:
        table.to_csv(aside, float_format=lambda value: percent(value / 100, 2), na_rep="", lineterminator="\n")


def read_percentages(path: Path) -> pd.DataFrame:
    """Read a table in percent, with the models as index.

    Raises:
        InputError: it is not a table with the column Model first.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a title or machine may be called 1 or NA
        if table.columns[0] != "Model":
            raise InputError(f"{path}: the first column must be Model; found {table.columns[0]}")
        return table.set_index("Model").replace("", "nan").astype(float)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table of percentages ({error})") from None


def read_selection(path: Path, scores: Scores) -> pd.DataFrame:
    """Read the ensemble's choice.

    Raises:
        InputError: the file does not name one of the models for each of the machines.
    """
    table = read_table(path, ["machine", "model"])
    machines = list(next(iter(scores.values())))
    if sorted(table["machine"]) != sorted(machines) or not set(table["model"]) <= set(scores):
        raise InputError(
            f"{path}: one of the models {', '.join(scores)} is needed for each of the machines {', '.join(machines)}; "
            f"found {', '.join(table['machine'] + ': ' + table['model'])}. Run the ensemble on the same scores."
        )
    return table


def name_empty(made: dict[str, pd.DataFrame]) -> None:
    """Log which cells of the tables are empty, and the machines of each average that is not over all machines."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for name, table in made.items():
        values = table.drop(columns=AVERAGE)
        same: dict[tuple[bool, ...], list[str]] = {}
        for title, row in values.iterrows():
            same.setdefault(tuple(row.isna()), []).append(str(title))
        for missing, titles in same.items():
            if any(missing):
                empty, rest = ", ".join(values.columns[[*missing]]), ", ".join(values.columns[~np.array(missing)])
                who = ", ".join(titles) if len(same) > 1 else "every row"
                said.setdefault((who, empty, rest or "nothing"), []).append(name)
    for (who, empty, rest), names in said.items():
        log.warning("%s, %s: empty for %s; %s is over %s", ", ".join(names), who, empty, AVERAGE, rest)


# --- to be read ---------------------------------------------------------------------------------------------


def with_intervals(metrics: pd.DataFrame, metric: str, domain: str) -> pd.DataFrame:
    """Return a figure of every model and machine with its interval, as text in percent: "81.4 (78.2-84.3)".

    Args:
        metrics: the table `asd.results.metrics_table`.
        metric: of the figure.
        domain: of the figure.

    Returns:
        One row per model, two for the ensemble (in sample, cross-fitted); one column per machine, and their average.
    """
    rows = select(metrics, metric, domain)

    def text(row: pd.Series) -> str:
        if np.isnan(row["value"]):
            return ""
        ends = "" if np.isnan(row["low"]) else f" ({percent(row['low'])}-{percent(row['high'])})"
        return percent(row["value"]) + ends

    suffix = rows["selection"].map({"": "", "in_sample": ", in sample", "cross_fitted": ", cross-fitted"})
    named = rows.assign(
        Model=rows["title"] + suffix,
        machine=rows["machine"].replace("", AVERAGE),
        text=rows.apply(text, axis=1) if len(rows) else "",
    )
    wide = named.pivot(index="Model", columns="machine", values="text").fillna("").rename_axis(columns=None)
    return wide.loc[named["Model"].unique(), named["machine"].unique()]


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts in Markdown with aligned columns."""
    cells = [list(table.reset_index().columns), *table.reset_index().to_numpy().tolist()]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    )


def page(metrics: pd.DataFrame, decided: pd.DataFrame, level: float, reading: str = "both") -> str:
    """Return the most important figures with their intervals, in Markdown.

    Args:
        metrics: the table `asd.results.metrics_table`.
        decided: of `asd.results.alarms.alarms`.
        level: coverage of the intervals.
        reading: of the pAUC, see `cells`.
    """
    names = {
        ("auc", "total"): "AUC, harmonic mean of source and target",
        (f"pauc_{reading}", "total"): "pAUC, harmonic mean of source and target",
        ("omega", "all"): "Official score of each machine (harmonic mean of AUC source, AUC target and pAUC)",
    }
    parts, missing = [], []
    for (metric, domain), title in names.items():
        table = with_intervals(metrics, metric, domain)
        if (table == "").all(axis=None):
            missing.append(title)
            continue
        whole = [column.endswith(ALL_CLIPS) for column in table.columns if column != AVERAGE]
        if all(whole):
            title = f"{title.partition(',')[0]} of all clips"
        elif any(whole):
            title += ", or of all clips if the column says so"
        parts.append(
            f"**{title}**, percent, development part, with {100 * level:g} % bootstrap intervals\n\n" + markdown(table)
        )
    if missing:
        parts.append("Not computed, since labels or domains are missing: " + "; ".join(missing) + ".")
    if len(missing) < len(names):
        parts.append(ENSEMBLES)
    for machine, table in alarms.text(decided).items():
        parts.append(
            f"**{machine}: found anomalies / false alarms**, percent of the anomalous / normal test clips, with "
            f"{100 * level:g} % intervals; columns are sections\n\n" + markdown(table)
        )
    return "\n\n".join(parts) + "\n"
