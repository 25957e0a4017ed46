from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from asd.errors import InputError
from asd.gmm import Gmm, Mixture, fit


def rows_of(count: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, dimensions)) * np.geomspace(0.5, 5, dimensions)
    return (rows + 10 * generator.integers(3, size=(count, 1))).astype(np.float32)


def fitted(rows: np.ndarray, seed: int = 0, **settings) -> Mixture:
    return fit(rows, Gmm(**{"reg": 0.1} | settings), np.random.default_rng(seed), np.zeros(len(rows), bool))


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("count", [200, 5])
def test_likelihood_is_scikit_learn_s(covariance, components, count):
    rows, new = rows_of(count), rows_of(20, seed=1)
    seed = int(np.random.default_rng(4).integers(2**32))
    expected = GaussianMixture(
        components, covariance_type=covariance, reg_covar=0.05 * rows.astype(float).var(0).mean(), random_state=seed
    ).fit(rows.astype(float))
    found = fitted(rows, 4, components=components, covariance=covariance, reg=0.05, score="likelihood").distances(new)
    assert found.shape == (20, 1)
    np.testing.assert_allclose(-found[:, 0], expected.score_samples(new.astype(float)), rtol=1e-9)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_component_is_the_largest_density_without_weights(covariance):
    rows, new = rows_of(300), rows_of(20, seed=1).astype(float)
    mixture = fitted(rows, components=3, covariance=covariance)
    densities = []
    for mean, factor in zip(mixture.means, mixture.factors, strict=True):
        factor = factor if covariance == "full" else np.diag(factor)
        densities.append(multivariate_normal(mean, np.linalg.inv(factor @ factor.T)).logpdf(new))
    np.testing.assert_allclose(mixture.distances(new)[:, 0], -np.max(densities, axis=0), rtol=1e-7)


def test_one_component_ranks_as_the_mahalanobis_distance():
    rows, new = rows_of(50), rows_of(20, seed=1).astype(float)
    covariance = np.cov(rows.T.astype(float), bias=True)
    covariance += 0.1 * covariance.trace() / 8 * np.eye(8)
    centred = new - rows.mean(0, dtype=float)
    expected = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred)
    found = fitted(rows).distances(new)[:, 0]
    np.testing.assert_allclose(2 * (found - found[0]), expected - expected[0], rtol=1e-7, atol=1e-9)


def test_regularisation_is_relative():
    # In other units a density changes by a constant, and the ranks do not at all.
    rows, new = rows_of(30, 40), rows_of(20, 40, seed=1)
    found = [fitted(unit * rows, components=2).distances(unit * new)[:, 0] for unit in (1, 1000)]
    np.testing.assert_allclose(found[0] + 40 * np.log(1000), found[1], rtol=1e-6)


def test_fewer_rows_than_features():
    found = fitted(rows_of(10, 60), components=2).distances(rows_of(5, 60, seed=1))
    assert np.isfinite(found).all()


def test_rows_that_do_not_vary():
    found = fitted(np.ones((4, 3), np.float32)).distances(np.array([[1.0, 1, 1], [1, 1, 2]]))
    assert found[1, 0] - found[0, 0] == pytest.approx(1 / 0.1 / 2)


def test_fewer_rows_than_components():
    with pytest.raises(InputError, match=r"gmm\.components: found 3 components for 2 training rows"):
        fitted(rows_of(2), components=3)


def test_too_little_regularisation():
    with pytest.raises(InputError, match=r"gmm\.reg: 1e-30 is too little for 5 training rows of 40 features"):
        fitted(rows_of(5, 40), reg=1e-30)


def test_no_convergence_is_told(monkeypatch, caplog):
    monkeypatch.setattr("sklearn.mixture.GaussianMixture", partial(GaussianMixture, max_iter=1))
    fitted(rows_of(40), components=3)
    assert "gmm: not converged after 1 steps" in caplog.text


@pytest.mark.parametrize("block", [{"components": 0}, {"covariance": "tied"}, {"reg": 0}, {"r": 0.5}])
def test_settings_that_mean_nothing_are_refused(block):
    with pytest.raises(ValidationError, match=next(iter(block))):
        Gmm(**block)
