"""The features themselves as scores: for networks that give a score, such as the error of an autoencoder."""

from dataclasses import dataclass

import numpy as np

from asd.errors import InputError
from asd.settings.detectors import Value


@dataclass(frozen=True)
class Scores:
    """Nothing is fitted, so there is nothing to keep."""

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows (n, 1) themselves, float64."""
        return rows.astype(np.float64)


def fit(rows: np.ndarray, settings: Value) -> Scores:
    """Return the features (n, 1) as they are.

    Args:
        rows: (n, 1).
        settings: which feature it is.

    Raises:
        InputError: more features than one.
    """
    if rows.shape[1] != 1:
        raise InputError(
            f"detector value: found {rows.shape[1]} features, expected a single one that is a score itself, such as "
            f"those of a network of kind autoencoder (value.stages: found {settings.stages})"
        )
    return Scores()
