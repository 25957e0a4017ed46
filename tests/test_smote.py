"""SMOTE: where synthetic rows lie, and what detectors do with them."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from asd import gaussian, gmm
from asd.settings import Gmm, Mvg
from asd.smote import grown, smote


def rows_of(count: int, features: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32)


def test_a_synthetic_row_lies_between_a_row_and_one_of_its_nearest():
    rows = rows_of(9, 6).astype(float)
    made = smote(rows, 200, 3, np.random.default_rng(0))
    assert made.shape == (200, 6)
    nearest = NearestNeighbors(n_neighbors=3).fit(rows).kneighbors()[1]
    segments = [(i, j) for i in range(9) for j in nearest[i]]
    begins, ends = (rows[[one[side] for one in segments]] for side in (0, 1))
    seen, places = set(), []
    for row in made:
        along = ends - begins
        place = ((row - begins) * along).sum(1) / (along**2).sum(1)
        off = np.linalg.norm(begins + place[:, None] * along - row, axis=1)
        on = off.argmin()
        assert off[on] < 1e-9
        assert 0 <= place[on] <= 1
        seen.add(frozenset(segments[on]))
        places.append(place[on])
    assert seen == {frozenset(one) for one in segments}  # every row and each of its neighbours are drawn
    assert 0.4 < np.mean(places) < 0.6


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
