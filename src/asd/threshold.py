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
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asd.corpus import recording_count
from asd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from asd.settings import Decision

FEWEST = 5
"""With fewer training recordings nothing is decided."""

OWN = 20
"""With fewer training recordings a section's threshold comes from the standardised scores of all sections."""

SHAPED = 10
"""With fewer scores, the shape of a distribution is unknown."""

SECONDS = {"hour": 3600, "day": 86400, "week": 604800}
"""The times in which false alarms are counted."""

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
    found = {}
    common: dict[bytes, float] = {}
    for group in _groups(clips, score, settings):
        own = group.scores
        if group.recordings < FEWEST:
            log.warning("threshold: %s: %s", group.where, too_few(group.recordings))
            value = np.inf
        elif group.pooled is None:
            value = threshold(own, settings.quantile)[0]
        else:
            log.info(
                "threshold: %s: %d training recordings, fewer than %d; its threshold is found from the standardised "
                "scores of all sections (%d)",
                *(group.where, group.recordings, OWN, len(group.pooled)),
            )
            standard, scores = 0.0, group.pooled.tobytes()
            if not _equal(own):
                if scores not in common:  # once for all sections, with its warnings
                    common[scores] = threshold(group.pooled, settings.quantile)[0]
                standard = common[scores]
            value = float(own.mean() + own.std() * standard)
        found |= dict.fromkeys(group.sections, value)
    return found


class _Group(NamedTuple):
    """Sections that have a threshold together."""

    where: str
    """For messages."""
    sections: list[str]
    scores: np.ndarray
    """(n,), of their training clips."""
    recordings: int
    """Of which these clips are parts."""
    pooled: np.ndarray | None
    """The standardised scores of all sections, if the threshold comes from them; None: from `scores`."""
    behind: int
    """Recordings of the scores from which the threshold comes."""


def _groups(clips: "pd.DataFrame", score: np.ndarray, settings: "Decision") -> Iterator[_Group]:
    """Yield the sections that have a threshold together, and where it comes from; the arguments are `of_sections`'."""
    training = (clips["split"] == "train").to_numpy() & np.isfinite(score)
    section = clips["section"].to_numpy(str)
    names = sorted(set(section))
    if settings.scope == "machine":
        count = recording_count(clips[training])
        yield _Group("machine", names, score[training], count, None, count)
        return
    scores = {name: score[training & (section == name)] for name in names}
    counts = {name: recording_count(clips[training & (section == name)]) for name in names}
    known = [name for name in names if counts[name] >= FEWEST and not _equal(scores[name])]
    for name in names:
        pooled, behind = None, counts[name]
        if FEWEST <= counts[name] < OWN:
            pooled = np.concatenate([_standardised(scores[one]) for one in known or [name]])
            behind = sum(counts[one] for one in known or [name])
        yield _Group(f"section {name}", [name], scores[name], counts[name], pooled, behind)


def per_clip(wanted: str, period: float) -> float:
    """Return the share of normal clips that are to be false alarms, between 0 and 1.

    Args:
        wanted: the share itself, "0.01", or false alarms in a time: "1/day", "0.5/hour".
        period: seconds from the beginning of one clip to that of the next.

    Raises:
        InputError: no such rate, or one that is not between 0 and 1 per clip.

    >>> per_clip("9/day", period=100)
    0.010416666666666666
    """
    checked(period)
    number, in_time, unit = wanted.partition("/")
    try:
        rate = float(number) * (period / SECONDS[unit.strip()] if in_time else 1)
    except (ValueError, KeyError):
        rate = np.nan
    if not 0 < rate < 1:
        said = "" if np.isnan(rate) or not unit else f", which is {rate:.3g} per clip at a clip every {period:g} s"
        raise InputError(
            f"--false-alarms: found {wanted}{said}; expected a share of the clips, more than 0 and less than 1 "
            f"(0.01), or a number in a time (1/{', 1/'.join(SECONDS)})"
        )
    return rate


def checked(period: float) -> float:
    """Return the seconds from one clip to the next, if they are some.

    Raises:
        InputError: they are not a time.
    """
    if not 0 < period < np.inf:
        raise InputError(f"--period: found {period:g}; expected seconds from one clip to the next, more than 0")
    return period


def unsupported(clips: "pd.DataFrame", score: np.ndarray, settings: "Decision") -> list[str]:
    """Return what is to be said if a threshold is to be exceeded more rarely than its training recordings can tell.

    Of n training recordings and a new normal one, each is as likely to have the highest score. So 1 / (n + 1) of the
    new ones exceed all that were seen, whatever the distribution (the order statistics of Wilks 1941, Annals of
    Mathematical Statistics 12(1)). A rarer false alarm lies where no score was seen: the threshold then is what the
    gamma distribution guesses.

    Simulated with scores drawn from gamma, normal and log-normal distributions (n 20 to 300), the mean rate of false
    alarms at the limit of 1 / (n + 1) is 0.9 to 3 times the wanted one, and nine of ten thresholds have 0.2 to 4.5
    times as many. At 0.001 with n = 44, it is 1.3 to 7 times, and nine of ten have 0.01 to 19 times as many.

    Args:
        clips: split, section and recording, one row per clip.
        score: (clips,), nan for a training clip without a score.
        settings: the decision.
    """
    wanted = 1 - settings.quantile
    return [
        f"{group.where}: {wanted:.2g} of the normal clips is rarer than {group.behind} training recordings can tell: "
        f"a new normal recording exceeds all of them with probability 1/{group.behind + 1}, so rates below "
        f"{1 / (group.behind + 1):.2g} rest on the shape of the fitted distribution and can be wrong by a factor of "
        f"ten; {int(np.ceil(1 / wanted * (1 - 1e-9))) - 1} recordings support the wanted one"
        for group in _groups(clips, score, settings)
        if group.recordings >= FEWEST and wanted * (group.behind + 1) < 1 - 1e-9
    ]


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
