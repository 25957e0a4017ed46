"""The decision threshold of a machine: a quantile of a gamma distribution fitted to its training scores.

The DCASE 2022 Task 2 baseline (Dohi et al. 2022, arXiv:2206.05876) fits a gamma distribution with a free location. The
likelihood then has no maximum: if the shape is below 1, it grows without limit as the location approaches the smallest
score; and for scores that are not skewed to the right, the best location is minus infinity. Therefore the likelihood is
maximised over a bounded range of locations. At the far end of this range the gamma distribution is practically normal.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 10
"""With fewer scores, the shape of a distribution is unknown."""

log = logging.getLogger(__name__)


def threshold(scores: np.ndarray, quantile: float) -> tuple[float, str]:
    """Return the threshold above which a clip is anomalous, and how it was found.

    Args:
        scores: held-out scores of the machine's training clips, any shape; those that are not finite are ignored.
        quantile: 0 to 1.

    Returns:
        The threshold, and how it was found. 'gamma': from the gamma distribution. 'empirical': the quantile of the
        scores themselves (linear interpolation), if they are few, all equal, or not distributed like a gamma. 'none':
        infinity, if there is no score.
    """
    scores = np.asarray(scores, dtype=np.float64).ravel()
    scores = scores[np.isfinite(scores)]
    if len(scores) == 0:
        log.warning("threshold: no training score to decide by; no clip is called anomalous")
        return np.inf, "none"
    if len(scores) < FEWEST:
        reason = f"{len(scores)} training scores are too few for a gamma distribution"
    elif np.ptp(scores) <= 1e-9 * np.abs(scores).max():
        reason = "the training scores are all the same"
    else:
        value, distance = _gamma(scores, quantile)
        # Ten percentage points, plus what chance alone gives (5 % of gamma samples exceed the second term).
        allowed = 0.1 + 1.36 / np.sqrt(len(scores))
        if distance <= allowed:
            return value, "gamma"
        reason = f"the training scores are not distributed like a gamma (Kolmogorov distance {distance:.2f})"
    log.warning(f"threshold: {reason}; their empirical quantile is used")
    return float(np.quantile(scores, quantile)), "empirical"


def of_training(clips: "pd.DataFrame", score: np.ndarray, quantile: float) -> float:
    """Return the threshold that the scores of a machine's training clips make.

    Args:
        clips: the manifest's columns, one row per clip.
        score: (clips,).
        quantile: see `threshold`.
    """
    return threshold(score[(clips["split"] == "train").to_numpy()], quantile)[0]


def _gamma(scores: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return the quantile of the best gamma distribution, and its Kolmogorov distance from the scores (n,)."""
    from scipy.optimize import minimize_scalar
    from scipy.stats import gamma, kstest

    lowest, deviation = scores.min(), scores.std()
    scores = (scores - lowest) / deviation  # one range of locations for all units

    def fitted(logarithm: float) -> gamma:
        shape, location, scale = gamma.fit(scores, floc=-np.exp(logarithm))
        return gamma(shape, location, scale)

    # From the distance between a sample's minimum and its origin to 1000 deviations, where the skewness is 0.002.
    bounds = (-np.log(len(scores)), np.log(1000))
    best = minimize_scalar(lambda one: -fitted(one).logpdf(scores).sum(), bounds=bounds, method="bounded")
    distribution = fitted(best.x)
    distance = kstest(scores, distribution.cdf).statistic
    return float(lowest + deviation * distribution.ppf(quantile)), float(distance)
