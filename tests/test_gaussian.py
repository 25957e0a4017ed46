import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf

from asd.cache import write_clips
from asd.errors import InputError
from asd.features import open_features
from asd.gaussian import (
    ROWS_AT_ONCE,
    Gaussian,
    chosen_columns,
    fit,
    fit_moments,
    fit_sections,
    moments,
    read_sections,
    scores,
    write_sections,
)
from asd.settings import Mvg

ESTIMATORS = {"ledoit_wolf": LedoitWolf, "oas": OAS}
WIDTHS = (3, 2, 2, 4, 3, 2, 4, 2, 6)  # 28 features


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
    np.testing.assert_allclose(found.mean, expected.location_, rtol=1e-12)
    np.testing.assert_allclose(covariance(found), expected.covariance_, rtol=1e-6, atol=1e-6 * found.variance)
    np.testing.assert_allclose(found.distance(new) ** 2, expected.mahalanobis(new), rtol=1e-6)
    np.testing.assert_allclose(found.distance(rows) ** 2, expected.mahalanobis(rows), rtol=1e-6)
    if dimensions > 1:  # of one feature, every shrinkage is the same covariance
        assert found.shrinkage == pytest.approx(expected.shrinkage_, rel=1e-6)
    assert found.count == count


@pytest.mark.parametrize("count", [12, 200])
def test_empirical_is_the_pseudo_inverse(count):
    rows, new = correlated(count, 40), correlated(25, 40, seed=2)
    expected = EmpiricalCovariance().fit(rows.astype(np.float64))
    found = fit(rows, Mvg(covariance="empirical"))
    np.testing.assert_allclose(found.distance(new) ** 2, expected.mahalanobis(new), rtol=1e-6)
    assert len(found.factor) == min(count - 1, 40)


def test_empirical_with_a_feature_that_never_varies():
    rows = correlated(200, 40)
    rows[:, 7] = 3
    found = fit(rows, Mvg(covariance="empirical"))
    expected = np.linalg.pinv(np.cov(rows.T.astype(np.float64), bias=True), hermitian=True)
    centred = rows - rows.mean(0, dtype=np.float64)
    np.testing.assert_allclose(found.distance(rows) ** 2, np.einsum("ij,jk,ik->i", centred, expected, centred))
    assert len(found.factor) == 39


@pytest.mark.parametrize("count", [12, 200])
def test_ridge(count):
    rows, new = correlated(count, 40), correlated(25, 40, seed=2)
    found = fit(rows, Mvg(covariance="ridge", ridge=0.5))
    expected = np.cov(rows.T.astype(np.float64), bias=True) + 0.5 * np.eye(40)
    centred = new - rows.mean(0, dtype=np.float64)
    squares = np.einsum("ij,ij->i", centred, np.linalg.solve(expected, centred.T).T)
    np.testing.assert_allclose(found.distance(new) ** 2, squares, rtol=1e-6)


def test_a_ridge_lost_in_rounding_is_refused():
    with pytest.raises(InputError, match=r"mvg\.ridge: 1e-30 .* expected at least"):
        fit(correlated(12, 40), Mvg(covariance="ridge", ridge=1e-30))


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "oas", "empirical"])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_rows_that_do_not_vary_have_the_unit_as_variance(estimator, count):
    row = correlated(1, 10)
    gaussian = fit(np.repeat(row, count, 0), Mvg(covariance=estimator), unit=4.0)
    new = correlated(5, 10, seed=2)
    np.testing.assert_allclose(gaussian.distance(new), np.linalg.norm(new - row.astype(float), axis=1) / 2)
    assert gaussian.distance(row) == 0
    assert gaussian.variance == 4


def test_rows_that_do_not_vary_have_the_ridge_as_variance():
    gaussian = fit(np.ones((2, 10), np.float32), Mvg(covariance="ridge", ridge=0.25), unit=4.0)
    np.testing.assert_allclose(gaussian.distance(np.full((1, 10), 2.0)), np.sqrt(10) * 2)


@pytest.mark.parametrize("copies", [1, 3, 20])
def test_two_different_rows_take_the_shrinkage_of_oas(copies):
    rows = np.tile(correlated(2, 10), (copies, 1))
    gaussian = fit(rows, Mvg())
    assert gaussian.shrinkage == pytest.approx(OAS().fit(rows.astype(np.float64)).shrinkage_)
    # Half the distance between the two, along their difference, whose variance is known.
    along = (1 - gaussian.shrinkage) * 10 * gaussian.variance + gaussian.shrinkage * gaussian.variance
    half = np.linalg.norm(rows[1].astype(float) - rows[0]) / 2
    np.testing.assert_allclose(gaussian.distance(rows), half / np.sqrt(along))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), factor=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_distance_knows_neither_unit_nor_origin_nor_basis(count, factor, shift, seed):
    generator = np.random.default_rng(seed)
    rows, new = generator.standard_normal((count, 20)), generator.standard_normal((5, 20))
    rotation = np.linalg.qr(generator.standard_normal((20, 20)))[0]
    plain = fit(rows, Mvg()).distance(new)
    moved = fit(rows @ rotation * factor + shift, Mvg(), unit=factor**2).distance(new @ rotation * factor + shift)
    np.testing.assert_allclose(moved, plain, rtol=1e-5)


def test_distance_in_blocks():
    gaussian = fit(correlated(50, 10), Mvg())
    rows = correlated(2 * ROWS_AT_ONCE + 5, 10, seed=2)
    np.testing.assert_allclose(gaussian.distance(rows), [gaussian.distance(row[None])[0] for row in rows], rtol=1e-9)
    assert gaussian.distance(rows[:0]).shape == (0,)


# --- streams ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(1, 99), unique=True, max_size=6), seed=st.integers(0, 99))
def test_moments_add_up(cuts, seed):
    rows = correlated(100, 8, seed)
    origin = rows[0].astype(np.float64)
    blocks = np.split(rows, sorted(cuts))
    whole = fit(rows, Mvg())
    streamed = fit_moments(moments(blocks, origin), Mvg())
    parts = [moments([block], origin) for block in blocks]
    added = fit_moments(sum(parts[1:], parts[0]), Mvg())
    for other in (streamed, added):
        np.testing.assert_allclose(covariance(other), covariance(whole), rtol=1e-9, atol=1e-9)
        assert other.shrinkage == pytest.approx(whole.shrinkage, rel=1e-9)


def test_moments_of_few_rows_agree_with_the_rows():
    rows, new = correlated(30, 40), correlated(25, 40, seed=2)
    for estimator in ("ledoit_wolf", "oas", "ridge", "empirical"):
        by_moments = fit_moments(moments([rows], rows[0].astype(np.float64)), Mvg(covariance=estimator))
        np.testing.assert_allclose(
            by_moments.distance(new), fit(rows, Mvg(covariance=estimator)).distance(new), rtol=1e-6
        )


def test_a_stream_of_windows_is_never_in_memory():
    def stream():
        for seed in range(50):
            yield correlated(ROWS_AT_ONCE, 40, seed)

    tracemalloc.start()
    sums = moments(stream(), np.zeros(40))
    fit_moments(sums, Mvg())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums.count == 50 * ROWS_AT_ONCE
    assert peak < 8 * 40 * 5 * ROWS_AT_ONCE  # five blocks of the fifty


# --- a machine's sections -----------------------------------------------------------------------------------


def write_features(path: Path, sections: dict[str, tuple[int, int]], windows: tuple[int, int] = (1, 1)) -> Path:
    """A features file: (training clips, test clips) a section, (rows of a training clip, of a test clip)."""
    clips, counts, rows = [], [], []
    for split, per_clip in zip(("train", "test"), windows, strict=True):
        for section, numbers in sections.items():
            for number in range(numbers[split == "test"]):
                clips.append({"section": section, "split": split, "file": f"section_{section}_{split}_{number:04}.wav"})
                counts.append(per_clip)
                rows.append(correlated(per_clip, 28, seed=len(rows)) + np.random.default_rng(len(rows)).normal())
    table = pd.DataFrame(clips).assign(path="", machine="fan", part="development", domain="", label="", attributes="{}")
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("features", data=np.concatenate(rows, dtype=np.float32), chunks=(2, 28), fletcher32=True)
        file["offsets"] = np.cumsum([0, *counts])
        file.attrs["widths"] = WIDTHS
        write_clips(file, table)
    return path


def test_chosen_columns():
    assert chosen_columns(np.array(WIDTHS), list(range(1, 10))).tolist() == list(range(28))
    assert chosen_columns(np.array(WIDTHS), [1, 3, 9]).tolist() == [0, 1, 2, 5, 6, *range(22, 28)]


@pytest.mark.parametrize(("train", "windows"), [(20, (1, 1)), (5, (4, 6)), (60, (1, 1)), (12, (10, 6))])
@pytest.mark.parametrize("stages", [[1, 2, 3, 4, 5, 6, 7, 8, 9], [2, 8, 9]])
def test_held_out_and_test_scores_are_those_of_scikit_learn(tmp_path, train, windows, stages):
    folds = 4
    with open_features(write_features(tmp_path / "f.h5", {"00": (train, 3), "01": (7, 2)}, windows)) as features:
        fitted = fit_sections(features, Mvg(stages=stages), folds, np.random.default_rng(5))
        found = scores(features, fitted)
        clips = features.clips
        every = features.rows(0, features.offsets[-1], chosen_columns(np.array(WIDTHS), stages)).astype(np.float64)
        rows = [every[a:b] for a, b in zip(features.offsets[:-1], features.offsets[1:], strict=True)]
    generator = np.random.default_rng(5)
    for section in ("00", "01"):
        training = np.flatnonzero((clips["section"] == section) & (clips["split"] == "train"))
        test = np.flatnonzero((clips["section"] == section) & (clips["split"] == "test"))
        reference = LedoitWolf().fit(np.concatenate([rows[clip] for clip in training]))
        expected = [np.sqrt(reference.mahalanobis(rows[clip])).mean() for clip in test]
        np.testing.assert_allclose(found[test], expected, rtol=1e-6)
        fold = generator.permutation(len(training)) % folds
        assert np.ptp(np.bincount(fold)) <= 1
        for clip, own in zip(training, fold, strict=True):
            others = LedoitWolf().fit(np.concatenate([rows[other] for other in training[fold != own]]))
            assert found[clip] == pytest.approx(np.sqrt(others.mahalanobis(rows[clip])).mean(), rel=1e-6)


def test_two_training_clips_leave_each_other_out(tmp_path, caplog):
    with open_features(write_features(tmp_path / "f.h5", {"00": (2, 3)})) as features:
        found = scores(features, fit_sections(features, Mvg(), 5, np.random.default_rng(0)))
    # The one has no variance of its own: it takes that of both, a quarter of their squared distance over 28 features.
    np.testing.assert_allclose(found[:2], 2 * np.sqrt(28))
    assert np.isfinite(found).all()
    assert "single" not in caplog.text


def test_windows_of_two_training_clips(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (2, 3)}, (30, 5))) as features:
        found = scores(features, fit_sections(features, Mvg(), 5, np.random.default_rng(0)))
        rows = features.rows(0, 60).astype(np.float64)
    for own, other in ((rows[:30], rows[30:]), (rows[30:], rows[:30])):
        assert np.isclose(np.sqrt(LedoitWolf().fit(other).mahalanobis(own)).mean(), found[:2], rtol=1e-6).any()


def test_windows_that_are_all_the_same_in_a_clip(tmp_path):
    path = write_features(tmp_path / "f.h5", {"00": (2, 1)}, (30, 5))
    with h5py.File(path, "a") as file:
        file["features"][:30], file["features"][30:60] = 1, 2
    with open_features(path) as features:
        found = scores(features, fit_sections(features, Mvg(), 5, np.random.default_rng(0)))
    np.testing.assert_allclose(found[:2], 2 * np.sqrt(28))


def test_a_single_training_clip(tmp_path, caplog):
    with open_features(write_features(tmp_path / "f.h5", {"00": (1, 3), "01": (6, 1)})) as features:
        found = scores(features, fit_sections(features, Mvg(), 5, np.random.default_rng(0)))
        rows = features.rows(0, 10).astype(np.float64)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0]
    np.testing.assert_allclose(found[7:10], np.linalg.norm(rows[7:10] - rows[0], axis=1))
    assert "machine fan, section 00: a single training clip" in caplog.text


def test_held_out_scores_are_those_of_new_clips(tmp_path):
    # 40 clips, 28 features: in-sample distances are far below those of new clips, held-out ones are not.
    with open_features(write_features(tmp_path / "f.h5", {"00": (40, 40)})) as features:
        fitted = fit_sections(features, Mvg(covariance="empirical"), 10, np.random.default_rng(0))
        found = scores(features, fitted)
        inside = fitted.gaussians["00"].distance(features.rows(0, 40))
    assert np.median(inside) < 0.6 * np.median(found[40:])
    assert 0.8 < np.median(found[:40]) / np.median(found[40:]) < 1.4


def test_a_section_without_training_clips_is_named(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 1), "03": (0, 2)})) as features:
        fitted = fit_sections(features, Mvg(), 5, np.random.default_rng(0))
        with pytest.raises(InputError, match=r"machine fan: section 03 has test clips but no training clips"):
            scores(features, fitted)


def test_no_training_clips(tmp_path):
    with (
        open_features(write_features(tmp_path / "f.h5", {"00": (0, 2)})) as features,
        pytest.raises(InputError, match=r"f\.h5: no training clips"),
    ):
        fit_sections(features, Mvg(), 5, np.random.default_rng(0))


def test_one_fold_is_refused(tmp_path):
    with (
        open_features(write_features(tmp_path / "f.h5", {"00": (4, 2)})) as features,
        pytest.raises(InputError, match=r"folds: found 1; expected at least 2"),
    ):
        fit_sections(features, Mvg(), 1, np.random.default_rng(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_clip(tmp_path, value):
    path = write_features(tmp_path / "f.h5", {"00": (4, 2)})
    with open_features(path) as features:
        fitted = fit_sections(features, Mvg(), 5, np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        file["features"][2, 5] = file["features"][5, 5] = value
    with open_features(path) as features:
        with pytest.raises(InputError, match=r"f\.h5: section_00_train_0002\.wav: features that are not finite"):
            fit_sections(features, Mvg(), 5, np.random.default_rng(0))
        with pytest.raises(InputError, match=r"section_00_test_0001\.wav: features that are not finite"):
            scores(features, fitted)


def test_gaussians_of_other_clips_or_features_are_refused(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 2)})) as features:
        fitted = fit_sections(features, Mvg(), 5, np.random.default_rng(0))
    path = write_features(tmp_path / "more.h5", {"00": (6, 2)})
    with (
        open_features(path) as features,
        pytest.raises(InputError, match=r"section_00_train_0004\.wav: a training clip without a .* \(2 such\)"),
    ):
        scores(features, fitted)
    with h5py.File(path, "a") as file:
        file.attrs["widths"] = (1, *WIDTHS[1:])
    with open_features(path) as features, pytest.raises(InputError, match=r"found 26 features .* the Gaussian has 28"):
        scores(features, fitted)


# --- the file -----------------------------------------------------------------------------------------------


@pytest.fixture
def written_sections(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 2), "01": (1, 0), "02": (40, 0)})) as features:
        fitted = fit_sections(features, Mvg(ridge=0.5, stages=[1, 9]), 3, np.random.default_rng(0))
    write_sections(tmp_path / "mvg.h5", fitted)
    return tmp_path / "mvg.h5", fitted


def test_round_trip(written_sections):
    path, fitted = written_sections
    read = read_sections(path)
    assert read.settings == fitted.settings
    assert list(read.gaussians) == ["00", "01", "02"]
    for section, gaussian in fitted.gaussians.items():
        for name, value in vars(gaussian).items():
            np.testing.assert_array_equal(getattr(read.gaussians[section], name), value)
    assert list(read.held_out) == list(fitted.held_out)
    np.testing.assert_array_equal(list(read.held_out.values()), list(fitted.held_out.values()))
    assert np.isnan(read.held_out["section_01_train_0000.wav"])


def test_the_same_bytes_again(written_sections):
    path, fitted = written_sections
    write_sections(path.with_name("again.h5"), fitted)
    assert path.read_bytes() == path.with_name("again.h5").read_bytes()


def test_a_flipped_byte_is_found(written_sections):
    path, fitted = written_sections
    content = bytearray(path.read_bytes())
    at = content.find(fitted.gaussians["02"].factor[:3].tobytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mvg\.h5: damaged"):
        read_sections(path)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_file_is_named(written_sections, keep):
    path, _ = written_sections
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"mvg\.h5: damaged"):
        read_sections(path)


def test_another_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5: no such file"):
        read_sections(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"f\.h5: damaged, or not a file of Gaussians"):
        read_sections(write_features(tmp_path / "f.h5", {"00": (2, 1)}))
