"""The paper's tables of results, and the long form behind them.

A table has a row for each model, for "Our Best" (the maximum of each table by itself, as the paper prints it) and
for "Ensemble" (one chosen model a machine: the system that one can run); a column for each machine, and their
arithmetic mean, "Total (Ave.)". Cells are percentages; a cell that cannot be computed is empty.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asd.ensemble import Scores, cross_fitted, same_clips
from asd.errors import InputError
from asd.files import written
from asd.metrics import (
    FIGURES,
    RANKED,
    TOTALS,
    Figures,
    arithmetic_mean,
    harmonic_mean,
    joined,
    judged,
    lacking,
    machine_figures,
    mean_figures,
    sections,
    totals,
)

if TYPE_CHECKING:
    from asd.settings import Metrics

BEST, ENSEMBLE, AVERAGE = "Our Best", "Ensemble", "Total (Ave.)"
TABLES = tuple(f"{metric}_{domain}" for metric in ("auc", "pauc") for domain in ("total", "source", "target"))
COLUMNS = ("model", "title", "machine", "part", "section", "domain", "metric", "value")
COLUMNS += ("low", "high", "mean", "over", "selection")
"""The long form. A row is a section's figure, or a mean of such: `mean` harmonic or arithmetic with an empty section
(over a machine's sections) or an empty machine as well (over all machines' sections), or machines (the arithmetic
mean over machines of their harmonic means); `over` names what the mean is over. low, high: the bootstrap interval.
selection, of the ensemble's rows: in_sample (chosen by the labels that judge it) or cross_fitted."""

log = logging.getLogger(__name__)


def long_form(scores: Scores, titles: dict[str, str], selection: pd.DataFrame, settings: "Metrics") -> pd.DataFrame:
    """Every figure of every model and of the ensemble, for each part of the corpus with labels.

    Args:
        scores: a row a clip, as `asd.scores` reads them; the same clips for each model.
        titles: the rows' names by model.
        selection: `machine` and `model`, one row a machine (`asd.ensemble.selection`).

    Returns:
        The columns `COLUMNS`, values as fractions at full precision.

    Raises:
        InputError: two models' scores of a machine are not of the same clips.
    """
    same_clips(scores)
    parts = [
        part
        for part in ("development", "additional", "evaluation")
        if any(len(sections(judged(clips, part))) for machines in scores.values() for clips in machines.values())
    ] or ["development"]
    return pd.concat([_part(scores, titles, selection, settings, part) for part in parts], ignore_index=True)


def _part(
    scores: Scores, titles: dict[str, str], selection: pd.DataFrame, settings: "Metrics", part: str
) -> pd.DataFrame:
    machines = list(next(iter(scores.values())))
    models = {
        model: {
            machine: machine_figures(
                machine, judged(clips, part), settings.max_fpr, resamples=settings.resamples, seed=settings.seed
            )
            for machine, clips in by_machine.items()
        }
        for model, by_machine in scores.items()
    }
    _name_undefined(next(iter(scores.values())), part)
    chosen = dict(zip(selection["machine"], selection["model"], strict=True))
    frames = []
    for model, by_machine in models.items():
        frames.append(_rows(joined(by_machine.values()), machines, settings).assign(model=model, title=titles[model]))
    ensemble = joined(models[chosen[machine]][machine] for machine in machines)
    frames.append(_rows(ensemble, machines, settings).assign(model="ensemble", title=ENSEMBLE, selection="in_sample"))
    if settings.splits and part == "development":
        unseen = joined(
            cross_fitted(
                machine,
                {model: judged(scores[model][machine], part) for model in scores},
                fallback=chosen[machine],
                splits=settings.splits,
                max_fpr=settings.max_fpr,
                seed=settings.seed,
            )
            for machine in machines
        )
        frames.append(
            _rows(unseen, machines, settings, averaged=True).assign(
                model="ensemble", title=ENSEMBLE, selection="cross_fitted"
            )
        )
    table = pd.concat([frame.assign(part=part) for frame in frames], ignore_index=True)
    return table.reindex(columns=COLUMNS).fillna({"selection": ""})


def _name_undefined(scores: dict[str, pd.DataFrame], part: str) -> None:
    for machine, clips in scores.items():
        labelled = sections(judged(clips, part))
        if not labelled:
            log.warning("%s, %s: no labelled test clips; its figures are undefined (empty cells)", machine, part)
        for section, here in labelled.items():
            if missing := lacking(here):
                log.warning(
                    "%s, section %s, %s: no %s; figures that need them are undefined and left out of every mean",
                    machine, section, part, ", no ".join(missing),
                )  # fmt: skip


def _rows(figures: Figures, machines: list[str], settings: "Metrics", averaged: bool = False) -> pd.DataFrame:
    """The long form of one system; `averaged`: a value is the mean over all weightings, without an interval."""
    frames = []
    for row, (machine, section) in enumerate(figures.sections):
        own = np.concatenate([figures.values[row], totals(figures.values[row])])
        frames.append(_summary(own, settings, averaged).assign(machine=machine, section=section, mean="", over=""))
    for machine in machines:
        own = figures.of(machine)
        for mean in ("harmonic", "arithmetic"):
            means = _summary(mean_figures(own, mean), settings, averaged)
            frames.append(means.assign(machine=machine, section="", mean=mean, over=_over(own, lambda key: key[1])))
    for mean in ("harmonic", "arithmetic", "machines"):
        means = _summary(mean_figures(figures, mean), settings, averaged) if figures.sections else None
        if means is not None:
            over = _over(figures, (lambda key: key[0]) if mean == "machines" else "/".join)
            frames.append(means.assign(machine="", section="", mean=mean, over=over))
    return pd.concat(frames, ignore_index=True)


def _summary(values: np.ndarray, settings: "Metrics", averaged: bool) -> pd.DataFrame:
    """Value and interval of (figures + totals, weightings)."""
    keys = FIGURES + TOTALS
    frame = pd.DataFrame({"metric": [metric for metric, _ in keys], "domain": [domain for _, domain in keys]})
    if averaged:
        return frame.assign(value=values.mean(axis=1), low=np.nan, high=np.nan)
    low = high = np.full(len(keys), np.nan)
    if values.shape[1] > 1:
        tail = (1 - settings.level) / 2
        ranked = np.array([key in RANKED + TOTALS for key in keys])
        low, high = np.where(ranked, np.quantile(values[:, 1:], [tail, 1 - tail], axis=1), np.nan)
    return frame.assign(value=values[:, 0], low=low, high=high)


def _over(figures: Figures, name) -> list[str]:
    """For each figure and total, what its mean is over."""
    defined = ~np.isnan(figures.values[:, :, 0])
    either = [
        defined[:, FIGURES.index((metric, "source"))] | defined[:, FIGURES.index((metric, "target"))]
        for metric, _ in TOTALS
    ]
    columns = [*defined.T, *either]
    return [
        " ".join(dict.fromkeys(name(key) for key, here in zip(figures.sections, column, strict=True) if here))
        for column in columns
    ]


# --- the tables ---------------------------------------------------------------------------------------------


def cells(metrics: pd.DataFrame, table: str, reading: str = "both", selection: str = "in_sample") -> pd.DataFrame:
    """The machines' values of one table.

    Args:
        metrics: the long form.
        table: an entry of `TABLES`.
        reading: which anomalies enter the pAUC of a domain: both or own.

    Returns:
        A row a model (title) and one for the ensemble, a column a machine, values as fractions.
    """
    metric, domain = table.split("_")
    metric = f"pauc_{reading}" if metric == "pauc" else metric
    rows = metrics[
        (metrics["metric"] == metric)
        & (metrics["domain"] == domain)
        & (metrics["part"] == "development")
        & (metrics["mean"] == "harmonic")
        & (metrics["machine"] != "")
        & metrics["selection"].isin(("", selection))
    ]
    wide = rows.pivot(index="title", columns="machine", values="value")
    return wide.loc[rows["title"].unique(), rows["machine"].unique()]


def total(source: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """The cells of a "Total" table from those of its domains: their harmonic mean; empty where one of them is."""
    pair = np.stack([source.to_numpy(float), target.reindex_like(source).to_numpy(float)])
    mean = np.where(np.isnan(pair).any(axis=0), np.nan, harmonic_mean(pair))
    return pd.DataFrame(mean, index=source.index, columns=source.columns)


def best(models: pd.DataFrame) -> pd.Series:
    """ "Our Best": the highest of the models' values in each column."""
    return models.max(axis=0).rename(BEST)


def average(table: pd.DataFrame) -> pd.Series:
    """ "Total (Ave.)": the arithmetic mean over the machines that have a value."""
    return pd.Series(arithmetic_mean(table.to_numpy(float), axis=1), index=table.index, name=AVERAGE)


def published(cells: pd.DataFrame) -> pd.DataFrame:
    """A table as the paper prints it, in percent: the models, Our Best, the ensemble, and the average column."""
    models, ensemble = cells.drop(index=ENSEMBLE), cells.loc[[ENSEMBLE]]
    table = 100 * pd.concat([models, best(models).to_frame().T, ensemble])
    table.index.name, table.columns.name = "Model", None
    return table.assign(**{AVERAGE: average(table)})


def write_table(path, table: pd.DataFrame) -> None:
    """Write a table in percent with two decimals; empty cells for what is undefined."""
    with written(path) as aside:
        table.to_csv(aside, float_format="%.2f", na_rep="", lineterminator="\n")


def read_table(path) -> pd.DataFrame:
    """Read a table in percent, its models as index.

    Raises:
        InputError: it is not a table with the column Model first.
    """
    try:
        table = pd.read_csv(path, index_col=0)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    if table.index.name != "Model":
        raise InputError(f"{path}: the first column must be Model; found {table.index.name}")
    return table.astype(float)


def read_selection(path, scores: Scores) -> pd.DataFrame:
    """Read the ensemble's choice.

    Raises:
        InputError: it does not name one of the models for each of the machines.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    if not {"machine", "model"} <= set(table.columns):
        raise InputError(f"{path}: the columns machine and model are needed; found {', '.join(table.columns)}")
    machines = list(next(iter(scores.values())))
    if sorted(table["machine"]) != sorted(machines) or not set(table["model"]) <= set(scores):
        raise InputError(
            f"{path}: one of the models {', '.join(scores)} is needed for each of the machines {', '.join(machines)}; "
            f"found {', '.join(table['machine'] + ': ' + table['model'])}. Run the ensemble on the same scores."
        )
    return table


def name_empty(made: dict[str, pd.DataFrame]) -> None:
    """Say in the log which cells of the tables are empty, and what an average over fewer machines is over."""
    for name, table in made.items():
        for title, row in table.drop(columns=AVERAGE).iterrows():
            if row.isna().any():
                empty, rest = ", ".join(row.index[row.isna()]), ", ".join(row.index[row.notna()])
                log.warning("%s, %s: empty for %s; %s is over %s", name, title, empty, AVERAGE, rest or "nothing")
