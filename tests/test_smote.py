"""SMOTE: where synthetic rows lie, and what detectors do with them."""

from itertools import combinations

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from sklearn.covariance import ledoit_wolf
from sklearn.mixture import GaussianMixture

from asd import gaussian, gmm
from asd.settings import Gmm, Mvg
from asd.smote import grown, smote


def rows_of(count: int, features: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32)


def segments_of(made: np.ndarray, rows: np.ndarray) -> tuple[set[tuple[int, int]], np.ndarray]:
    """The pairs of rows on the segments between which others lie, and where on it each lies, from 0 to 1."""
    pairs = np.array(list(combinations(range(len(rows)), 2)))
    begins, along = rows[pairs[:, 0]], rows[pairs[:, 1]] - rows[pairs[:, 0]]
    found, places = set(), []
    for row in made:
        place = ((row - begins) * along).sum(1) / (along**2).sum(1)
        off = np.linalg.norm(begins + place[:, None] * along - row, axis=1)
        assert off.min() < 1e-9
        found.add(tuple(pairs[off.argmin()]))
        places.append(place[off.argmin()])
    return found, np.array(places)


@pytest.mark.parametrize("neighbours", [1, 3, 8])
def test_synthetic_rows_lie_between_the_rows_of_imbalanced_learn(neighbours):
    rows = rows_of(9, 6).astype(float)
    found, places = segments_of(smote(rows, 400, neighbours, np.random.default_rng(0)), rows)
    both, label = np.concatenate([rows_of(409, 6, seed=1), rows]), np.arange(418) // 409
    made = SMOTE(k_neighbors=neighbours, random_state=0).fit_resample(both, label)[0][418:]
    assert len(made) == 400
    assert found == segments_of(made, rows)[0]  # so many are drawn that every row and each of its neighbours are
    assert places.min() >= 0
    assert places.max() <= 1
    assert 0.4 < places.mean() < 0.6


@pytest.mark.parametrize("share", [0.15, 0.2, 0.5, 1.0])
def test_the_target_grows_by_as_many_rows_as_with_imbalanced_learn(share):
    """With shares that give whole numbers: of others, the nearest one is taken here, and the lower one there."""
    rows, domain = rows_of(44), np.arange(44) // 40
    _, domains = grown(rows, domain, domain == 1, Mvg(smote=share), np.random.default_rng(0))
    _, expected = SMOTE(sampling_strategy=share, k_neighbors=2).fit_resample(rows, domain)
    np.testing.assert_array_equal(domains, expected)


@pytest.mark.parametrize(("share", "count"), [(0.2, 8), (0.0, 4), (0.05, 4), (1.0, 40)])
def test_the_target_grows_to_a_share_of_the_source_and_the_rest_stays(share, count):
    rows, domain = rows_of(44), np.arange(44) // 40
    more, domains = grown(rows, domain, domain == 1, Mvg(smote=share), np.random.default_rng(0))
    np.testing.assert_array_equal(more[:44], rows)
    assert np.bincount(domains).tolist() == [40, count]
    assert len(more) == 40 + count


def test_a_single_target_row_has_no_neighbour():
    rows, target = rows_of(9), np.arange(9) == 8
    more, _ = grown(rows, np.zeros(9, int), target, Mvg(smote=1.0), np.random.default_rng(0))
    assert more is rows


DOMAIN = np.arange(44) // 40


@pytest.mark.parametrize("features", [5, 60])
def test_a_gaussian_of_grown_rows_is_that_of_these_rows(features):
    rows = rows_of(44, features)
    more, domain = grown(rows, DOMAIN, DOMAIN == 1, Mvg(smote=0.5), np.random.default_rng(3))
    found = gaussian.fit(rows, Mvg(smote=0.5), domain=DOMAIN, target=DOMAIN == 1, rng=np.random.default_rng(3))
    assert found.count == len(more) == 60
    means = np.stack([more[domain == one].mean(0) for one in (0, 1)])
    np.testing.assert_allclose(found.means, means, rtol=1e-5, atol=1e-6)
    covariance, _ = ledoit_wolf(more - means[domain], assume_centered=True)
    new = rows_of(3, features, seed=9)
    apart = new[:, None] - means
    expected = np.sqrt(np.einsum("ndi,ij,ndj->nd", apart, np.linalg.inv(covariance), apart))
    np.testing.assert_allclose(found.distances(new), expected, rtol=1e-5)


def test_a_mixture_of_grown_rows_is_that_of_these_rows():
    rows = rows_of(44)
    random = np.random.default_rng(3)
    more, _ = grown(rows, DOMAIN, DOMAIN == 1, Gmm(smote=0.5), random)
    seed, reg = int(random.integers(2**32)), 0.01 * more.var(0).mean()
    mixture = GaussianMixture(2, reg_covar=reg, random_state=seed).fit(more)
    settings = Gmm(smote=0.5, components=2, score="likelihood")
    found = gmm.fit(rows, settings, np.random.default_rng(3), target=DOMAIN == 1)
    new = rows_of(3, seed=9)
    np.testing.assert_allclose(found.distances(new)[:, 0], -mixture.score_samples(new), rtol=1e-5)
