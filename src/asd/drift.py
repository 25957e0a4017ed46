"""Whether recordings have moved as a whole from those that a detector was made from.

A fault makes the recordings anomalous that it is heard in. A moved microphone or another gain changes all of them, and
then scores say little about the machine. Levels have moved if the median of the new ones is outside the range of nearly
all training recordings (5 to 95 %), by more than a person would overlook; scores, if their median is above 95 % of the
held-out training scores. The median, so that anomalies do not count as long as they are less than half.
"""

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 2.0
"""Smallest difference of the level that is said, in dB."""

FEWEST = 10
"""With fewer recordings on either side nothing is said."""

SCORED = 20
"""With fewer training scores nothing is said of scores. In a simulation with scores of one distribution, 5 of 200
detectors with 12 training scores would have said that 100 new ones have moved; with 20 none."""

LAST = 20
"""New recordings that are looked at while more and more follow. If a tenth of the normal ones are outside the range on
one side, which can happen with few training recordings, half of 20 are with probability 7e-6, half of 10 with 2e-3."""


class Drift:
    """Compares recordings with the training clips of their section."""

    def __init__(self, training: "pd.DataFrame", last: int | None = None) -> None:
        """Begin without recordings.

        Args:
            training: section, score and level of the training clips (`asd.detector.Detector.training`).
            last: how many recordings of a section are looked at, the last ones; None: all, `FEWEST` at least.
        """
        self.training = {str(section): own for section, own in training.groupby("section")}
        self.last = last
        self.recent: dict[str, deque[tuple[float, float]]] = {}
        self.said: set[str] = set()

    def add(self, section: str, score: float, level: float) -> None:
        """Add a recording.

        Args:
            section: as which it was scored.
            score: its score.
            level: in dB of full scale.
        """
        self.recent.setdefault(section, deque(maxlen=self.last)).append((score, level))

    def remarks(self) -> list[str]:
        """Return what is to be said of sections whose recordings have moved; of each section once."""
        found = []
        for section, recent in self.recent.items():
            if section in self.said or len(recent) < (self.last or FEWEST):
                continue
            score, level = np.array(recent).T
            if moved := _moved(self.training[section], score, level):
                self.said.add(section)
                which = f"the last {len(recent)}" if self.last else f"the {len(recent)}"
                found.append(
                    f"section {section}: {which} recordings {moved}. If the machine is in order, the microphone, its "
                    "gain or its place has changed, and the decisions mean nothing until that is mended, or a detector "
                    "is made from new recordings (asd fit)"
                )
        return found


def _moved(training: "pd.DataFrame", score: np.ndarray, level: np.ndarray) -> str:
    """How recordings have moved as a whole from the training clips; empty if they have not."""
    if len(training) < FEWEST:
        return ""
    middle = float(np.median(training["level"]))
    low, high = (_end(training["level"], share) for share in (0.05, 0.95))
    median = float(np.median(level))
    if not low <= median <= high and abs(median - middle) >= LEVEL:
        word = "louder" if median > middle else "quieter"
        medians = f"medians {median:.1f} and {middle:.1f} dB of full scale"
        return f"are as a whole {abs(median - middle):.1f} dB {word} than the training recordings ({medians})"
    held_out = training["score"].dropna()
    if len(held_out) >= SCORED and np.median(score) > (limit := _end(held_out, 0.95)):
        return (
            f"score as a whole higher than the training recordings (median {np.median(score):.4g}; 95% of those were "
            f"below {limit:.4g}), although they are as loud as those"
        )
    return ""


def _end(values: np.ndarray, share: float) -> float:
    """The quantile at an end of the range of values (n,): one of them, the outermost one if there are few."""
    return float(np.quantile(values, share, method="lower" if share < 0.5 else "higher"))
