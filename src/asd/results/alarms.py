"""How good the decisions are: how many anomalies were found, and how many normal clips were flagged.

Per machine, model and section, and per machine over all its sections, from the labelled test clips of the development
part. These are rates of clips, so their intervals are Wilson's (1927, "Probable inference, the law of succession, and
statistical inference").
"""

from typing import TYPE_CHECKING

import numpy as np

from asd.results.metrics import percent
from asd.results.metrics_table import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from asd.results.ensemble import Scores

RATES = {"found": "anomaly", "false_alarms": "normal"}
"""Metric -> label: the metric is the share of flagged clips among the clips with this label."""

EVERY = "all"
"""The column of all sections together."""


def alarms(scores: "Scores", titles: dict[str, str], level: float) -> "pd.DataFrame":
    """Return the shares of flagged clips.

    Args:
        scores: model -> machine -> scores, as `asd.scores.read_scores` gives them.
        titles: of the models.
        level: coverage of the intervals.

    Returns:
        Rows of `asd.results.metrics_table`, metric found and false_alarms, domain all: value, low and high of each
        section, and of all sections together (section "", mean pooled); `over` has the numbers of clips. A section that
        has no such clip, or a clip without a decision, has no row.
    """
    import pandas as pd
    from scipy.stats import binomtest

    rows = []
    for model, machines in scores.items():
        for machine, table in machines.items():
            test = table[(table["split"] == "test") & (table["part"] == "development")]
            groups = {str(section): own for section, own in test.groupby("section")} | {"": test}
            for section, clips in groups.items():
                for metric, label in RATES.items():
                    decision = clips["decision"][clips["label"] == label].to_numpy()
                    if not len(decision) or (decision < 0).any():
                        continue
                    flagged = int(decision.sum())
                    ends = binomtest(flagged, len(decision)).proportion_ci(level, method="wilson")
                    rows.append(
                        dict.fromkeys(COLUMNS, "")
                        | {"model": model, "title": titles[model], "machine": machine, "part": "development"}
                        | {"section": section, "domain": "all", "metric": metric, "mean": "" if section else "pooled"}
                        | {"value": flagged / len(decision), "low": ends.low, "high": ends.high}
                        | {"over": f"{flagged} of {len(decision)} clips"}
                    )
    return pd.DataFrame(rows, columns=COLUMNS)


def text(table: "pd.DataFrame") -> dict[str, "pd.DataFrame"]:
    """Return machine -> a table of texts: one row per model, one column per section and one for all.

    A cell has the share of found anomalies and that of false alarms in percent, with intervals, such as
    "90 (70-97) / 0 (0-19)".

    Args:
        table: of `alarms`.
    """
    import pandas as pd

    tables = {}
    for machine, own in table.groupby("machine", sort=False):
        cells: dict[str, dict[str, str]] = {}
        for (title, section), pair in own.groupby(["title", "section"], sort=False):
            shares = pair.set_index("metric").reindex(list(RATES))
            said = [
                "-"
                if np.isnan(row.value)
                else f"{percent(row.value, 0)} ({percent(row.low, 0)}-{percent(row.high, 0)})"
                for row in shares.itertuples()
            ]
            cells.setdefault(str(title), {})[section or EVERY] = " / ".join(said)
        tables[str(machine)] = pd.DataFrame.from_dict(cells, orient="index").fillna("-").rename_axis("Model")
    return tables
