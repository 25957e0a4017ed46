"""How well scores separate anomalous from normal clips: the figures of a section, their means and intervals.

The figures of a section are the entries of `FIGURES`, as defined by Dohi et al. ("Description and discussion on DCASE
2022 challenge task 2") and the official evaluator. Each figure is computed for many *weightings* of the clips at once.
A weighting says how often each clip counts: all ones for the figure itself, the counts of a bootstrap resample, or
zeros and ones for a half of the clips. The clips are sorted only once for all weightings.

If the clips that a figure needs are missing (no anomalies, or no clips of a domain), it is NaN, never 0 or 0.5.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asd.corpus import recording_numbers
from asd.files import digest

if TYPE_CHECKING:
    import pandas as pd

DOMAINS = ("source", "target")

RANKED = (
    ("auc", "source"),
    ("auc", "target"),
    ("auc", "all"),
    ("pauc", "all"),
    ("pauc_both", "source"),
    ("pauc_both", "target"),
    ("pauc_own", "source"),
    ("pauc_own", "target"),
    ("omega", "all"),
)
"""Figures of the scores, (metric, domain). auc: the domain's normal clips against the anomalies of all domains;
pauc: all normal clips against all anomalies, up to `max_fpr`; pauc_both and pauc_own: the domain's normal clips
against the anomalies of both domains, or of its own; omega: the harmonic mean of AUC (source), AUC (target) and
pAUC, whose harmonic mean over sections is the challenge's official score."""

DECIDED = tuple((metric, domain) for metric in ("precision", "recall", "f1") for domain in DOMAINS)
"""Figures of the decisions, among the clips of one domain."""

FIGURES = RANKED + DECIDED
TOTALS = tuple((metric, "total") for metric in ("auc", "pauc_both", "pauc_own", "precision", "recall", "f1"))
"""Source and target together: their harmonic mean is the paper's "Total"."""

ALL = FIGURES + TOTALS
WITH_INTERVAL = tuple(key for key in ALL if key in RANKED or key[0] in ("auc", "pauc_both", "pauc_own"))

EPSILON = sys.float_info.epsilon
"""The official evaluator's lower limit for the values of a harmonic mean, and for a denominator."""


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent with this number of decimals, halves rounded up.

    Two computations of one figure can differ in the last bit, and then a half would be rounded up in one place and down
    in the other. Therefore a value that differs from a half by such an error only counts as a half.
    """
    return f"{np.floor(100 * fraction * 10**digits + 0.5 + 1e-6) / 10**digits:.{digits}f}"


def roc_area(normal: np.ndarray, anomalous: np.ndarray, max_fpr: float = 1.0) -> np.ndarray:
    """Return the area under the ROC curve, complete or up to a false positive rate.

    As in `sklearn.metrics.roc_auc_score`, the partial area is standardised so that chance is 0.5 (McClish 1989,
    "Analyzing a portion of the ROC curve"), and interpolated linearly if the limit falls between two points.

    Args:
        normal: (…, points) cumulative numbers of normal clips over the distinct scores from the highest to the lowest,
            beginning with 0.
        anomalous: (…, points) the same for anomalous clips.
        max_fpr: upper limit of the false positive rate, in (0, 1].

    Returns:
        (…,) areas; NaN if there are no normal or no anomalous clips.
    """
    left, right = normal[..., :-1], normal[..., 1:]
    low, high = anomalous[..., :-1], anomalous[..., 1:]
    normals, anomalies = normal[..., -1], anomalous[..., -1]
    step = right - left
    if max_fpr < 1:
        width = np.clip(max_fpr * normals[..., None] - left, 0, step)
        high = low + (high - low) * (width / np.maximum(step, EPSILON))
    else:
        width = step
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (width * (low + high)).sum(axis=-1) / (2 * normals * anomalies)
    if max_fpr < 1:
        chance = max_fpr**2 / 2
        area = 0.5 * (1 + (area - chance) / (max_fpr - chance))
    return np.where((normals > 0) & (anomalies > 0), area, np.nan)


def section_figures(clips: "pd.DataFrame", weights: np.ndarray | None = None, max_fpr: float = 0.1) -> np.ndarray:
    """Return the figures of one section.

    Args:
        clips: one row per clip: `domain` (source, target or empty), `label` (normal, anomaly; others do not count),
            `score` and `decision` (1: anomalous; negative: no decision).
        weights: (weightings, clips) how often each clip counts; by default once.
        max_fpr: upper limit of the pAUC's false positive rate.

    Returns:
        (figures, weightings) in the order of `FIGURES`.
    """
    score = clips["score"].to_numpy(dtype=float)
    weights = np.ones((1, len(score))) if weights is None else np.asarray(weights, dtype=float)
    domain, label = clips["domain"].to_numpy(dtype=str), clips["label"].to_numpy(dtype=str)

    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf) != 0)  # of the clips that share a score

    def cumulative(chosen: np.ndarray) -> np.ndarray:
        counts = np.cumsum(weights[:, order] * chosen[order], axis=1)[:, last]
        return np.pad(counts, ((0, 0), (1, 0)))

    normal = {name: cumulative((label == "normal") & (domain == name)) for name in DOMAINS}
    normal["all"] = cumulative(label == "normal")
    anomalous = {name: cumulative((label == "anomaly") & (domain == name)) for name in DOMAINS}
    anomalous["all"] = cumulative(label == "anomaly")

    figures = {("auc", name): roc_area(normal[name], anomalous["all"]) for name in (*DOMAINS, "all")}
    figures["pauc", "all"] = roc_area(normal["all"], anomalous["all"], max_fpr)
    for name in DOMAINS:
        figures["pauc_both", name] = roc_area(normal[name], anomalous["all"], max_fpr)
        figures["pauc_own", name] = roc_area(normal[name], anomalous[name], max_fpr)
        figures |= _decided(clips, weights, name)
    official = np.stack([figures["auc", "source"], figures["auc", "target"], figures["pauc", "all"]])
    figures["omega", "all"] = np.where(np.isnan(official).any(axis=0), np.nan, harmonic_mean(official))
    return np.stack([figures[key] for key in FIGURES])


def _decided(clips: "pd.DataFrame", weights: np.ndarray, domain: str) -> dict[tuple[str, str], np.ndarray]:
    """Precision, recall and F1 of the clips of one domain, with the official evaluator's limit for denominators."""
    decision, label = clips["decision"].to_numpy(dtype=float), clips["label"].to_numpy(dtype=str)
    here = (clips["domain"].to_numpy(dtype=str) == domain) & np.isin(label, ("normal", "anomaly"))
    anomaly = here & (label == "anomaly")
    hits, flagged, anomalies = (
        weights @ chosen for chosen in (anomaly * (decision > 0), here * (decision > 0), anomaly)
    )
    precision = hits / np.maximum(flagged, EPSILON)
    recall = hits / np.maximum(anomalies, EPSILON)
    f1 = 2 * precision * recall / np.maximum(precision + recall, EPSILON)
    defined = (anomalies > 0) & (weights @ (here & ~anomaly) > 0) & bool((decision[here] >= 0).all())
    values = {"precision": precision, "recall": recall, "f1": f1}
    return {(metric, domain): np.where(defined, value, np.nan) for metric, value in values.items()}


def harmonic_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the harmonic mean, over one axis of an array of any shape, of the defined values; NaN if none is.

    Each value counts as at least `EPSILON`, as in the official evaluator.
    """
    values = np.asarray(values, dtype=float)
    defined = ~np.isnan(values)
    inverse = np.where(defined, 1 / np.maximum(np.where(defined, values, 1.0), EPSILON), 0.0)
    with np.errstate(invalid="ignore"):
        return defined.sum(axis=axis) / np.where(defined.any(axis=axis), inverse.sum(axis=axis), np.nan)


def arithmetic_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the arithmetic mean, over one axis of an array of any shape, of the defined values; NaN if none is."""
    values = np.asarray(values, dtype=float)
    defined = ~np.isnan(values)
    count = np.where(defined.any(axis=axis), defined.sum(axis=axis), np.nan)
    return np.where(defined, values, 0.0).sum(axis=axis) / count


def with_totals(figures: np.ndarray, mean: str = "harmonic") -> np.ndarray:
    """Append the totals: the mean of source and target; NaN if one of them is.

    Args:
        figures: (figures, …) in the order of `FIGURES`.
        mean: harmonic or arithmetic.

    Returns:
        (figures + totals, …) in the order of `ALL`.
    """
    average = MEANS[mean]
    pairs = [figures[[FIGURES.index((metric, name)) for name in DOMAINS]] for metric, _ in TOTALS]
    totals = [np.where(np.isnan(pair).any(axis=0), np.nan, average(pair)) for pair in pairs]
    return np.concatenate([figures, np.stack(totals)])


MEANS = {"harmonic": harmonic_mean, "arithmetic": arithmetic_mean}


# --- intervals ----------------------------------------------------------------------------------------------


def interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence intervals of figures between 0 and 1.

    A normal interval with the bootstrap's standard error, on the logit scale (Pepe 2003, "The Statistical Evaluation
    of Medical Tests for Classification and Prediction", has such intervals of the AUC).

    In simulations with true AUCs of 0.6 to 0.96, such 95 % intervals cover the AUC in 84-98 % of cases with 10 clips
    per domain and label (percentiles of the bootstrap: 80-95 %) and in 93-98 % with 50. They cover the pAUC of all
    clips in 88-94 % (75-87 %) and 92-96 %. The pAUC of one domain is covered least, in 85-95 % with 50 clips, since
    five normal clips decide it.

    Args:
        values: (…, 1 + resamples): the figure, and the figure on each resample.
        level: coverage.

    Returns:
        (…,) lower and (…,) upper ends; NaN if all resamples agree (perfect separation, or no resamples), since the
        bootstrap then does not show the uncertainty.
    """
    from scipy.special import expit, logit
    from scipy.stats import norm

    value, error = _error(values)
    inside = np.where((value > 0) & (value < 1) & (error > 0), value, np.nan)
    reach = norm.ppf((1 + level) / 2) * error / (inside * (1 - inside))
    return expit(logit(inside) - reach), expit(logit(inside) + reach)


def compare(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, ...]:
    """Compare the figures of two systems on the same resamples of the same clips.

    The interval of the difference is a normal one with the bootstrap's standard error (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap"). Since the resamples are paired, an effect of a resample on both systems cancels.

    Args:
        first: (…, 1 + resamples), the figure of the first system, and on each resample.
        second: (…, 1 + resamples), the same for the second system.
        level: coverage of the interval.

    Returns:
        (…,) difference (first - second), lower and upper end of its interval, and the probability that the first system
        is better: that a normal distribution around the difference is above 0.
    """
    from scipy.stats import norm

    difference, error = _error(first - second)
    reach = norm.ppf((1 + level) / 2) * error
    with np.errstate(invalid="ignore", divide="ignore"):  # equal systems: 0 / 0
        probability = np.where(difference == 0, 0.5 + 0 * error, norm.cdf(difference / error))
    return difference, difference - reach, difference + reach, probability


def _error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, and the standard deviations of their resamples; deviations within rounding errors are set to 0."""
    if values.shape[-1] < 3:
        return values[..., 0], np.full(values.shape[:-1], np.nan)
    error = values[..., 1:].std(axis=-1, ddof=1)
    return values[..., 0], np.where(error < 1e-12, 0.0, error)


# --- weightings ---------------------------------------------------------------------------------------------


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator that depends only on the seed and these names (machine, section)."""
    return np.random.default_rng([seed, int(digest("/".join(names), 16), 16)])


def _strata(clips: "pd.DataFrame") -> tuple[np.ndarray, list[np.ndarray]]:
    """The recording of each clip, (clips,), and the recordings of each stratum: of the same domains and labels."""
    recording = recording_numbers(clips)
    kind = clips.groupby(["domain", "label"]).ngroup().to_numpy()
    lacks = np.ones((recording.max() + 1, kind.max() + 1), bool)
    lacks[recording, kind] = False
    stratum = np.unique(lacks, axis=0, return_inverse=True)[1].ravel()
    return recording, [np.flatnonzero(stratum == one) for one in range(stratum.max() + 1)]


def resampled(clips: "pd.DataFrame", resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each clip of a section enters each stratified bootstrap resample.

    Recordings are drawn whole (`asd.corpus.recording_numbers`), with replacement within their domain and label, whose
    numbers of recordings are fixed by the corpus. Parts of one recording are alike, so drawing clips would make
    intervals too narrow. Of n recordings n - 1 are drawn, which makes the variance of a mean right instead of too small
    by (n - 1) / n (Rao and Wu 1988, "Resampling inference with complex survey data").

    Args:
        clips: of one section, one row per clip.
        resamples: how many.
        rng: draws the recordings.

    Returns:
        (resamples, clips) counts.
    """
    recording, strata = _strata(clips)
    weights = np.zeros((resamples, recording.max() + 1))
    for drawn in strata:
        size = len(drawn)
        draws = rng.integers(size, size=(resamples, max(size - 1, 1))) + size * np.arange(resamples)[:, None]
        weights[:, drawn] = np.bincount(draws.ravel(), minlength=resamples * size).reshape(resamples, size)
    return weights[:, recording]


def halved(clips: "pd.DataFrame", splits: int, rng: np.random.Generator) -> np.ndarray:
    """Return random halvings of a section's recordings, within domain and label; an odd one goes to either half.

    Args:
        clips: of one section, one row per clip.
        splits: how many.
        rng: draws the halves.

    Returns:
        (splits, clips) 1 for the clips of one half, 0 for those of the other.
    """
    recording, strata = _strata(clips)
    weights = np.zeros((splits, recording.max() + 1))
    for dealt in strata:
        rank = rng.random((splits, len(dealt))).argsort(axis=1).argsort(axis=1)
        odd = rng.integers(2, size=(splits, 1)) * (len(dealt) % 2)
        weights[:, dealt] = rank < len(dealt) // 2 + odd
    return weights[:, recording]


# --- many sections ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """The figures of one system on many sections.

    Attributes:
        sections: (machine, section) of each row.
        values: (sections, figures, weightings): the figures of `FIGURES` for each weighting.
    """

    sections: tuple[tuple[str, str], ...]
    values: np.ndarray

    def of(self, machine: str) -> "Figures":
        """The rows of one machine."""
        rows = [row for row, (name, _) in enumerate(self.sections) if name == machine]
        return Figures(tuple(self.sections[row] for row in rows), self.values[rows])

    @property
    def machines(self) -> list[str]:
        """The machines, in the order of the rows."""
        return list(dict.fromkeys(machine for machine, _ in self.sections))


def joined(parts: Iterable[Figures]) -> Figures:
    """Return the figures of several machines as one object."""
    parts = list(parts)
    return Figures(
        tuple(section for part in parts for section in part.sections), np.concatenate([part.values for part in parts])
    )


def judged(clips: "pd.DataFrame", part: str = "development") -> "pd.DataFrame":
    """Return the test clips of a part of the corpus; training clips have scores, too, but are not judged."""
    return clips[(clips["part"] == part) & (clips["split"] == "test")]


def sections(clips: "pd.DataFrame") -> dict[str, "pd.DataFrame"]:
    """Return the labelled clips of a machine by section.

    Each section is sorted by file name, so that random draws do not depend on the order of the rows.
    """
    labelled = clips[clips["label"].isin(("normal", "anomaly"))].sort_values("file", kind="stable")
    return {str(section): rows for section, rows in labelled.groupby("section")}


def lacking(clips: "pd.DataFrame") -> list[str]:
    """Return which clips a section lacks ('anomalous clips', …), so that some figures are undefined."""
    missing = []
    if not (clips["label"] == "anomaly").any():
        missing.append("anomalous clips")
    missing += [
        f"normal clips of the {domain} domain"
        for domain in DOMAINS
        if not ((clips["label"] == "normal") & (clips["domain"] == domain)).any()
    ]
    return missing


def machine_figures(
    machine: str, clips: "pd.DataFrame", max_fpr: float = 0.1, resamples: int = 0, seed: int = 0
) -> Figures:
    """Return the figures of one machine's sections, on the clips themselves and on bootstrap resamples of them.

    The resamples depend only on the seed, the machine, the section and the names of the clips. The figures of two
    systems on the same clips are therefore paired, resample by resample.

    Args:
        machine: the machine's name.
        clips: one row per clip, see `section_figures`, with `file` and `section`.
        max_fpr: upper limit of the pAUC's false positive rate.
        resamples: number of bootstrap resamples.
        seed: of the resamples.

    Returns:
        Figures with 1 + resamples weightings, the first of which are the figures themselves.
    """
    rows = []
    for section, here in sections(clips).items():
        weights = np.vstack([np.ones((1, len(here))), resampled(here, resamples, generator(seed, machine, section))])
        rows.append(((machine, section), section_figures(here, weights, max_fpr)))
    values = np.stack([figures for _, figures in rows]) if rows else np.empty((0, len(FIGURES), 1 + resamples))
    return Figures(tuple(key for key, _ in rows), values)


def mean_figures(figures: Figures, mean: str = "harmonic") -> np.ndarray:
    """Return a mean over sections, with the totals.

    Args:
        figures: of the sections.
        mean: harmonic, arithmetic (of all sections' values), or machines (the arithmetic mean over machines of
            their harmonic means, as in the paper's "Total (Ave.)").

    Returns:
        (figures + totals, weightings) in the order of `ALL`.
    """
    if mean == "machines":
        return arithmetic_mean(np.stack([mean_figures(figures.of(machine)) for machine in figures.machines]))
    return with_totals(MEANS[mean](figures.values), mean)
