"""The table metrics.csv: every figure of every model, section, machine and domain, one per row.

Columns: model, title, machine, part, section, domain, metric, value, low, high, mean, over, selection. Values are
fractions. A row is the figure of a section, or a mean of such figures:

    mean        harmonic or arithmetic, over a machine's sections (`section` is empty) or over all machines' sections
                (`machine` is empty, too); machines: the arithmetic mean over machines of their harmonic means;
                pooled: the share of all clips of a machine (`asd.results.alarms`)
    over        the sections or machines of the mean, those for which the figure is defined; or the numbers of clips of
                a share
    low, high   the bootstrap interval, of a share Wilson's
    selection   for the ensemble: in_sample, chosen by the same labels that judge it; cross_fitted, chosen on other
                clips (`asd.results.ensemble`)

A text is empty if there is none; a number is NaN if it is undefined.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from asd.files import read_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "title", "machine", "part", "section", "domain", "metric", "value")
COLUMNS += ("low", "high", "mean", "over", "selection")
NUMBERS = ("value", "low", "high")
ENSEMBLE = "Ensemble"
"""The ensemble's title; as a model it is called ensemble."""
ALL_CLIPS = " (all clips)"


def read_metrics(path: Path) -> "pd.DataFrame":
    """Read the table: texts as they are, numbers as float64.

    Raises:
        InputError: the file is missing, or is not such a table.
    """
    return read_table(path, COLUMNS, NUMBERS)


def select(metrics: "pd.DataFrame", metric: str, domain: str, numbers: tuple[str, ...] = NUMBERS) -> "pd.DataFrame":
    """Return the rows of one figure on the development part: of each system on each machine, and on average.

    These are harmonic means over a machine's sections, and the arithmetic mean of those over machines (machine "").

    A machine whose clips have labels and lack a domain has no figure of both domains together (total). It then has the
    figure of all its clips, and is called "<machine> (all clips)". The average is undefined if only some are.

    Args:
        metrics: the table, or what a sweep makes of it.
        metric: of the figure.
        domain: of the figure.
        numbers: the columns of the figure.
    """
    import numpy as np
    import pandas as pd

    rows = metrics[(metrics["part"] == "development") & (metrics["section"] == "")]
    rows = rows[((rows["machine"] != "") & (rows["mean"] == "harmonic")) | (rows["mean"] == "machines")]
    own = rows[(rows["metric"] == metric) & (rows["domain"] == domain)].copy()
    every = rows[(rows["metric"] == metric.split("_")[0]) & (rows["domain"] == "all") & rows["value"].notna()]
    defined = {*own["machine"][own["value"].notna()]} - {""}
    instead = {*every["machine"]} - {"", *defined}
    if domain != "total" or not instead:
        return own
    mean = own["machine"] == ""
    if defined:
        own.loc[mean, list(numbers)] = np.nan
    swapped = own["machine"].isin(instead) | (mean & (not defined))
    keys = [key for key in ("model", "title", "selection", "machine") if key in own]
    values = every.set_index(keys)[list(numbers)].reindex(pd.MultiIndex.from_frame(own.loc[swapped, keys]))
    own.loc[swapped, list(numbers)] = values.to_numpy()
    own.loc[own["machine"].isin(instead), "machine"] += ALL_CLIPS
    return own
