import numpy as np
import pytest

from asd.domains import FEWEST, PRIOR, grouped_folds, nearest, stratified_folds, told_apart, usual_distances


def clips(source: int, target: int) -> np.ndarray:
    return np.array(["source"] * source + ["target"] * target)


def test_domains_are_told_apart_where_both_have_clips():
    assert told_apart(clips(5, FEWEST), np.arange(5 + FEWEST)).tolist() == [0] * 5 + [1] * FEWEST


@pytest.mark.parametrize("domain", [clips(5, FEWEST - 1), clips(5, 0), clips(0, 5), np.array([""] * 8)])
def test_domains_of_too_few_clips_are_one(domain):
    assert not told_apart(domain, np.arange(len(domain))).any()


@pytest.mark.parametrize(
    ("recording", "apart"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], True),
        ([0, 1, 2, 2, 3, 4, 5, 5], True),
        ([0, 1, 2, 3, 4, 5, 4, 5], False),  # the target's clips are of two recordings
        ([0, 1, 1, 0, 4, 5, 6, 7], False),
        ([0, 1, 2, 2, 0, 1, 2, 2], True),  # two microphones
    ],
)
def test_domains_are_told_apart_by_recordings(recording, apart):
    assert told_apart(clips(4, 4), np.array(recording)).any() == apart


@pytest.mark.parametrize("folds", [2, 3, 5, 50])
@pytest.mark.parametrize("seed", range(20))
def test_folds_do_not_split_recordings(folds, seed):
    rng = np.random.default_rng(seed)
    # 4 recordings of the source, 3 of the target, 2 of both, with 1 to 3 parts each
    of = np.repeat(np.arange(9), 3)
    target = np.repeat([[0, 0, 0]] * 4 + [[1, 1, 1]] * 3 + [[0, 0, 1]] * 2, 1, axis=0).ravel().astype(bool)
    order = rng.permutation(27)
    fold = grouped_folds(target[order], of[order], folds, rng)
    by_recording = [set(fold[of[order] == one]) for one in range(9)]
    assert all(len(one) == 1 for one in by_recording)
    assert len(set(fold)) == min(folds, 9)
    assert np.ptp(np.bincount([one.pop() for one in by_recording])) <= 1
    for one in set(fold):  # what is left has both domains
        assert set(target[order][fold != one]) == {False, True}


def test_clips_of_their_own_are_dealt_as_clips():
    domain = np.repeat([0, 1], [40, 4])
    found = grouped_folds(domain == 1, np.arange(44), 5, np.random.default_rng(3))
    np.testing.assert_array_equal(found, stratified_folds(domain, 5, np.random.default_rng(3)))


@pytest.mark.parametrize(("source", "target", "folds"), [(40, 4, 5), (990, 10, 5), (7, 3, 4), (3, 3, 6)])
def test_folds_hold_each_domain_alike(source, target, folds):
    domain = np.repeat([0, 1], [source, target])
    fold = stratified_folds(domain, folds, np.random.default_rng(0))
    for chosen in (domain == 0, domain == 1, domain >= 0):
        assert np.ptp(np.bincount(fold[chosen], minlength=folds)) <= 1


def test_folds_are_dealt_at_random():
    domain = np.repeat([0, 1], [40, 4])
    first, again, other = (stratified_folds(domain, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_usual_distances_by_hand():
    # Of the source 2 and 4 to its own, mean 3; of the target 5, 7 and 9, mean 7. The other distances do not count.
    held_out = np.array([[2, 90], [4, 90], [80, 5], [80, 7], [80, 9.0]])
    expected = 3 * np.sqrt((1 + 1 / 3) / (1 + 1 / 2))
    weight = 3 / (3 + PRIOR)
    found = usual_distances(held_out, np.array([0, 0, 1, 1, 1]))
    np.testing.assert_allclose(found, [3, 7**weight * expected ** (1 - weight)])


def test_many_target_clips_speak_for_themselves():
    domain = np.repeat([0, 1], [5000, 5000])
    held_out = np.where(np.arange(2) == domain[:, None], [2.0, 6.0], 100.0)
    np.testing.assert_allclose(usual_distances(held_out, domain), [2, 6], rtol=0.01)


def test_of_normal_clips_that_vary_alike_the_expectation_is_right():
    # Distances of new clips to the mean of 4, and to that of 400, in 50 dimensions: their ratio is what is expected.
    rng = np.random.default_rng(0)
    few, many = (
        np.linalg.norm(rng.normal(size=(2000, 50)) - rng.normal(size=(n, 2000, 50)).mean(0), axis=1) for n in (4, 400)
    )
    assert few.mean() / many.mean() == pytest.approx(np.sqrt((1 + 1 / 4) / (1 + 1 / 400)), rel=0.01)


def test_one_domain_and_clips_that_are_all_the_same():
    np.testing.assert_allclose(usual_distances(np.array([[1.0], [3.0]]), np.array([0, 0])), [2])
    np.testing.assert_allclose(usual_distances(np.zeros((6, 2)), np.repeat([0, 1], 3)), 1)


def test_the_nearest_domain_is_the_score():
    found = nearest(np.array([[2.0, 9.0], [8.0, 3.0]]), np.array([2.0, 3.0]))
    np.testing.assert_allclose(found, [1, 1])
