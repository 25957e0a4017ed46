"""A Gaussian a section, and the Mahalanobis distance to it (Gaussian-AD; Rippel et al. 2021, arXiv:2005.14140).

Every covariance here is scale·S + shift·I, S the maximum-likelihood covariance of n rows of d features. Where rows
are few (n < d), S has low rank: the precision then comes from the n×n Gram matrix of the centred rows by the matrix
inversion lemma, and nothing of size d×d is ever formed. Where rows are many, they stream: only sums about a fixed
point are kept, in float64, so that folds are sums of sums and memory does not grow with the rows.

The Gaussians of a machine are one HDF5 file:

    <section>/mean        (d,) float64
    <section>/factor      (r, d) float64, checksummed; the precision is F'F, or isotropic·I - F'F (see `Gaussian`)
    <section>             attributes isotropic, variance, shrinkage, count
    held_out/file         (clips,) text, the training clips
    held_out/score        (clips,) float64, each by a Gaussian that was fitted without it; nan where there was none
    attributes: settings (JSON of Mvg)
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.errors import InputError
from asd.files import written
from asd.settings import Mvg

if TYPE_CHECKING:
    from asd.features import Features

ROWS_AT_ONCE = 2048
"""Rows in float64 at one time: a matrix product large enough to run at full speed, 34 MB for 2096 features."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gaussian:
    """Mean and precision (inverse covariance) of d features.

    The precision is F'F where `isotropic` is 0, else isotropic·I - F'F, with F the `factor`.
    """

    mean: np.ndarray
    """(d,) float64."""
    factor: np.ndarray
    """(r, d) float64; r is the number of rows where they were fewer than d."""
    isotropic: float
    """The precision in the directions in which the rows did not vary; 0 where F'F is the whole of it."""
    variance: float
    """The estimated covariance's mean over its diagonal."""
    shrinkage: float
    """Weight of the mean variance in the covariance, 0 to 1 (`ledoit_wolf`, `oas`)."""
    count: int
    """Rows that it was fitted to."""

    def distance(self, rows: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance (the square root of the quadratic form) of rows (n, d), (n,) float64."""
        from scipy.linalg.blas import dtrmm

        squares = np.empty(len(rows))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            centred = rows[begin : begin + ROWS_AT_ONCE] - self.mean
            if self.triangular:
                projected = dtrmm(1.0, self.factor.T, centred.T, trans_a=1, overwrite_b=1).T  # half of the product
            else:
                projected = centred @ self.factor.T
            form = np.einsum("ij,ij->i", projected, projected)
            if self.isotropic:
                form = self.isotropic * np.einsum("ij,ij->i", centred, centred) - form
            squares[begin : begin + ROWS_AT_ONCE] = form
        return np.sqrt(np.maximum(squares, 0))  # rounding can leave a row of the fit itself just below 0

    @cached_property
    def triangular(self) -> bool:
        """Whether the factor is a square of zeros above the diagonal, an inverted Cholesky factor."""
        rows, columns = self.factor.shape
        return rows == columns and not self.isotropic and not np.triu(self.factor, 1).any()


@dataclass(frozen=True)
class Moments:
    """Sums over rows y = x - shift: what mean, covariance and both shrinkage estimates need.

    About a point within the data, features with a mean far above their deviation lose no digits. Sums about the
    same point add up, so the rows of a fold are left out by adding the other folds'.
    """

    shift: np.ndarray
    """(d,) float64, a point within the data."""
    count: int
    total: np.ndarray
    """(d,), Σ y."""
    scatter: np.ndarray
    """(d, d), Σ y y'."""
    cubic: np.ndarray
    """(d,), Σ |y|² y."""
    quartic: float
    """Σ |y|⁴."""

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.shift,
            self.count + other.count,
            self.total + other.total,
            self.scatter + other.scatter,
            self.cubic + other.cubic,
            self.quartic + other.quartic,
        )


def moments(blocks: Iterable[np.ndarray], shift: np.ndarray) -> Moments:
    """Return the moments of blocks of rows, each (n, d), about `shift` (d,), a float64 point within the data."""
    count, quartic = 0, 0.0
    total, cubic, scatter = np.zeros_like(shift), np.zeros_like(shift), np.zeros((len(shift), len(shift)))
    for block in blocks:
        rows = block - shift
        squares = np.einsum("ij,ij->i", rows, rows)
        count += len(rows)
        total += rows.sum(0)
        scatter += rows.T @ rows
        cubic += squares @ rows
        quartic += squares @ squares
    return Moments(shift, count, total, scatter, cubic, float(quartic))


def fit(rows: np.ndarray, settings: Mvg, unit: float = 1.0) -> Gaussian:
    """Fit a Gaussian to rows (n, d), n at least 1.

    Agrees with scikit-learn's LedoitWolf, OAS and EmpiricalCovariance; with two exceptions, where those have no
    usable answer. Rows that do not vary at all (a single clip) have the covariance unit·I. Ledoit-Wolf's estimate of
    its own error is 0 for two rows, which would leave the covariance singular: then OAS's shrinkage is used.

    Args:
        unit: the variance where the rows have none (not for `ridge`, which brings its own).

    Raises:
        InputError: a ridge that is lost in the rounding of the covariance.
    """
    from scipy.linalg import cholesky, eigh, solve_triangular

    count, dimensions = rows.shape
    # About the first row, rows that are all the same come out as exact zeros.
    origin = rows[0].astype(np.float64)
    if count >= dimensions:
        blocks = (rows[begin : begin + ROWS_AT_ONCE] for begin in range(0, count, ROWS_AT_ONCE))
        return fit_moments(moments(blocks, origin), settings, unit)
    rows = rows - origin
    centre = rows.mean(0)
    rows -= centre
    gram = rows @ rows.T / count  # has the non-zero eigenvalues of the covariance
    fourth = count**2 * (gram.diagonal() @ gram.diagonal())
    scale, shift, shrinkage = _coefficients(settings, count, dimensions, gram, fourth, unit)
    variance = scale * gram.trace() / dimensions + shift
    if shift == 0:
        values, vectors = eigh(gram, overwrite_a=True, check_finite=False)
        kept = values > dimensions * np.finfo(float).eps * values[-1]
        factor = (vectors[:, kept] / (values[kept] * np.sqrt(count))).T @ rows
        return Gaussian(origin + centre, factor, 0.0, variance, shrinkage, count)
    # (shift·I + w X'X)⁻¹ = (I - w X' (shift·I + w X X')⁻¹ X) / shift
    gram *= scale
    gram.flat[:: count + 1] += shift
    lower = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    rows *= np.sqrt(scale / count / shift)
    factor = solve_triangular(lower, rows, lower=True, overwrite_b=True, check_finite=False)
    return Gaussian(origin + centre, factor, 1 / shift, variance, shrinkage, count)


def fit_moments(sums: Moments, settings: Mvg, unit: float = 1.0) -> Gaussian:
    """Fit a Gaussian to the rows that went into `sums`, as `fit` does."""
    from scipy.linalg import cholesky, eigh
    from scipy.linalg.lapack import dtrtri

    count, dimensions = sums.count, len(sums.shift)
    centre = sums.total / count
    covariance = sums.scatter / count
    second = covariance.trace()  # of y, as `fourth`, the sum over |y - centre|⁴ multiplied out
    square = centre @ centre
    fourth = sums.quartic + 4 * count * (centre @ covariance @ centre) - 4 * (centre @ sums.cubic)
    fourth += count * square * (2 * second - 3 * square)
    covariance -= np.outer(centre, centre)
    if covariance.trace() <= 1e-12 * second:
        covariance[:] = 0  # the rows are all the same: what is left is rounding
    scale, shift, shrinkage = _coefficients(settings, count, dimensions, covariance, fourth, unit)
    variance = scale * covariance.trace() / dimensions + shift
    if shift == 0:
        values, vectors = eigh(covariance, overwrite_a=True, check_finite=False)
        kept = values > dimensions * np.finfo(float).eps * values[-1]
        factor = (vectors[:, kept] / np.sqrt(values[kept])).T
    else:
        covariance *= scale
        covariance.flat[:: dimensions + 1] += shift
        # The covariance is its own transpose, which is in LAPACK's order.
        upper = cholesky(covariance.T, overwrite_a=True, check_finite=False)
        factor = dtrtri(upper, overwrite_c=1)[0].T  # of the covariance U'U the precision is F'F with F = U'⁻¹
    return Gaussian(sums.shift + centre, factor, 0.0, variance, shrinkage, count)


def _coefficients(
    settings: Mvg, count: int, dimensions: int, matrix: np.ndarray, fourth: float, unit: float
) -> tuple[float, float, float]:
    """Return (scale, shift, shrinkage) of the covariance scale·S + shift·I.

    Args:
        matrix: S, or the Gram matrix over n, which has the same trace and Frobenius norm.
        fourth: Σ |x - mean|⁴ over the rows.
        unit: the variance of rows that do not vary.
    """
    trace = float(matrix.trace())
    norm = float(np.vdot(matrix, matrix))
    if settings.covariance == "ridge":
        if settings.ridge < 1e-12 * trace:
            raise InputError(
                f"mvg.ridge: {settings.ridge} is lost in the rounding of features whose variances add up to "
                f"{trace:.3g}; expected at least {1e-12 * trace:.1g}, or covariance: empirical"
            )
        return 1.0, settings.ridge, 0.0
    if trace == 0:
        return 0.0, unit, 1.0
    if settings.covariance == "empirical":
        return 1.0, 0.0, 0.0
    # The squared distance of S from its target, the mean variance times I. It is 0 where the two are one.
    apart = max(norm - trace**2 / dimensions, 0.0)
    # OAS: Chen et al. 2010, IEEE Trans. Signal Processing 58(10), equation (23), as scikit-learn has it.
    shrinkage = min((norm + trace**2) / ((count + 1) * apart), 1.0) if apart else 1.0
    if settings.covariance == "ledoit_wolf":
        # Ledoit and Wolf 2004, J. Multivariate Analysis 88(2), section 3.2: the mean squared distance of the rows'
        # outer products from S, over n, against `apart`.
        error = (fourth / count - norm) / count
        if error > 1e-10 * apart:
            shrinkage = min(error / apart, 1.0) if apart else 1.0
    return 1 - shrinkage, shrinkage * trace / dimensions, shrinkage


# --- a machine's sections -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sections:
    """A machine's Gaussians, with the scores of its training clips."""

    gaussians: dict[str, Gaussian]
    """By section."""
    held_out: dict[str, float]
    """Score of every training clip, by file, each by a Gaussian that was fitted without it; nan where none could."""
    settings: Mvg


def chosen_columns(widths: np.ndarray, stages: list[int]) -> np.ndarray:
    """Return the columns of the chosen stages (1 to 9) where stages of these widths lie side by side."""
    ends = np.cumsum(widths)
    return np.concatenate([np.arange(ends[stage - 1] - widths[stage - 1], ends[stage - 1]) for stage in stages])


def fit_sections(features: "Features", settings: Mvg, folds: int, generator: np.random.Generator) -> Sections:
    """Fit a Gaussian to each section's training clips, and score these clips held out.

    Args:
        features: an open features file.
        folds: the clips of a section are dealt into so many folds at random, and each fold is scored by a Gaussian
            fitted to the others; with fewer clips, each clip is a fold.

    Raises:
        InputError: no training clips, fewer than 2 folds, features that are not finite, or a damaged file.
    """
    if folds < 2:
        raise InputError(f"folds: found {folds}; expected at least 2, since each is scored by a fit to the others")
    clips = features.clips
    training = clips[clips["split"] == "train"]
    if training.empty:
        raise InputError(f"{features.path}: no training clips (split train) to fit a Gaussian to")
    gaussians, held_out = {}, {}
    for section in sorted(training["section"].unique()):
        chosen = np.flatnonzero((clips["split"] == "train") & (clips["section"] == section))
        gaussian, scores = _fit_section(features, chosen, settings, folds, generator)
        gaussians[section] = gaussian
        held_out.update(zip(clips["file"].iloc[chosen], scores.tolist(), strict=True))
        where = f"machine {clips['machine'].iloc[chosen[0]]}, section {section}"
        log.info(
            f"{where}: {gaussian.count} rows of {len(chosen)} clips, {len(gaussian.mean)} features, "
            f"shrinkage {gaussian.shrinkage:.4f}"
        )
        if len(chosen) == 1:
            log.warning(f"{where}: a single training clip, which leaves none to score it by; its score is left empty")
    return Sections(gaussians, held_out, settings)


def _fit_section(
    features: "Features", clips: np.ndarray, settings: Mvg, folds: int, generator: np.random.Generator
) -> tuple[Gaussian, np.ndarray]:
    """Return the Gaussian of these clips (positions in the file), and their held-out scores (clips,)."""
    columns = chosen_columns(features.widths, settings.stages)
    counts = np.diff(features.offsets)[clips]
    folds = min(folds, len(clips))
    fold = generator.permutation(len(clips)) % folds
    if counts.sum() < len(columns):
        rows = np.concatenate([block for block, _ in _blocks(features, clips, columns)])
        fold_of_row = np.repeat(fold, counts)
        gaussian = fit(rows, settings)

        def without(one: int) -> Gaussian:
            return fit(rows[fold_of_row != one], settings, gaussian.variance)
    else:
        origin = next(_blocks(features, clips[:1], columns))[0][0].astype(np.float64)
        sums = [
            moments((block for block, _ in _blocks(features, clips[fold == one], columns)), origin)
            for one in range(folds)
        ]
        gaussian = fit_moments(reduce(add, sums), settings)

        def without(one: int) -> Gaussian:
            return fit_moments(reduce(add, sums[:one] + sums[one + 1 :]), settings, gaussian.variance)

    # A fold may leave a single clip, which has no variance: it takes the section's, so that all scores are in one unit.
    scores = np.full(len(clips), np.nan)
    if folds > 1:
        for one in range(folds):
            scores[fold == one] = _clip_scores(features, clips[fold == one], columns, without(one))
    return gaussian, scores


def scores(features: "Features", sections: Sections) -> np.ndarray:
    """Return the score of every clip, (clips,) float64: held-out for training clips, nan where they have none.

    The score is the Mahalanobis distance to the Gaussian of the clip's section; for windows its mean over the clip
    (Narita 2022, section 2.2.2).

    Raises:
        InputError: a section without a Gaussian, Gaussians of other features or clips, features that are not finite,
            or a damaged file.
    """
    clips, held_out = features.clips, sections.held_out
    columns = chosen_columns(features.widths, sections.settings.stages)
    unknown = sorted(set(clips["section"]) - set(sections.gaussians))
    if unknown:
        raise InputError(
            f"{features.path}: machine {clips['machine'].iloc[0]}: section {', '.join(unknown)} has test clips but no "
            f"training clips; sections with a Gaussian: {', '.join(sections.gaussians)}. Add training clips or leave "
            "it out."
        )
    for section, gaussian in sections.gaussians.items():
        if len(gaussian.mean) != len(columns):
            raise InputError(
                f"{features.path}: section {section}: found {len(columns)} features in the chosen stages, but the "
                f"Gaussian has {len(gaussian.mean)}; fit it to this features file"
            )
    training = (clips["split"] == "train").to_numpy()
    missing = [file for file in clips["file"][training] if file not in held_out]
    if missing:
        raise InputError(
            f"{features.path}: {missing[0]}: a training clip without a held-out score ({len(missing)} such); "
            "fit the Gaussians to this features file"
        )
    values = np.array([held_out.get(file, np.nan) for file in clips["file"]])
    for section, gaussian in sections.gaussians.items():
        chosen = np.flatnonzero(~training & (clips["section"] == section))
        values[chosen] = _clip_scores(features, chosen, columns, gaussian)
    return values


def _clip_scores(features: "Features", clips: np.ndarray, columns: np.ndarray, gaussian: Gaussian) -> np.ndarray:
    """Return the mean distance of each clip's rows, (clips,)."""
    means = [
        np.add.reduceat(gaussian.distance(rows), np.cumsum(counts) - counts) / counts
        for rows, counts in _blocks(features, clips, columns)
    ]
    return np.concatenate(means) if means else np.empty(0)


def _blocks(features: "Features", clips: np.ndarray, columns: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows (n, d) float32, rows of each clip) of whole clips, together `ROWS_AT_ONCE` rows or a clip more."""
    counts = np.diff(features.offsets)[clips]
    block = np.cumsum(counts) // ROWS_AT_ONCE
    for one in np.unique(block):
        chosen, each = clips[block == one], counts[block == one]
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)  # clips that lie side by side, read at once
        rows = np.concatenate(
            [features.rows(features.offsets[run[0]], features.offsets[run[-1] + 1], columns) for run in runs]
        )
        finite = np.isfinite(rows).all(1)
        if not finite.all():
            clip = np.repeat(chosen, each)[finite.argmin()]
            raise InputError(
                f"{features.path}: {features.clips['file'].iloc[clip]}: features that are not finite; look at the "
                "training curve of the network that made them"
            )
        yield rows, each


# --- the file -----------------------------------------------------------------------------------------------


def write_sections(path: Path, sections: Sections) -> None:
    """Write a machine's Gaussians (HDF5; the layout is above)."""
    import h5py

    files = [file.encode() for file in sections.held_out]
    # Text of fixed length and a format of 2018, so that checksums reach everything.
    text = h5py.string_dtype("utf-8", max(map(len, files)))
    with written(path) as aside, h5py.File(aside, "w", libver=("v110", "v110")) as file:
        file.attrs["settings"] = sections.settings.model_dump_json()
        for section, gaussian in sections.gaussians.items():
            group = file.create_group(section)
            for name in ("isotropic", "variance", "shrinkage", "count"):
                group.attrs[name] = getattr(gaussian, name)
            group.create_dataset("mean", data=gaussian.mean, fletcher32=True)
            chunks = (min(64, len(gaussian.factor)), len(gaussian.mean))
            group.create_dataset("factor", data=gaussian.factor, chunks=chunks, fletcher32=True)
        file.create_dataset("held_out/file", data=np.array(files, dtype=text), fletcher32=True)
        file.create_dataset("held_out/score", data=list(sections.held_out.values()), dtype=float, fletcher32=True)


def read_sections(path: Path) -> Sections:
    """Read a machine's Gaussians.

    Raises:
        InputError: not there, damaged, or not such a file.
    """
    import h5py

    if not Path(path).exists():
        raise InputError(f"{path}: no such file of Gaussians; make it with mvg.py")
    try:
        with h5py.File(path) as file:
            gaussians = {
                section: Gaussian(
                    group["mean"][:],
                    group["factor"][:],
                    *(float(group.attrs[name]) for name in ("isotropic", "variance", "shrinkage")),
                    int(group.attrs["count"]),
                )
                for section, group in file.items()
                if section != "held_out"
            }
            held_out = dict(zip(file["held_out/file"].asstr()[:], file["held_out/score"][:].tolist(), strict=True))
            return Sections(gaussians, held_out, Mvg.model_validate_json(file.attrs["settings"]))
    # h5py raises all of these on a file whose structures are damaged or other than expected.
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, or not a file of Gaussians ({reason}); delete it and run again") from None
