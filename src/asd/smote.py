"""SMOTE: synthetic rows of the target domain, which has few.

Chawla et al. 2002, J. Artificial Intelligence Research 16, section 4.2.
"""

import numpy as np

from asd.settings.detectors import Grown


def grown(
    rows: np.ndarray, domain: np.ndarray, target: np.ndarray, settings: Grown, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and their domains, with synthetic rows of the target domain added at the end.

    Args:
        rows: (n, d).
        domain: (n,) int.
        target: (n,) bool, the rows of the target domain. With fewer than two of them nothing is added.
        settings: `smote`, the share of the source's rows to which the target grows, and `smote_neighbours`.
        rng: draws the synthetic rows.
    """
    missing = round(settings.smote * (~target).sum()) - target.sum()
    if missing <= 0 or target.sum() < 2:
        return rows, domain
    made = smote(rows[target], missing, settings.smote_neighbours, rng)
    return np.concatenate([rows, made]), np.concatenate([domain, np.full(missing, domain[target][0])])


def smote(rows: np.ndarray, count: int, neighbours: int, rng: np.random.Generator) -> np.ndarray:
    """Return synthetic rows, each at a random place between a row and one of the rows nearest to it.

    As in the paper, with rows drawn at random.

    Args:
        rows: (n, d), n at least 2.
        count: how many to make.
        neighbours: the other row is drawn from this number of nearest rows; from all if there are fewer.
        rng: draws the rows and the places.

    Returns:
        (count, d) float64.
    """
    from scipy.spatial.distance import cdist

    apart = cdist(rows, rows, "sqeuclidean")
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, : min(neighbours, len(rows) - 1)]
    begin = rng.integers(len(rows), size=count)
    end = nearest[begin, rng.integers(nearest.shape[1], size=count)]
    return rows[begin] + rng.random((count, 1)) * (rows[end] - rows[begin])
