"""A ranking of the test clips of all machines: which to listen to first."""

from typing import TYPE_CHECKING

import numpy as np

from asd.corpus import recording_count
from asd.threshold import FEWEST

if TYPE_CHECKING:
    import pandas as pd

NORMAL = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""


def ranked(scores: dict[str, "pd.DataFrame"]) -> "pd.DataFrame":
    """Rank the test clips of all machines, the most suspicious first.

    Args:
        scores: machine -> its score file, `asd.scores.read_scores`.

    Returns:
        One row per clip: rank (from 1), machine, file, section, domain, label, score, deviations (how many robust
        standard deviations the score lies above the median of the section's training scores; nan if these are too few
        or all equal), decision. Clips without deviations come last: those above the threshold first, then by machine,
        then by score.
    """
    import pandas as pd

    tables = []
    for machine, table in scores.items():
        for _, own in table.groupby("section"):
            test = own[own["split"] == "test"]
            far = deviations(test["score"], own[own["split"] == "train"])
            tables.append(test.assign(machine=machine, deviations=far))
    every = pd.concat(tables)
    unknown = every["deviations"].isna()
    every["last"] = unknown * (2 - every["decision"])
    every["turn"] = unknown * every["machine"].map({name: index for index, name in enumerate(scores)})
    order = {"last": True, "turn": True, "deviations": False, "score": False, "file": True}
    every = every.sort_values(list(order), ascending=list(order.values()))
    every["rank"] = np.arange(1, len(every) + 1)
    return every[["rank", "machine", "file", "section", "domain", "label", "score", "deviations", "decision"]]


def deviations(score: np.ndarray, training: "pd.DataFrame") -> np.ndarray:
    """Return how far scores lie above the median of training scores, in units of 1.4826 median absolute deviations.

    Args:
        score: (n,) scores.
        training: training clips of the same section, one row per clip: score (and recording, of `asd.corpus`).

    Returns:
        (n,); nan if the spread of the training scores is unknown.
    """
    training = training[training["score"].notna()]
    if recording_count(training) < FEWEST:
        return np.full(len(score), np.nan)
    middle = np.median(training["score"])
    spread = NORMAL * np.median(np.abs(training["score"] - middle))
    return (np.asarray(score) - middle) / spread if spread > 0 else np.full(len(score), np.nan)
