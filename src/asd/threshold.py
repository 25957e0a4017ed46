"""Decision thresholds: a quantile of a gamma distribution fitted to training scores, of a section or of a machine.

The DCASE 2022 Task 2 baseline (Dohi et al. 2022, arXiv:2206.05876) fits a gamma distribution with a free location to
the scores of a machine. The likelihood then has no maximum: if the shape is below 1, it grows without limit as the
location approaches the smallest score; and for scores that are not skewed to the right, the best location is minus
infinity. Therefore the likelihood is maximised over a bounded range of locations. At the far end of this range the
gamma distribution is practically normal.

The numbers of recordings below were chosen by simulation: scores were drawn from gamma, normal and log-normal
distributions, and a quantile of 0.9 should be exceeded by 10 % of new scores.

- A threshold fitted to n scores of a section is on average exceeded by 16-17 % with n = 5, by 13 % with n = 10, by
  11-12 % with n = 20; nine of ten thresholds are exceeded by 1-45 %, 2-32 % and 3-23 %.
- With scores that are standardised and pooled (`_standardised`), it is 6-9 %, 8-10 % and 9-10 %; nine of ten by 0-33 %,
  1-26 % and 2-20 %. Beside sections of 40 clips, a section with n = 5 has 15 %, one with n = 10 has 12 %.

From 20 clips on, the two do not differ. Parts of one recording are alike, so these numbers count recordings.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np

from asd.corpus import recording_count

if TYPE_CHECKING:
    import pandas as pd

    from asd.settings import Decision

FEWEST = 5
"""With fewer training recordings nothing is decided."""

OWN = 20
"""With fewer training recordings a section's threshold comes from the standardised scores of all sections."""

SHAPED = 10
"""With fewer scores, the shape of a distribution is unknown."""

log = logging.getLogger(__name__)


def threshold(scores: np.ndarray, quantile: float) -> tuple[float, str]:
    """Return the threshold above which a clip is anomalous, and how it was found.

    Args:
        scores: held-out scores of training clips, any shape; those that are not finite are ignored.
        quantile: 0 to 1.

    Returns:
        The threshold, and how it was found. 'gamma': from the gamma distribution. 'empirical': the quantile of the
        scores themselves (linear interpolation), if they are few, all equal, or not distributed like a gamma. 'none':
        infinity, if there is no score.
    """
    scores = np.asarray(scores, dtype=np.float64).ravel()
    scores = scores[np.isfinite(scores)]
    if len(scores) == 0:
        return np.inf, "none"
    if len(scores) < SHAPED:
        reason = f"{len(scores)} training scores are too few for a gamma distribution"
    elif _equal(scores):
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


def of_sections(clips: "pd.DataFrame", score: np.ndarray, settings: "Decision") -> dict[str, float]:
    """Return the threshold of each section of a machine; infinite if there are too few training recordings for one.

    With scope `machine`, all sections have the threshold of the machine's training scores. With scope `section`, a
    section has that of its own; if these are of fewer than `OWN` recordings, its threshold is

        m + d · z

    with the mean m and the standard deviation d of its training scores, and z the threshold of the standardised scores
    of all sections (`_standardised`).

    Args:
        clips: split, section and recording, one row per clip.
        score: (clips,), nan for a training clip without a score.
        settings: the decision.
    """
    training = (clips["split"] == "train").to_numpy() & np.isfinite(score)
    section = clips["section"].to_numpy(str)
    names = sorted(set(section))
    groups = [(f"section {name}", [name], section == name) for name in names]
    if settings.scope == "machine":
        groups = [("machine", names, np.ones(len(section), bool))]
    scores = {where: score[training & chosen] for where, _, chosen in groups}
    counts = {where: recording_count(clips[training & chosen]) for where, _, chosen in groups}
    found = {}
    for where, of, _ in groups:
        own = scores[where]
        if counts[where] < FEWEST:
            log.warning("threshold: %s: %s", where, too_few(counts[where]))
            value = np.inf
        elif settings.scope == "machine" or counts[where] >= OWN:
            value = threshold(own, settings.quantile)[0]
        else:
            known = [one for name, one in scores.items() if counts[name] >= FEWEST and not _equal(one)]
            pooled = np.concatenate([_standardised(one) for one in known or [own]])
            log.info(
                "threshold: %s: %d training recordings, fewer than %d; its threshold is found from the standardised "
                "scores of all sections, %d clips",
                *(where, counts[where], OWN, len(pooled)),
            )
            standard = 0.0 if _equal(own) else threshold(pooled, settings.quantile)[0]
            value = float(own.mean() + own.std() * standard)
        found |= dict.fromkeys(of, value)
    return found


def too_few(training: int) -> str:
    """Return why nothing is decided with this number of training recordings."""
    return (
        f"{training} scored training recordings are too few for a threshold ({FEWEST} are needed); nothing is decided"
    )


def _equal(scores: np.ndarray) -> bool:
    return bool(np.ptp(scores) <= 1e-9 * np.abs(scores).max())


def _standardised(scores: np.ndarray) -> np.ndarray:
    """Standardise each score by the mean and the deviation of the others, as the score of a new clip is.

    With the mean and the deviation of all scores, none of few could be large: of n scores none exceeds √(n-1).
    """
    scores = scores - scores.mean()
    mean = -scores / (len(scores) - 1)
    variance = (np.square(scores).sum() - np.square(scores)) / (len(scores) - 1) - np.square(mean)
    # If all other scores are equal, a score cannot be standardised; there is at most one such score.
    known = variance > 1e-12 * scores.var()
    return (scores - mean)[known] / np.sqrt(variance[known])


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
