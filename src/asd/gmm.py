"""A Gaussian mixture of the training rows, and how improbable a row is under it (TWFR-GMM; Guan et al. 2023).

scikit-learn fits the mixture; scores are computed with numpy, from arrays that can be stored.
"""

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from asd.errors import InputError
from asd.settings import Gmm
from asd.smote import grown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixture:
    """Gaussians of d features with weights; the precision of component k is F F', F = factors[k]."""

    weights: np.ndarray
    """(components,), which add up to 1."""
    means: np.ndarray
    """(components, d)."""
    factors: np.ndarray
    """(components, d, d), upper triangular, or (components, d): the diagonals alone."""
    by_component: bool
    """Whether the score is that of the nearest component, without weights."""

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the score of rows (n, d), (n, 1) float64: a negative log density, which can be below 0."""
        densities = self.log_densities(rows)
        if self.by_component:
            return -densities.max(1, keepdims=True)
        return -np.logaddexp.reduce(densities + np.log(self.weights), axis=1, keepdims=True)

    def log_densities(self, rows: np.ndarray) -> np.ndarray:
        """Return the log density of rows (n, d) under each component, without weights, (n, components) float64."""
        found = np.empty((len(rows), len(self.means)))
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            full = factor.ndim == 2
            projected = (rows - mean) @ factor if full else (rows - mean) * factor
            diagonal = factor.diagonal() if full else factor
            constant = np.log(diagonal).sum() - len(mean) / 2 * np.log(2 * np.pi)
            found[:, k] = constant - np.einsum("ij,ij->i", projected, projected) / 2
        return found


def fit(rows: np.ndarray, settings: Gmm, rng: np.random.Generator, target: np.ndarray) -> Mixture:
    """Fit a mixture to the training rows of a section by expectation maximisation, from k-means.

    A mixture finds the domains itself, so it is not told them.

    Args:
        rows: (n, d).
        settings: of the mixture.
        rng: seeds k-means, and draws synthetic rows.
        target: (n,) bool, the rows of the target domain, which SMOTE grows.

    Raises:
        InputError: fewer rows than components, or a covariance that cannot be inverted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    rows, _ = grown(rows, np.zeros(len(rows), int), target, settings, rng)
    if len(rows) < settings.components:
        raise InputError(
            f"gmm.components: found {settings.components} components for {len(rows)} training rows; take fewer "
            "components, or add training clips"
        )
    rows = rows.astype(np.float64)
    mixture = GaussianMixture(
        settings.components,
        covariance_type=settings.covariance,
        reg_covar=settings.reg * (rows.var(0).mean() or 1.0),  # 1 if the rows do not vary at all
        random_state=int(rng.integers(2**32)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logged below; k-means warns of fewer distinct rows
        try:
            mixture.fit(rows)
        except ValueError as error:
            if not np.isfinite(rows).all():
                raise
            raise InputError(
                f"gmm.reg: {settings.reg} is too little for {len(rows)} training rows of {rows.shape[1]} features: "
                f"{' '.join(str(error).split())}"
            ) from None
    if not mixture.converged_:
        log.warning(f"gmm: not converged after {mixture.n_iter_} steps of expectation maximisation")
    by_component = settings.score == "component"
    return Mixture(mixture.weights_, mixture.means_, mixture.precisions_cholesky_, by_component)
