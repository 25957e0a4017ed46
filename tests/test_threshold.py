import warnings

import numpy as np
import pytest
from scipy import stats

from asd.threshold import FEWEST, threshold


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    "distribution",
    [
        stats.gamma(1, 0, 1),
        stats.gamma(2, 50, 3),
        stats.gamma(200, -30, 0.1),
        stats.norm(-5, 1),
        stats.norm(-500, 1e-4),
        stats.norm(1e6, 1e3),
        stats.lognorm(0.3, 10, 5),
    ],
)
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_recovers_the_quantile_of_the_distribution(distribution, quantile):
    scores = distribution.rvs(5000, random_state=np.random.default_rng(0))
    value, method = threshold(scores, quantile)
    assert method == "gamma"
    assert distribution.cdf(value) == pytest.approx(quantile, abs=4 * np.sqrt(quantile * (1 - quantile) / 5000))


@pytest.mark.parametrize("shape", [2.0, 8.0])
def test_is_as_likely_as_the_fit_of_scipy(shape):
    scores = stats.gamma(shape, 20, 3).rvs(400, random_state=np.random.default_rng(1))
    parameters = stats.gamma.fit(scores)  # on easy data scipy's search does find the maximum
    value, _ = threshold(scores, 0.9)
    assert value == pytest.approx(stats.gamma.ppf(0.9, *parameters), rel=2e-3)


def test_knows_neither_unit_nor_origin():
    scores = stats.gamma(3).rvs(200, random_state=np.random.default_rng(0))
    value, _ = threshold(scores, 0.9)
    assert threshold(scores * 1e-3 - 40, 0.9)[0] == pytest.approx(value * 1e-3 - 40, rel=1e-6)


@pytest.mark.parametrize(
    "scores",
    [
        stats.cauchy.rvs(size=500, random_state=np.random.default_rng(0)),
        np.append(stats.norm(50, 3).rvs(300, random_state=np.random.default_rng(0)), 1e6),
        np.concatenate([np.linspace(0, 1, 150), np.linspace(100, 101, 150)]),
    ],
    ids=["heavy tails", "one far away", "two groups"],
)
def test_what_is_not_a_gamma_falls_back_to_its_own_quantile(scores, caplog):
    assert threshold(scores, 0.9) == (np.quantile(scores, 0.9), "empirical")
    assert "not distributed like a gamma (Kolmogorov distance" in caplog.text


def test_too_few_scores(caplog):
    assert threshold(np.array([1.0, 3.0]), 0.9) == (2.8, "empirical")
    assert "2 training scores are too few" in caplog.text
    assert threshold(stats.norm.rvs(size=FEWEST, random_state=np.random.default_rng(0)), 0.9)[1] == "gamma"


@pytest.mark.parametrize("value", [0.0, 7.0, -3e5])
def test_scores_that_are_all_the_same(value, caplog):
    assert threshold(np.full(50, value), 0.9) == (value, "empirical")
    assert "all the same" in caplog.text


def test_scores_that_are_not_finite_are_left_aside():
    scores = stats.gamma(3).rvs(50, random_state=np.random.default_rng(0))
    assert threshold(np.concatenate([scores, [np.nan, np.inf, -np.inf]]), 0.9) == threshold(scores, 0.9)


@pytest.mark.parametrize("scores", [np.empty(0), np.full(3, np.nan)])
def test_without_a_score_nothing_is_anomalous(scores, caplog):
    assert threshold(scores, 0.9) == (np.inf, "none")
    assert "no training score" in caplog.text
