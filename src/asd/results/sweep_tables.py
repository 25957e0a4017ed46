"""The tables of a sweep: each combination of values with its mean and spread over the seeds."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asd.results.metrics import percent
from asd.results.metrics_table import select
from asd.results.tables import AVERAGE, markdown

if TYPE_CHECKING:
    from asd.settings import Variant

KEYS = ["machine", "part", "section", "domain", "metric", "mean"]
SHOWN = {
    ("auc", "total"): "AUC, harmonic mean of source and target",
    ("pauc", "total"): "pAUC, harmonic mean of source and target",
    ("omega", "all"): "Official score (harmonic mean of AUC source, AUC target and pAUC)",
}


def spread(metrics: pd.DataFrame, variants: "dict[str, Variant]") -> pd.DataFrame:
    """Return every figure of every combination of values, summarised over its seeds.

    Args:
        metrics: the table `asd.results.metrics_table`.
        variants: the values and the seed of each model.

    Returns:
        One row per combination and figure: model and title of the combination, one column per swept key, `KEYS`, seeds
        (how many), value (their mean), deviation (sample standard deviation; NaN with one seed), lowest, highest.
        Values are fractions; NaN if the figure is undefined for a seed. The deviation is the variation between
        trainings; the variation between test clips is in the intervals of metrics.csv.
    """
    swept = list(dict.fromkeys(key for variant in variants.values() for key in variant.values))
    rows = metrics[metrics["model"].isin(variants)]
    known = {
        name: (one.model, one.title, *(_cell(one.values.get(key, "")) for key in swept))
        for name, one in variants.items()
    }
    groups = ["swept_model", "title", *swept]
    described = pd.DataFrame.from_dict(known, orient="index", columns=groups)
    table = rows.drop(columns="title").merge(described, left_on="model", right_index=True)
    found = table.groupby([*groups, *KEYS], sort=False)["value"]
    # pandas would leave out the seeds for which a figure is undefined and return the mean of the others.
    whole = found.count() == found.size()
    figures = pd.DataFrame(
        {"value": found.mean(), "deviation": found.std(ddof=1), "lowest": found.min(), "highest": found.max()}
    ).where(whole, np.nan)
    figures.insert(0, "seeds", found.size())
    return figures.reset_index().rename(columns={"swept_model": "model"})


def _cell(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def chosen(table: pd.DataFrame, metric: str, domain: str) -> pd.DataFrame:
    """Return the rows of one figure on the development part.

    These are each machine's harmonic mean over its sections, and the average over the machines.

    Args:
        table: as from `spread`.
        metric: of the figure.
        domain: of the figure.
    """
    rows = select(table, metric, domain, ("value", "deviation", "lowest", "highest"))
    return rows.assign(machine=rows["machine"].replace("", AVERAGE)).reset_index(drop=True)


def page(table: pd.DataFrame, reading: str = "both") -> str:
    """Return the most important figures in Markdown: one row per combination, one column per machine, in percent.

    Args:
        table: from `spread`.
        reading: whether the pAUC of a domain uses the anomalies of both domains or of its own: both or own.
    """
    parts = []
    for (metric, domain), title in SHOWN.items():
        rows = chosen(table, f"pauc_{reading}" if metric == "pauc" else metric, domain)
        rows = rows.assign(text=[_text(*pair) for pair in zip(rows["value"], rows["deviation"], strict=True)])
        wide = rows.pivot(index="title", columns="machine", values="text").fillna("")
        wide = wide.loc[rows["title"].unique(), rows["machine"].unique()].rename_axis(index="Model", columns=None)
        parts.append(f"**{title}**, percent, development part\n\n{markdown(wide)}")
    seeds = sorted(table["seeds"].unique())
    counted = f"{seeds[0]} seeds" if seeds == [seeds[0]] else f"{seeds[0]} to {seeds[-1]} seeds"
    parts.append(
        f"Mean ± standard deviation over {counted}: the variation between trainings. The variation between test clips\n"
        "is in the intervals of metrics.csv."
        if seeds[-1] > 1
        else "One seed: the variation between trainings is unknown."
    )
    return "\n\n".join(parts) + "\n"


def _text(value: float, deviation: float) -> str:
    if np.isnan(value):
        return ""
    return percent(value) + ("" if np.isnan(deviation) else f" ± {percent(deviation)}")
