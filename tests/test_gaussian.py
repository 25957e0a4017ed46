import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf

from asd.errors import InputError
from asd.gaussian import ROWS_AT_ONCE, Gaussian, fit, fit_moments, moments
from asd.settings import Mvg

ESTIMATORS = {"ledoit_wolf": LedoitWolf, "oas": OAS}


def correlated(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Rows whose features depend on each other, with deviations from 0.05 to 20 and means up to 1000."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
    rows = generator.standard_normal((count, dimensions)) @ mixing * np.geomspace(0.05, 20, dimensions)
    return (rows + np.linspace(-1000, 1000, dimensions)).astype(np.float32)


def covariance(gaussian: Gaussian) -> np.ndarray:
    """The covariance, from the precision's definition."""
    inner = gaussian.factor.T @ gaussian.factor
    if gaussian.isotropic:
        inner = gaussian.isotropic * np.eye(len(inner)) - inner
    return np.linalg.inv(inner)


# --- one Gaussian -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("count", "dimensions"), [(3, 40), (30, 40), (39, 40), (40, 40), (60, 40), (5000, 40), (7, 1)])
def test_agrees_with_scikit_learn(estimator, count, dimensions):
    rows, new = correlated(count, dimensions), correlated(25, dimensions, seed=2)
    expected = ESTIMATORS[estimator]().fit(rows.astype(np.float64))
    found = fit(rows, Mvg(covariance=estimator))
    np.testing.assert_allclose(found.means[0], expected.location_, rtol=1e-12)
    np.testing.assert_allclose(covariance(found), expected.covariance_, rtol=1e-6, atol=1e-6 * found.variance)
    np.testing.assert_allclose(found.distances(new)[:, 0] ** 2, expected.mahalanobis(new), rtol=1e-6)
    np.testing.assert_allclose(found.distances(rows)[:, 0] ** 2, expected.mahalanobis(rows), rtol=1e-6)
    if dimensions > 1:  # of one feature, every shrinkage is the same covariance
        assert found.shrinkage == pytest.approx(expected.shrinkage_, rel=1e-6)
    assert found.count == count


@pytest.mark.parametrize("count", [12, 200])
def test_empirical_is_the_pseudo_inverse(count):
    rows, new = correlated(count, 40), correlated(25, 40, seed=2)
    expected = EmpiricalCovariance().fit(rows.astype(np.float64))
    found = fit(rows, Mvg(covariance="empirical"))
    np.testing.assert_allclose(found.distances(new)[:, 0] ** 2, expected.mahalanobis(new), rtol=1e-6)
    assert len(found.factor) == min(count - 1, 40)


def test_empirical_with_a_feature_that_never_varies():
    rows = correlated(200, 40)
    rows[:, 7] = 3
    found = fit(rows, Mvg(covariance="empirical"))
    expected = np.linalg.pinv(np.cov(rows.T.astype(np.float64), bias=True), hermitian=True)
    centred = rows - rows.mean(0, dtype=np.float64)
    np.testing.assert_allclose(found.distances(rows)[:, 0] ** 2, np.einsum("ij,jk,ik->i", centred, expected, centred))
    assert len(found.factor) == 39


@pytest.mark.parametrize("count", [12, 200])
def test_ridge(count):
    rows, new = correlated(count, 40), correlated(25, 40, seed=2)
    found = fit(rows, Mvg(covariance="ridge", ridge=0.5))
    expected = np.cov(rows.T.astype(np.float64), bias=True) + 0.5 * np.eye(40)
    centred = new - rows.mean(0, dtype=np.float64)
    squares = np.einsum("ij,ij->i", centred, np.linalg.solve(expected, centred.T).T)
    np.testing.assert_allclose(found.distances(new)[:, 0] ** 2, squares, rtol=1e-6)


def test_a_ridge_lost_in_rounding_is_refused():
    with pytest.raises(InputError, match=r"mvg\.ridge: 1e-30 .* expected at least"):
        fit(correlated(12, 40), Mvg(covariance="ridge", ridge=1e-30))


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "oas", "empirical"])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_rows_that_do_not_vary_have_the_unit_as_variance(estimator, count):
    row = correlated(1, 10)
    gaussian = fit(np.repeat(row, count, 0), Mvg(covariance=estimator), unit=4.0)
    new = correlated(5, 10, seed=2)
    np.testing.assert_allclose(gaussian.distances(new)[:, 0], np.linalg.norm(new - row.astype(float), axis=1) / 2)
    assert gaussian.distances(row)[:, 0] == 0
    assert gaussian.variance == 4


def test_rows_that_do_not_vary_have_the_ridge_as_variance():
    gaussian = fit(np.ones((2, 10), np.float32), Mvg(covariance="ridge", ridge=0.25), unit=4.0)
    np.testing.assert_allclose(gaussian.distances(np.full((1, 10), 2.0))[0, 0], np.sqrt(10) * 2)


@pytest.mark.parametrize("copies", [1, 3, 20])
def test_two_different_rows_take_the_shrinkage_of_oas(copies):
    rows = np.tile(correlated(2, 10), (copies, 1))
    gaussian = fit(rows, Mvg())
    assert gaussian.shrinkage == pytest.approx(OAS().fit(rows.astype(np.float64)).shrinkage_)
    # Half the distance between the two, along their difference, whose variance is known.
    along = (1 - gaussian.shrinkage) * 10 * gaussian.variance + gaussian.shrinkage * gaussian.variance
    half = np.linalg.norm(rows[1].astype(float) - rows[0]) / 2
    np.testing.assert_allclose(gaussian.distances(rows)[:, 0], half / np.sqrt(along))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), factor=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_distance_knows_neither_unit_nor_origin_nor_basis(count, factor, shift, seed):
    generator = np.random.default_rng(seed)
    rows, new = generator.standard_normal((count, 20)), generator.standard_normal((5, 20))
    rotation = np.linalg.qr(generator.standard_normal((20, 20)))[0]
    plain = fit(rows, Mvg()).distances(new)[:, 0]
    moved = fit(rows @ rotation * factor + shift, Mvg(), unit=factor**2).distances(new @ rotation * factor + shift)[
        :, 0
    ]
    np.testing.assert_allclose(moved, plain, rtol=1e-5)


def test_distance_in_blocks():
    gaussian = fit(correlated(50, 10), Mvg())
    rows = correlated(2 * ROWS_AT_ONCE + 5, 10, seed=2)
    np.testing.assert_allclose(
        gaussian.distances(rows)[:, 0], [gaussian.distances(row[None])[0, 0] for row in rows], rtol=1e-9
    )
    assert gaussian.distances(rows[:0])[:, 0].shape == (0,)


# --- streams ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(1, 99), unique=True, max_size=6), seed=st.integers(0, 99))
def test_moments_add_up(cuts, seed):
    rows = correlated(100, 8, seed)
    origin = rows[0].astype(np.float64)
    blocks = np.split(rows, sorted(cuts))
    whole = fit(rows, Mvg())
    streamed = fit_moments([moments(blocks, origin)], Mvg())
    parts = [moments([block], origin) for block in blocks]
    added = fit_moments([sum(parts[1:], parts[0])], Mvg())
    for other in (streamed, added):
        np.testing.assert_allclose(covariance(other), covariance(whole), rtol=1e-9, atol=1e-9)
        assert other.shrinkage == pytest.approx(whole.shrinkage, rel=1e-9)


def test_moments_of_few_rows_agree_with_the_rows():
    rows, new = correlated(30, 40), correlated(25, 40, seed=2)
    for estimator in ("ledoit_wolf", "oas", "ridge", "empirical"):
        by_moments = fit_moments([moments([rows], rows[0].astype(np.float64))], Mvg(covariance=estimator))
        np.testing.assert_allclose(
            by_moments.distances(new)[:, 0], fit(rows, Mvg(covariance=estimator)).distances(new)[:, 0], rtol=1e-6
        )


def test_a_stream_of_windows_is_never_in_memory():
    def stream():
        for seed in range(50):
            yield correlated(ROWS_AT_ONCE, 40, seed)

    tracemalloc.start()
    sums = moments(stream(), np.zeros(40))
    fit_moments([sums], Mvg())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums.count == 50 * ROWS_AT_ONCE
    assert peak < 8 * 40 * 5 * ROWS_AT_ONCE  # five blocks of the fifty


# --- domains and scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "dimensions"), [(30, 40), (60, 40)])
def test_two_domains_share_the_covariance_about_their_own_means(count, dimensions):
    rows, new = correlated(count, dimensions).astype(np.float64), correlated(5, dimensions, seed=2)
    domain = np.arange(count) % 3 == 0
    rows[domain] += 50
    means = np.stack([rows[~domain].mean(0), rows[domain].mean(0)])
    reference = LedoitWolf(assume_centered=True).fit(rows - means[domain.astype(int)])
    found = fit(rows, Mvg(), domain=domain.astype(int))
    np.testing.assert_allclose(found.means, means, rtol=1e-9)
    for number, mean in enumerate(means):
        expected = np.einsum("ij,jk,ik->i", new - mean, reference.precision_, new - mean)
        np.testing.assert_allclose(found.distances(new)[:, number] ** 2, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [30, 60])
def test_standardised_features_shrink_towards_their_own_variances(count):
    rows, new = correlated(count, 40), correlated(5, 40, seed=2)
    deviation = rows.std(0, dtype=np.float64)
    reference = LedoitWolf().fit(rows / deviation)
    found = fit(rows, Mvg(standardise=True)).distances(new)[:, 0]
    np.testing.assert_allclose(found**2, reference.mahalanobis(new / deviation), rtol=1e-5)


def test_a_feature_that_never_varies_is_not_standardised():
    rows = correlated(20, 5)
    rows[:, 2] = 7
    found = fit(rows, Mvg(standardise=True))
    assert found.scale[2] == 1
    assert np.isfinite(found.distances(rows)).all()
