"""Scores that know the domains: a clip is as anomalous as it is to the domain that it is nearest to.

The domain of a test clip is not known. Its distances to the source's and to the target's training clips are divided by
what is usual in each domain, and the smaller one is its score.

What is usual is the mean distance of a domain's training clips that were held out. The target has few of them (10 in
2022), whose mean is mostly chance, so it is drawn towards what the source lets expect.
"""

import numpy as np

PRIOR = 10
"""Target clips that what the source lets expect weighs as much as. Chosen on demo corpora; 4 to 40 differ little."""

FEWEST = 3
"""Fewer target clips tell nothing about what is usual there: their domain is not told apart."""


def told_apart(domain: np.ndarray) -> np.ndarray:
    """Return the domains of training clips (n,) as they are told apart: all 0 if the target has too few, or all, clips.

    Args:
        domain: (n,) text, of which "target" is the target.

    Returns:
        (n,) int64: 1 for the target, 0 for the source.
    """
    target = np.asarray(domain) == "target"
    return np.int64(target if FEWEST <= target.sum() <= len(target) - FEWEST else np.zeros(len(target), bool))


def stratified_folds(domain: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each clip, (n,) int64: as many clips of each domain in each fold, to within one.

    Args:
        domain: (n,) int.
        folds: at most n.
        rng: deals the clips of a domain.
    """
    fold = np.empty(len(domain), np.int64)
    dealt = 0
    for one in np.unique(domain):
        places = rng.permutation(np.flatnonzero(domain == one))
        fold[places] = (dealt + np.arange(len(places))) % folds  # goes on where the last domain ended
        dealt += len(places)
    return fold


def usual_distances(held_out: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Return what the distances to each domain are divided by, (domains,) float64.

    For the source (domain 0) it is the mean distance m_s of its own clips. For the target it is

        m_t^w · e_t^(1 - w),    w = n_t / (n_t + PRIOR),    e_t = m_s · sqrt((1 + 1 / n_t) / (1 + 1 / n_s)),

    with n_s and n_t clips. e_t is expected if both domains vary alike: the mean of n clips, which the distance is taken
    to, is itself off by 1 / n of the variance.

    Args:
        held_out: (n, domains), the distances of the training clips, each by a fit without it.
        domain: (n,) int, 0 or 1.
    """
    counts = np.bincount(domain, minlength=held_out.shape[1])
    own = np.array([held_out[domain == one, one].mean() for one in range(held_out.shape[1])])
    expected = own[0] * np.sqrt((1 + 1 / counts) / (1 + 1 / counts[0]))
    weight = counts / (counts + PRIOR)
    usual = own**weight * expected ** (1 - weight)
    usual[0] = own[0]
    return np.where(usual > 0, usual, 1.0)  # all clips of a domain are the same


def nearest(distances: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return the scores (n,) of clips from their distances (n, domains) and what is usual in each (domains,)."""
    return (distances / usual).min(1)
