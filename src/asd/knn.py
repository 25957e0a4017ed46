"""The distance to the nearest training rows of each domain, with a local density and synthetic target rows (SMOTE).

The distance D of two rows is, by `metric`,

    euclidean   |x - y|, of features standardised by the training rows: minus their mean, divided by the square root of
                their variance plus a hundredth of all features' mean variance. Without the latter, the rare changes of
                an almost constant feature would outweigh all others
    cosine      1 - cos(x, y), which is half the squared distance of the two at length 1

A local density b(y) of each reference row y makes references in sparse and dense regions comparable (Wilkinghoff et
al. 2025, "Local Density-Based Anomaly Score Normalization for Domain Generalization", arXiv:2509.10951): the mean D
from y to the K references nearest to it, of all domains. The score of x at y is D(x, y) / b(y), or D(x, y) - b(y).
"""

from dataclasses import dataclass

import numpy as np

from asd.settings import Knn
from asd.smote import grown

ROWS_AT_ONCE = 512
"""Rows whose distances to all references are held at one time: 131 MB for 32,000 references."""

FLOOR = 0.01
"""What is added to a feature's variance, as a share of all features' mean variance."""


@dataclass(frozen=True)
class Neighbours:
    """The training rows (references) of a section, made ready for distances to them."""

    centre: np.ndarray
    """(d,), what is subtracted from a row; zeros for the cosine."""
    scale: np.ndarray
    """(d,), what a row is then divided by; ones for the cosine."""
    references: np.ndarray
    """(m, d) float64: standardised, or of length 1 for the cosine."""
    domain: np.ndarray
    """(m,) int64, the domain of each: 0, 1, ..."""
    offset: np.ndarray
    """(m,) what is subtracted from the distance to a reference: its density, or 0."""
    divisor: np.ndarray
    """(m,) what the distance to a reference is divided by: its density, or 1."""
    cosine: bool
    """Whether the distance is 1 minus the cosine."""
    neighbours: int
    """Number of nearest references of a domain over which the distance is averaged."""

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the distance of rows (n, d) to the references of each domain, (n, domains) float64."""
        chosen = [np.flatnonzero(self.domain == one) for one in range(self.domain.max() + 1)]
        found = np.empty((len(rows), len(chosen)))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            block = _prepared(rows[begin : begin + ROWS_AT_ONCE], self.centre, self.scale, self.cosine)
            apart = (_apart(block, self.references, self.cosine) - self.offset) / self.divisor
            for one, columns in enumerate(chosen):
                nearest = min(self.neighbours, len(columns))
                smallest = np.partition(apart[:, columns], nearest - 1, axis=1)[:, :nearest]
                found[begin : begin + ROWS_AT_ONCE, one] = smallest.mean(1)
        return found


def fit(
    rows: np.ndarray,
    settings: Knn,
    domain: np.ndarray,
    rng: np.random.Generator,
    target: np.ndarray | None = None,
) -> Neighbours:
    """Keep the training rows of a section, with their densities and the synthetic rows of the target domain.

    Everything is computed from `rows` alone, so a fold that is held out has no influence on it.

    Args:
        rows: (n, d), n at least 1.
        settings: of the neighbours.
        domain: (n,) int, 0, 1, ... without gaps: the domains to which distances are computed; all 0: a single domain.
        rng: draws the coreset and the synthetic rows.
        target: (n,) bool, the rows of the target domain, to which SMOTE adds synthetic rows, also if `domain` does not
            distinguish them; None: the rows of domain 1.
    """
    domain = np.asarray(domain, dtype=np.int64)
    target = domain == 1 if target is None else np.asarray(target)
    cosine = settings.metric == "cosine"
    if cosine:
        centre, scale = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    else:
        centre, scale = _mean_and_scale(rows)
    kept = np.sort(np.concatenate([_drawn(domain == one, settings.coreset, rng) for one in np.unique(domain)]))
    references, domain, target = _prepared(rows[kept], centre, scale, cosine), domain[kept], target[kept]
    references, domain = grown(references, domain, target, settings, rng)
    if cosine:
        references[len(kept) :] = _unit(references[len(kept) :])
    offset, divisor = np.zeros(len(references)), np.ones(len(references))
    if settings.density == "difference":
        offset = density(references, settings.density_neighbours, cosine, lonely=0.0)
    elif settings.density == "ratio":
        divisor = density(references, settings.density_neighbours, cosine, lonely=1.0)
    return Neighbours(centre, scale, references, domain, offset, divisor, cosine, settings.neighbours)


def density(references: np.ndarray, neighbours: int, cosine: bool, lonely: float) -> np.ndarray:
    """Return the mean distance of each reference to the other references nearest to it.

    Copies of a reference count as one, and a reference is no neighbour of its copies. So a density is never 0, and
    distances can be divided by it.

    Args:
        references: (m, d), prepared rows.
        neighbours: number of nearest references; all others if there are fewer.
        cosine: the metric.
        lonely: the value if there are no others.

    Returns:
        (m,) float64.
    """
    distinct, copy = np.unique(references, axis=0, return_inverse=True)
    nearest = min(neighbours, len(distinct) - 1)
    if nearest == 0:
        return np.full(len(references), lonely)
    found = np.empty(len(distinct))
    for begin in range(0, len(distinct), ROWS_AT_ONCE):
        block = distinct[begin : begin + ROWS_AT_ONCE]
        apart = _apart(block, distinct, cosine)
        apart[np.arange(len(block)), begin + np.arange(len(block))] = np.inf
        others = np.argpartition(apart, nearest - 1, axis=1)[:, :nearest]
        # From the differences themselves: for nearly equal rows, `_apart` gives little more than rounding errors.
        squares = np.stack([((block - distinct[other]) ** 2).sum(1) for other in others.T])
        found[begin : begin + ROWS_AT_ONCE] = (squares / 2 if cosine else np.sqrt(squares)).mean(0)
    return found[copy.ravel()]


def _mean_and_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of rows (n, d) and their scale, which standardises them, (d,) each."""
    if (rows == rows[0]).all():
        return rows[0].astype(np.float64), np.ones(rows.shape[1])
    centre = rows.mean(0, dtype=np.float64)
    blocks = (rows[begin : begin + ROWS_AT_ONCE] - centre for begin in range(0, len(rows), ROWS_AT_ONCE))
    variance = sum((block**2).sum(0) for block in blocks) / len(rows)
    return centre, np.sqrt(variance + FLOOR * variance.mean())


def _drawn(mask: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return the places at which a mask (n,) is true; if they are more than `most`, so many drawn at random."""
    places = np.flatnonzero(mask)
    return places if len(places) <= most else rng.choice(places, most, replace=False)


def _prepared(rows: np.ndarray, centre: np.ndarray, scale: np.ndarray, cosine: bool) -> np.ndarray:
    """Return rows (n, d) as the metric takes them, float64."""
    rows = (rows - centre) / scale
    return _unit(rows) if cosine else rows


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, d) at length 1; a row of zeros stays as it is."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _apart(rows: np.ndarray, references: np.ndarray, cosine: bool) -> np.ndarray:
    """Return the distances of prepared rows (n, d) to prepared references (m, d), (n, m)."""
    squares = -2 * rows @ references.T
    squares += np.einsum("ij,ij->i", rows, rows)[:, None]
    squares += np.einsum("ij,ij->i", references, references)
    np.maximum(squares, 0, out=squares)  # rounding can leave a row just below 0 from its copy
    return squares / 2 if cosine else np.sqrt(squares, out=squares)
