"""A fusion: one score from those of several models, without labels.

Each member's score is standardised, section by section, by the held-out scores of the section's training clips:

    z = (score - mean) / deviation

so that members of different units, and sections of different scale, can be averaged. Nothing is learned from test
clips or labels. The threshold is then found from the fused training scores, as that of any model.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""With fewer training scores the spread of a section's normal scores is unknown."""

log = logging.getLogger(__name__)


class Standard(NamedTuple):
    """How a member's scores of a section are standardised."""

    mean: float
    deviation: float

    def of(self, score: np.ndarray | float) -> np.ndarray | float:
        """Return a score, or scores of any shape, standardised."""
        return (score - self.mean) / self.deviation


def standards(scores: "pd.DataFrame", model: str = "") -> dict[str, Standard]:
    """Return how the scores of each section of a machine are standardised.

    A section with too few training scores is standardised as the other sections are on average. If there are no other
    sections, scores are standardised by the mean of all training scores alone, so that they still have one unit.

    Args:
        scores: of one model, as `asd.scores.read_scores` gives them.
        model: its name, for messages.

    Raises:
        InputError: no training clip has a score.
    """
    training = scores[(scores["split"] == "train") & scores["score"].notna()]
    if training.empty:
        raise InputError(f"fusion: {model}: no training clip has a held-out score; leave it out of the members")
    found = {}
    for section in sorted(scores["section"].unique()):
        own = training["score"][training["section"] == section].to_numpy()
        if len(own) >= FEWEST and own.std() > 0:
            found[section] = Standard(float(own.mean()), float(own.std()))
    mean = float(training["score"].mean())
    rest = Standard(*np.mean(list(found.values()), axis=0).tolist()) if found else Standard(mean, abs(mean) or 1.0)
    for section in sorted(set(scores["section"]) - set(found)):
        log.warning(
            "%s, section %s: fewer than %d training scores, or all the same; its scores are standardised by %s",
            *(model or "fusion", section, FEWEST, "the other sections'" if found else "the mean training score"),
        )
        found[section] = rest
    return found


def fused(standardised: list[np.ndarray], fuse: str, weights: list[float] | None = None) -> np.ndarray:
    """Return the fused scores.

    Args:
        standardised: of each member, arrays of one shape.
        fuse: mean, max or min.
        weights: of the members, for the mean; None or empty: equal weights.

    Returns:
        An array of that shape; nan if a member has no score.
    """
    stacked = np.stack(standardised)
    if fuse == "mean":
        return np.average(stacked, axis=0, weights=weights or None)
    return stacked.max(0) if fuse == "max" else stacked.min(0)


def fuse_tables(
    tables: Mapping[str, "pd.DataFrame"], fuse: str, weights: list[float] | None = None
) -> tuple["pd.DataFrame", np.ndarray]:
    """Return the clips of a machine and their fused scores (clips,).

    Args:
        tables: by model, as `asd.scores.read_scores` gives them.
        fuse: mean, max or min.
        weights: of the members, in the order of the tables.

    Raises:
        InputError: members that were scored on different clips.
    """
    (first, clips), *others = tables.items()
    names = ["split", "section", "file"]
    for other, table in others:
        if not table[names].equals(clips[names]):
            raise InputError(f"fusion: {first} and {other} were not scored on the same clips; score both again")
    members = []
    for model, table in tables.items():
        by_section = standards(table, model)
        mean, deviation = np.array([by_section[section] for section in table["section"]]).T
        members.append(Standard(mean, deviation).of(table["score"].to_numpy()))
    return clips, fused(members, fuse, weights)
