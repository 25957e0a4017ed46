"""A Gaussian, and the Mahalanobis distance to it (Gaussian-AD; Rippel et al. 2021, arXiv:2005.14140).

Every covariance here is scale·S + shift·I, where S is the maximum-likelihood covariance of n rows of d features about
the mean of their domain. If rows are few (n < d), S has low rank: the precision is then computed from the n×n Gram
matrix of the centred rows by the matrix inversion lemma, and no matrix of size d×d is formed. If rows are many, only
sums about a fixed point are kept, in float64, so that folds are sums of sums and memory does not grow with the rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asd.errors import InputError
from asd.settings import Mvg
from asd.smote import grown

ROWS_AT_ONCE = 2048
"""Rows in float64 at one time: a matrix product large enough to run at full speed, 34 MB for 2096 features."""


@dataclass(frozen=True)
class Gaussian:
    """Means and precision (inverse covariance) of d features divided by `scale`.

    With the `factor` F, the precision is F'F if `isotropic` is 0, otherwise isotropic·I - F'F.
    """

    means: np.ndarray
    """(domains, d) float64: the mean of each domain; the domains share the precision."""
    scale: np.ndarray
    """(d,) what features are divided by; ones unless they were standardised."""
    factor: np.ndarray
    """(r, d) float64; r is the number of rows if they were fewer than d."""
    isotropic: float
    """The precision in the directions in which the rows did not vary; 0 if F'F is the whole precision."""
    variance: float
    """The estimated covariance's mean over its diagonal."""
    shrinkage: float
    """Weight of the mean variance in the covariance, 0 to 1 (`ledoit_wolf`, `oas`)."""
    count: int
    """Rows that it was fitted to."""

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance (the square root of the quadratic form) to each domain's mean.

        Args:
            rows: (n, d).

        Returns:
            (n, domains) float64.
        """
        return np.stack([self._distance(rows, mean) for mean in self.means], 1)

    def _distance(self, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
        halved = self.triangular and len(rows) > 1  # for one row, importing scipy takes longer than the product
        if halved:
            from scipy.linalg.blas import dtrmm
        squares = np.empty(len(rows))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            centred = rows[begin : begin + ROWS_AT_ONCE] - mean
            centred /= self.scale
            if halved:
                projected = dtrmm(1.0, self.factor.T, centred.T, trans_a=1, overwrite_b=1).T
            else:
                projected = centred @ self.factor.T
            form = np.einsum("ij,ij->i", projected, projected)
            if self.isotropic:
                form = self.isotropic * np.einsum("ij,ij->i", centred, centred) - form
            squares[begin : begin + ROWS_AT_ONCE] = form
        return np.sqrt(np.maximum(squares, 0))  # rounding can leave a row of the fit itself just below 0

    def falls(self, row: np.ndarray, domain: int, groups: list[np.ndarray]) -> np.ndarray:
        """Return how much the squared distance of a row falls if a group of its features takes the expected values.

        For a group B of the features z = (row - mean) / scale, with the precision P, the conditional mean of B given
        the other features differs from z_B by P_BB⁻¹ (P z)_B. If B takes this mean, the squared distance z'P z falls by

            (P z)_B' P_BB⁻¹ (P z)_B,

        which is never negative, unlike the terms z_j (P z)_j, which add up to z'P z.

        Args:
            row: (d,).
            domain: the domain to whose mean the distance is taken.
            groups: the columns of each group.

        Returns:
            (groups,) float64.
        """
        centred = (row - self.means[domain]) / self.scale
        applied = self.factor.T @ (self.factor @ centred)
        if self.isotropic:
            applied = self.isotropic * centred - applied
        found = np.empty(len(groups))
        for number, columns in enumerate(groups):
            block = self.factor[:, columns].T @ self.factor[:, columns]
            if self.isotropic:
                block = self.isotropic * np.eye(len(columns)) - block
            found[number] = applied[columns] @ np.linalg.lstsq(block, applied[columns], rcond=None)[0]
        return found

    @cached_property
    def triangular(self) -> bool:
        """Whether the factor is a square of zeros above the diagonal, an inverted Cholesky factor."""
        rows, columns = self.factor.shape
        return rows == columns and not self.isotropic and not np.triu(self.factor, 1).any()


@dataclass(frozen=True)
class Moments:
    """Sums over rows y = x - shift: what mean, covariance and both shrinkage estimates need.

    Since the point `shift` is within the data, features with a mean far above their deviation lose no digits. Sums
    about the same point can be added, so a fold is left out by adding the sums of the other folds.
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


def streams(settings: Mvg, rows: int, features: int) -> bool:
    """Return whether the moments of the rows are enough for a fit.

    Args:
        settings: of the Gaussian; standardised features and synthetic rows need the rows themselves.
        rows: n; of fewer rows than features the Gram matrix is smaller than the moments.
        features: d.
    """
    return rows >= features and not settings.standardise and not settings.smote


def fit(
    rows: np.ndarray,
    settings: Mvg,
    unit: float = 1.0,
    domain: np.ndarray | None = None,
    target: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Gaussian:
    """Fit a Gaussian to rows (n, d), n at least 1.

    Agrees with scikit-learn's LedoitWolf, OAS and EmpiricalCovariance, with two exceptions for which those have no
    usable answer. Rows that do not vary at all (a single clip) have the covariance unit·I. Ledoit-Wolf's estimate of
    its own error is 0 for two rows, which would leave the covariance singular: then OAS's shrinkage is used.

    Args:
        rows: (n, d) of any floating type.
        settings: of the covariance.
        unit: the variance of rows that do not vary (not for `ridge`, which has a variance of its own).
        domain: (n,) int, 0, 1, … without gaps: each domain has its own mean, and the covariance is that of the rows
            about these; None: one domain.
        target: (n,) bool, the rows of the target domain, which SMOTE grows; needed for `smote` only.
        rng: draws the synthetic rows; needed for `smote` only.

    Raises:
        InputError: the ridge is smaller than the rounding errors of the covariance.
    """
    from scipy.linalg import cholesky, eigh, solve_triangular

    domain = np.zeros(len(rows), dtype=int) if domain is None else domain
    if settings.smote:
        rows, domain = grown(rows, domain, target, settings, rng)
    count, dimensions = rows.shape
    scale = deviations(rows, domain) if settings.standardise else np.ones(dimensions)
    if settings.standardise:
        rows = rows / scale
    # About the first row, rows that are all the same come out as exact zeros.
    origin = rows[0].astype(np.float64)
    if count >= dimensions:
        sums = [
            moments((own[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(own), ROWS_AT_ONCE)), origin)
            for own in (rows[domain == one] for one in range(domain.max() + 1))
        ]
        return fit_moments(sums, settings, unit, scale)
    rows = rows - origin
    centres = np.stack([rows[domain == one].mean(0) for one in range(domain.max() + 1)])
    rows -= centres[domain]
    means = scale * (origin + centres)
    gram = rows @ rows.T / count  # has the non-zero eigenvalues of the covariance
    fourth = count**2 * (gram.diagonal() @ gram.diagonal())
    weight, shift, shrinkage = _coefficients(settings, count, dimensions, gram, fourth, unit)
    variance = weight * gram.trace() / dimensions + shift
    if shift == 0:
        values, vectors = eigh(gram, overwrite_a=True, check_finite=False)
        kept = values > dimensions * np.finfo(float).eps * values[-1]
        factor = (vectors[:, kept] / (values[kept] * np.sqrt(count))).T @ rows
        return Gaussian(means, scale, factor, 0.0, variance, shrinkage, count)
    # (shift·I + w X'X)⁻¹ = (I - w X' (shift·I + w X X')⁻¹ X) / shift
    gram *= weight
    gram.flat[:: count + 1] += shift
    lower = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    rows *= np.sqrt(weight / count / shift)
    factor = solve_triangular(lower, rows, lower=True, overwrite_b=True, check_finite=False)
    return Gaussian(means, scale, factor, 1 / shift, variance, shrinkage, count)


def deviations(rows: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Return the deviation of each feature about the mean of its row's domain, (d,); 1 for a feature without variation.

    Args:
        rows: (n, d).
        domain: (n,) int.
    """
    squares = np.zeros(rows.shape[1])
    for one in np.unique(domain):
        own = rows[domain == one]
        squares += len(own) * own.var(0, dtype=np.float64)
    found = np.sqrt(squares / len(rows))
    largest = np.abs(rows).max(0)
    return np.where(found > 1e-9 * largest, found, 1.0)  # smaller ones are rounding errors


def fit_moments(sums: list[Moments], settings: Mvg, unit: float = 1.0, scale: np.ndarray | None = None) -> Gaussian:
    """Fit a Gaussian to the rows that went into `sums`, as `fit` does.

    Args:
        sums: of each domain, all about the same point; of rows that were divided by `scale`.
        settings: of the covariance.
        unit: the variance of rows that do not vary.
        scale: (d,); None: ones.
    """
    from scipy.linalg import cholesky, eigh
    from scipy.linalg.lapack import dtrtri

    count, dimensions = sum(one.count for one in sums), len(sums[0].shift)
    scale = np.ones(dimensions) if scale is None else scale
    centres = [one.total / one.count for one in sums]
    covariance = sum(one.scatter for one in sums) / count
    second = covariance.trace()  # of y
    fourth = sum(_fourth(one, centre) for one, centre in zip(sums, centres, strict=True))
    for one, centre in zip(sums, centres, strict=True):
        covariance -= np.outer(centre, centre) * (one.count / count)
    if covariance.trace() <= 1e-12 * second:
        covariance[:] = 0  # the rows are all the same: what is left are rounding errors
    weight, shift, shrinkage = _coefficients(settings, count, dimensions, covariance, fourth, unit)
    variance = weight * covariance.trace() / dimensions + shift
    if shift == 0:
        values, vectors = eigh(covariance, overwrite_a=True, check_finite=False)
        kept = values > dimensions * np.finfo(float).eps * values[-1]
        factor = (vectors[:, kept] / np.sqrt(values[kept])).T
    else:
        covariance *= weight
        covariance.flat[:: dimensions + 1] += shift
        # The covariance is its own transpose, which is in LAPACK's order.
        upper = cholesky(covariance.T, overwrite_a=True, check_finite=False)
        factor = dtrtri(upper, overwrite_c=1)[0].T  # of the covariance U'U the precision is F'F with F = U'⁻¹
    means = scale * (sums[0].shift + np.stack(centres))
    return Gaussian(means, scale, factor, 0.0, variance, shrinkage, count)


def _fourth(sums: Moments, centre: np.ndarray) -> float:
    """Σ |y - centre|⁴ of the rows of one domain, multiplied out; `centre` (d,) is their mean."""
    square = centre @ centre
    quadratic = centre @ sums.scatter @ centre
    found = sums.quartic + 4 * quadratic - 4 * (centre @ sums.cubic)
    return found + sums.count * square * (2 * sums.scatter.trace() / sums.count - 3 * square)


def _coefficients(
    settings: Mvg, count: int, dimensions: int, matrix: np.ndarray, fourth: float, unit: float
) -> tuple[float, float, float]:
    """Return (scale, shift, shrinkage) of the covariance scale·S + shift·I.

    Args:
        settings: the estimate.
        count: n, the number of rows.
        dimensions: d, the number of features.
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
    # The squared distance of S from its target, the mean variance times I. It is 0 if the two are equal.
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
