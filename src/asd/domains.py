"""Scores that consider the domains: a clip is scored against the domain that it is nearest to.

The domain of a test clip is not known. Its distances to the source's and to the target's training clips are divided by
the usual distance of each domain, and the smaller quotient is its score.

The usual distance is the mean distance of a domain's training clips that were held out. The target has few training
clips (10 in 2022), so their mean is uncertain; it is drawn towards a value that is expected from the source.
"""

import numpy as np

PRIOR = 10
"""The weight of the value that is expected from the source, in target clips. Chosen on demo corpora; 4 to 40 differ
little."""

FEWEST = 3
"""With fewer recordings the usual distance of a domain is unknown, and the domains are not distinguished."""


def told_apart(domain: np.ndarray, recording: np.ndarray) -> np.ndarray:
    """Return the domains of training clips, or only one domain if the source or the target has too few recordings.

    Args:
        domain: (n,) text, of which "target" is the target.
        recording: (n,) the recording of each clip.

    Returns:
        (n,) int64: 1 for the target, 0 for the source; all 0 if the domains are not distinguished.
    """
    target = np.asarray(domain) == "target"
    fewest = min(len(np.unique(recording[one])) for one in (target, ~target))
    return np.int64(target if fewest >= FEWEST else np.zeros(len(target), bool))


def grouped_folds(target: np.ndarray, recording: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each clip, (n,) int64: whole recordings, as many of each domain in each fold, to within one.

    Recordings with clips of both domains are dealt separately. So no fold has all clips of a domain, if there are two
    folds or more and the domain has clips of two recordings or more.

    Args:
        target: (n,) bool, whether a clip is of the target domain.
        recording: (n,) the recording of each clip, from 0.
        folds: number of folds; if there are fewer recordings, as many as there are recordings.
        rng: deals the recordings.
    """
    source, of_target = (np.bincount(recording, one) > 0 for one in (~target, target))
    kind = np.where(of_target, np.where(source, 2, 1), 0)
    return stratified_folds(kind, min(folds, len(kind)), rng)[recording]


def stratified_folds(domain: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each item, (n,) int64: as many of each domain in each fold, to within one.

    Args:
        domain: (n,) int.
        folds: at most n.
        rng: deals the items of a domain.
    """
    fold = np.empty(len(domain), np.int64)
    dealt = 0
    for one in np.unique(domain):
        places = rng.permutation(np.flatnonzero(domain == one))
        fold[places] = (dealt + np.arange(len(places))) % folds  # continues where the last domain ended
        dealt += len(places)
    return fold


def usual_distances(held_out: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Return what the distances to each domain are divided by, (domains,) float64.

    For the source (domain 0) it is the mean distance m_s of its own clips. For the target it is

        m_t^w · e_t^(1 - w),    w = n_t / (n_t + PRIOR),    e_t = m_s · sqrt((1 + 1 / n_t) / (1 + 1 / n_s)),

    with n_s and n_t clips. e_t is expected if both domains vary equally; the error of the mean of n clips, from which
    distances are measured, adds 1 / n of the variance.

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
    return np.where(usual > 0, usual, 1.0)  # 0 if all clips of a domain are the same


def nearest(distances: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return the scores (n,) of clips from their distances (n, domains) and the usual distances (domains,)."""
    return (distances / usual).min(1)
