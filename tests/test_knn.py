import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.neighbors import NearestNeighbors

from asd.knn import FLOOR, ROWS_AT_ONCE, Knn, density, fit


def rows_of(count: int, dimensions: int = 12, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scales = np.geomspace(0.1, 30, dimensions)
    return (generator.standard_normal((count, dimensions)) * scales + np.linspace(-50, 50, dimensions)).astype("f4")


def fitted(rows, domain=None, target=None, seed=0, **settings):
    domain = np.zeros(len(rows), int) if domain is None else np.asarray(domain)
    return fit(np.asarray(rows), Knn(**settings), domain, np.random.default_rng(seed), target)


def standardised(rows: np.ndarray, new: np.ndarray) -> np.ndarray:
    variance = rows.astype(float).var(0)
    return (new.astype(float) - rows.astype(float).mean(0)) / np.sqrt(variance + FLOOR * variance.mean())


def oracle(rows: np.ndarray, new: np.ndarray, neighbours: int, metric: str) -> np.ndarray:
    rows, new = rows.astype(float), new.astype(float)
    if metric == "euclidean":
        rows, new = standardised(rows, rows), standardised(rows, new)
    return NearestNeighbors(n_neighbors=neighbours, metric=metric, algorithm="brute").fit(rows).kneighbors(new)[0]


# --- distances ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("neighbours", [1, 3, 40])
def test_agrees_with_scikit_learn(metric, neighbours):
    rows, new = rows_of(40), rows_of(25, seed=1)
    found = fitted(rows, metric=metric, neighbours=neighbours).distances(new)
    assert found.shape == (25, 1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[:, 0], oracle(rows, new, neighbours, metric).mean(1), rtol=1e-9)


def test_many_rows_are_scored_in_blocks():
    rows, new = rows_of(50), rows_of(2 * ROWS_AT_ONCE + 3, seed=1)
    np.testing.assert_allclose(
        fitted(rows, neighbours=2).distances(new)[:, 0], oracle(rows, new, 2, "euclidean").mean(1), rtol=1e-9
    )


def test_cosine_by_hand():
    found = fitted([[2.0, 0.0], [3.0, 4.0], [0.0, -1.0]], [0, 0, 1], metric="cosine").distances(np.array([[0.0, 5.0]]))
    np.testing.assert_allclose(found, [[1 - 4 / 5, 2]])


def test_each_domain_has_its_own_neighbours():
    rows, domain, new = rows_of(30), np.arange(30) % 3 % 2, rows_of(7, seed=1)
    found = fitted(rows, domain, neighbours=2).distances(new)
    for one in (0, 1):
        bank = NearestNeighbors(n_neighbors=2).fit(standardised(rows, rows[domain == one]))
        np.testing.assert_allclose(found[:, one], bank.kneighbors(standardised(rows, new))[0].mean(1))


def test_a_domain_with_fewer_rows_than_neighbours_takes_all():
    rows, new = np.array([[0.0], [2.0], [4.0]]), np.array([[0.0]])  # variance 8 / 3
    found = fitted(rows, [0, 0, 1], neighbours=5).distances(new)
    np.testing.assert_allclose(found * np.sqrt((1 + FLOOR) * 8 / 3), [[1, 4]])


def test_a_feature_that_hardly_varies_does_not_outweigh_the_others():
    # Variances 1 and 1e-12, so the floor is FLOOR / 2: a step of 0.1 counts 0.1 / sqrt(FLOOR / 2), not 1e5.
    rows = np.array([[-1.0, 1e-6], [1.0, 1e-6], [-1.0, -1e-6], [1.0, -1e-6]])
    found = fitted(rows).distances(np.array([[1.0, 0.1]]))
    np.testing.assert_allclose(found, 0.1 / np.sqrt(FLOOR / 2), rtol=1e-4)


def test_rows_that_are_all_the_same():
    np.testing.assert_allclose(fitted(np.full((3, 2), 0.1)).distances(np.array([[3.1, 4.1]])), [[5]])


def test_a_single_row():
    np.testing.assert_allclose(fitted([[1.0, 2.0]], density="ratio").distances(np.array([[4.0, 6.0]])), [[5]])


def test_cosine_of_a_row_of_zeros():
    found = fitted([[0.0, 0.0], [0.0, 2.0]], metric="cosine", neighbours=2).distances(
        np.array([[3.0, 0.0], [0.0, 0.0]])
    )
    np.testing.assert_allclose(found[:, 0], [(0.5 + 1) / 2, (0 + 0.5) / 2])


# --- the local density --------------------------------------------------------------------------------------


def test_density_by_hand():
    # On a line at 0, 1, 3, 10: the two nearest others of each.
    references = np.array([[0.0], [1.0], [3.0], [10.0]])
    expected = [(1 + 3) / 2, (1 + 2) / 2, (2 + 3) / 2, (7 + 9) / 2]
    np.testing.assert_allclose(density(references, 2, cosine=False, lonely=1), expected)
    np.testing.assert_allclose(density(references, 9, cosine=False, lonely=1), [14 / 3, 4, 4, 26 / 3])


@pytest.mark.parametrize("cosine", [False, True])
def test_density_is_scikit_learn_s_mean_distance_to_others(cosine):
    references = np.random.default_rng(0).standard_normal((ROWS_AT_ONCE + 40, 5))
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    bank = NearestNeighbors(n_neighbors=5, metric="cosine" if cosine else "euclidean", algorithm="brute")
    expected = bank.fit(references).kneighbors()[0].mean(1)  # without rows: a row is not its own neighbour
    np.testing.assert_allclose(density(references, 5, cosine, lonely=1), expected, rtol=1e-7)


def test_copies_are_no_neighbours_and_no_density_is_0():
    found = density(np.array([[0.0], [0.0], [0.0], [2.0], [3.0]]), 1, cosine=False, lonely=7)
    np.testing.assert_allclose(found, [2, 2, 2, 1, 1])
    np.testing.assert_allclose(density(np.zeros((4, 2)), 1, cosine=False, lonely=7), 7)
    close = density(np.array([[1000.0, 1.0], [1000.0, 1.0 + 1e-12]]), 1, cosine=False, lonely=7)
    assert (close > 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("neighbours", [1, 2])
def test_ratio_and_difference(metric, neighbours):
    rows, new = rows_of(30), rows_of(9, seed=1)
    domain = np.arange(30) % 5 // 4
    plain = fitted(rows, domain, metric=metric)
    b = density(plain.references, 3, plain.cosine, lonely=1)
    apart = np.array([[oracle_distance(plain, x, y) for y in range(30)] for x in new])
    for kind, scores in (("ratio", apart / b), ("difference", apart - b)):
        found = fitted(rows, domain, metric=metric, density=kind, density_neighbours=3, neighbours=neighbours)
        for one in (0, 1):
            expected = np.sort(scores[:, domain == one], axis=1)[:, :neighbours].mean(1)
            np.testing.assert_allclose(found.distances(new)[:, one], expected, rtol=1e-9)


def oracle_distance(bank, x, y):
    x, y = (x - bank.centre) / bank.scale, bank.references[y]
    if bank.cosine:
        return 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    return np.linalg.norm(x - y)


# --- SMOTE --------------------------------------------------------------------------------------------------


def test_the_target_grows_to_its_share_of_the_source():
    rows, domain = rows_of(44), np.arange(44) // 40
    bank = fitted(rows, domain, smote=0.2)
    assert np.bincount(bank.domain).tolist() == [40, 8]
    plain = fitted(rows, domain)
    np.testing.assert_array_equal(bank.references[:44], plain.references)
    new = rows_of(6, seed=1)
    np.testing.assert_array_equal(bank.distances(new)[:, 0], plain.distances(new)[:, 0])
    assert (bank.distances(new)[:, 1] <= plain.distances(new)[:, 1]).all()


def test_the_target_grows_also_where_domains_are_not_told_apart():
    rows, target = rows_of(44), np.arange(44) >= 40
    bank = fitted(rows, target=target, smote=0.5, metric="cosine")
    assert np.bincount(bank.domain).tolist() == [60]
    np.testing.assert_allclose(np.linalg.norm(bank.references, axis=1), 1)


@pytest.mark.parametrize(("targets", "share"), [(1, 0.5), (0, 0.5), (8, 0.1), (4, 0)])
def test_nothing_to_grow(targets, share):
    rows, target = rows_of(44), np.arange(44) >= 44 - targets
    assert len(fitted(rows, target=target, smote=share).references) == 44


# --- windows ------------------------------------------------------------------------------------------------


def test_the_coreset_is_drawn_from_each_domain():
    rows, domain = rows_of(100), np.arange(100) // 90
    bank = fitted(rows, domain, coreset=20)
    assert np.bincount(bank.domain).tolist() == [20, 10]
    whole = fitted(rows, domain)
    np.testing.assert_array_equal(bank.centre, whole.centre)
    among = {row.tobytes() for row in whole.references[:90]}
    drawn = {row.tobytes() for row in bank.references[:20]}
    assert len(drawn) == 20
    assert drawn <= among
    np.testing.assert_array_equal(bank.references[20:], whole.references[90:])


def test_the_same_generator_draws_the_same():
    rows, domain = rows_of(60), np.arange(60) // 50
    first, again, other = (fitted(rows, domain, seed=seed, coreset=9, smote=1.0).references for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("block", [{"neighbours": 0}, {"metric": "manhattan"}, {"smote": 1.5}, {"k": 3}])
def test_settings_that_mean_nothing_are_refused(block):
    with pytest.raises(ValidationError, match=next(iter(block))):
        Knn(**block)
