"""A machine's detector: held-out scores, domains, windows, and the file."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf

from asd.domains import usual_distances
from asd.errors import InputError
from asd.features import open_features
from asd.hdf5 import read_clips, write_clips
from asd.sections import chosen_columns, fit_sections, pooled, read_sections, scores, write_sections
from asd.settings import Fit, Gmm, Knn, Mvg, WindowPooling

WIDTHS = (3, 2, 2, 4, 3, 2, 4, 2, 6)  # 28 features


def correlated(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Rows whose features depend on each other, with deviations from 0.05 to 20 and means up to 1000."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).standard_normal((dimensions, dimensions)) / np.sqrt(dimensions)
    rows = rng.standard_normal((count, dimensions)) @ mixing * np.geomspace(0.05, 20, dimensions)
    return (rows + np.linspace(-1000, 1000, dimensions)).astype(np.float32)


def fit_settings(folds: int = 5, **mvg) -> Fit:
    """A Gaussian with these settings."""
    return Fit(folds=folds, mvg=Mvg(**mvg))


def write_features(path: Path, sections: dict[str, tuple[int, int]], windows: tuple[int, int] = (1, 1)) -> Path:
    """A features file: (training clips, test clips) a section, (rows of a training clip, of a test clip)."""
    clips, counts, rows = [], [], []
    for split, per_clip in zip(("train", "test"), windows, strict=True):
        for section, numbers in sections.items():
            for number in range(numbers[split == "test"]):
                clips.append({"section": section, "split": split, "file": f"section_{section}_{split}_{number:04}.wav"})
                counts.append(per_clip)
                rows.append(correlated(per_clip, 28, seed=len(rows)) + np.random.default_rng(len(rows)).normal())
    table = pd.DataFrame(clips).assign(
        path="", machine="fan", part="development", domain="", label="", attributes="{}", recording=""
    )
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
        fitted = fit_sections(features, fit_settings(folds=folds, stages=stages), np.random.default_rng(5))
        found = scores(features, fitted)
        clips = features.clips
        every = features.rows(0, features.offsets[-1], chosen_columns(np.array(WIDTHS), stages)).astype(np.float64)
        rows = [every[a:b] for a, b in zip(features.offsets[:-1], features.offsets[1:], strict=True)]
    rng = np.random.default_rng(5)
    for section in ("00", "01"):
        training = np.flatnonzero((clips["section"] == section) & (clips["split"] == "train"))
        test = np.flatnonzero((clips["section"] == section) & (clips["split"] == "test"))
        reference = LedoitWolf().fit(np.concatenate([rows[clip] for clip in training]))
        expected = [np.sqrt(reference.mahalanobis(rows[clip])).mean() for clip in test]
        np.testing.assert_allclose(found[test], expected, rtol=1e-6)
        fold = np.empty(len(training), int)
        fold[rng.permutation(len(training))] = np.arange(len(training)) % folds
        assert np.ptp(np.bincount(fold)) <= 1
        for clip, own in zip(training, fold, strict=True):
            others = LedoitWolf().fit(np.concatenate([rows[other] for other in training[fold != own]]))
            assert found[clip] == pytest.approx(np.sqrt(others.mahalanobis(rows[clip])).mean(), rel=1e-6)


def test_recordings_are_held_out_whole(tmp_path):
    """Two clips of each recording; more folds than recordings, so each is scored by the clips of the others."""
    write_features(tmp_path / "f.h5", {"00": (8, 3)})
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        table = read_clips(file).assign(recording=[*"abcdabcd", *"eef"])
        del file["clips"]
        write_clips(file, table)
    with open_features(tmp_path / "f.h5") as features:
        found = scores(features, fit_sections(features, fit_settings(folds=20), np.random.default_rng(0)))
        rows = features.rows(0, 8).astype(np.float64)
    for clip in range(8):
        others = LedoitWolf().fit(np.delete(rows, [clip % 4, clip % 4 + 4], axis=0))
        assert found[clip] == pytest.approx(np.sqrt(others.mahalanobis(rows[clip : clip + 1]))[0], rel=1e-6)


def test_a_single_training_recording_of_two_clips(tmp_path, caplog):
    write_features(tmp_path / "f.h5", {"00": (2, 1)})
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        table = read_clips(file).assign(recording=["a", "a", ""])
        del file["clips"]
        write_clips(file, table)
    with open_features(tmp_path / "f.h5") as features:
        found = scores(features, fit_sections(features, fit_settings(folds=5), np.random.default_rng(0)))
    assert np.isnan(found).tolist() == [True, True, False]
    assert "section 00: a single training recording" in caplog.text


def test_two_training_clips_leave_each_other_out(tmp_path, caplog):
    with open_features(write_features(tmp_path / "f.h5", {"00": (2, 3)})) as features:
        found = scores(features, fit_sections(features, fit_settings(folds=5), np.random.default_rng(0)))
    # The one has no variance of its own: it takes that of both, a quarter of their squared distance over 28 features.
    np.testing.assert_allclose(found[:2], 2 * np.sqrt(28))
    assert np.isfinite(found).all()
    assert "single" not in caplog.text


def test_windows_of_two_training_clips(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (2, 3)}, (30, 5))) as features:
        found = scores(features, fit_sections(features, fit_settings(folds=5), np.random.default_rng(0)))
        rows = features.rows(0, 60).astype(np.float64)
    for own, other in ((rows[:30], rows[30:]), (rows[30:], rows[:30])):
        assert np.isclose(np.sqrt(LedoitWolf().fit(other).mahalanobis(own)).mean(), found[:2], rtol=1e-6).any()


def test_windows_that_are_all_the_same_in_a_clip(tmp_path):
    path = write_features(tmp_path / "f.h5", {"00": (2, 1)}, (30, 5))
    with h5py.File(path, "a") as file:
        file["features"][:30], file["features"][30:60] = 1, 2
    with open_features(path) as features:
        found = scores(features, fit_sections(features, fit_settings(folds=5), np.random.default_rng(0)))
    np.testing.assert_allclose(found[:2], 2 * np.sqrt(28))


def test_a_single_training_clip(tmp_path, caplog):
    with open_features(write_features(tmp_path / "f.h5", {"00": (1, 3), "01": (6, 1)})) as features:
        found = scores(features, fit_sections(features, fit_settings(folds=5), np.random.default_rng(0)))
        rows = features.rows(0, 10).astype(np.float64)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0]
    np.testing.assert_allclose(found[7:10], np.linalg.norm(rows[7:10] - rows[0], axis=1))
    assert "machine fan, section 00: a single training recording" in caplog.text


def test_held_out_scores_are_those_of_new_clips(tmp_path):
    # 40 clips, 28 features: in-sample distances are far below those of new clips, held-out ones are not.
    with open_features(write_features(tmp_path / "f.h5", {"00": (40, 40)})) as features:
        fitted = fit_sections(features, fit_settings(folds=10, covariance="empirical"), np.random.default_rng(0))
        found = scores(features, fitted)
        inside = fitted.sections["00"].window_scores(features.rows(0, 40))
    assert np.median(inside) < 0.6 * np.median(found[40:])
    assert 0.8 < np.median(found[:40]) / np.median(found[40:]) < 1.4


def test_a_section_without_training_clips_is_named(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 1), "03": (0, 2)})) as features:
        fitted = fit_sections(features, fit_settings(folds=5), np.random.default_rng(0))
        with pytest.raises(InputError, match=r"machine fan: section 03 has test clips but no training clips"):
            scores(features, fitted)


def test_no_training_clips(tmp_path):
    with (
        open_features(write_features(tmp_path / "f.h5", {"00": (0, 2)})) as features,
        pytest.raises(InputError, match=r"f\.h5: no training clips"),
    ):
        fit_sections(features, fit_settings(folds=5), np.random.default_rng(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_clip(tmp_path, value):
    path = write_features(tmp_path / "f.h5", {"00": (4, 2)})
    with open_features(path) as features:
        fitted = fit_sections(features, fit_settings(folds=5), np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        file["features"][2, 5] = file["features"][5, 5] = value
    with open_features(path) as features:
        with pytest.raises(InputError, match=r"f\.h5: section_00_train_0002\.wav: features that are not finite"):
            fit_sections(features, fit_settings(folds=5), np.random.default_rng(0))
        with pytest.raises(InputError, match=r"section_00_test_0001\.wav: features that are not finite"):
            scores(features, fitted)


def test_gaussians_of_other_clips_or_features_are_refused(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 2)})) as features:
        fitted = fit_sections(features, fit_settings(folds=5), np.random.default_rng(0))
    path = write_features(tmp_path / "more.h5", {"00": (6, 2)})
    with (
        open_features(path) as features,
        pytest.raises(InputError, match=r"section_00_train_0004\.wav: a training clip without a .* \(2 such\)"),
    ):
        scores(features, fitted)
    with h5py.File(path, "a") as file:
        file.attrs["widths"] = (1, *WIDTHS[1:])
    with (
        open_features(path) as features,
        pytest.raises(InputError, match=r"found 26 features, but the detector was fitted to another"),
    ):
        scores(features, fitted)


# --- the file -----------------------------------------------------------------------------------------------


@pytest.fixture
def written_sections(tmp_path):
    with open_features(write_features(tmp_path / "f.h5", {"00": (4, 2), "01": (1, 0), "02": (40, 0)})) as features:
        fitted = fit_sections(features, fit_settings(folds=3, ridge=0.5, stages=[1, 9]), np.random.default_rng(0))
    write_sections(tmp_path / "mvg.h5", fitted)
    return tmp_path / "mvg.h5", fitted


def test_round_trip(written_sections):
    path, fitted = written_sections
    read = read_sections(path)
    assert read.settings == fitted.settings
    assert list(read.sections) == ["00", "01", "02"]
    for name, section in fitted.sections.items():
        np.testing.assert_array_equal(read.sections[name].divisor, section.divisor)
        for field, value in vars(section.fitted).items():
            np.testing.assert_array_equal(getattr(read.sections[name].fitted, field), value)
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
    at = content.find(fitted.sections["02"].fitted.factor[:3].tobytes())
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
    with pytest.raises(InputError, match=r"f\.h5: damaged, or not a file of a detector"):
        read_sections(write_features(tmp_path / "f.h5", {"00": (2, 1)}))


# --- domains, windows and the other detectors -----------------------------------------------------------------


def with_domains(path: Path, target: int) -> None:
    """Make the last training clips of the single section those of the target domain, 30 units away."""
    with h5py.File(path, "a") as file:
        split = file["clips/split"].asstr()[:]
        train = int((split == "train").sum())
        names = ["source"] * (train - target) + ["target"] * target + [""] * (len(split) - train)
        del file["clips/domain"]
        file["clips/domain"] = np.array([name.encode() for name in names])
        offsets = file["offsets"][:]
        file["features"][offsets[train - target] : offsets[train]] += 30


@pytest.mark.parametrize("windows", [(1, 1), (8, 5)])  # few rows; rows that stream
def test_the_nearest_domain_counts_in_units_of_what_is_usual_there(tmp_path, windows):
    path = write_features(tmp_path / "f.h5", {"00": (12, 4)}, windows)
    with_domains(path, 4)
    with open_features(path) as features:
        fitted = fit_sections(features, Fit(domains="nearest", folds=4), np.random.default_rng(0))
        found = scores(features, fitted)
        every = features.rows(0, features.offsets[-1]).astype(np.float64)
        rows = [every[a:b] for a, b in zip(features.offsets[:-1], features.offsets[1:], strict=True)]
    domain = np.array([0] * 8 + [1] * 4)

    def distances(clips: list[int], of: int) -> np.ndarray:
        """To both domains of a fit to some clips, by scikit-learn."""
        own = [np.concatenate([rows[clip] for clip in clips if domain[clip] == one]) for one in (0, 1)]
        means = [some.mean(0) for some in own]
        residuals = np.concatenate([some - mean for some, mean in zip(own, means, strict=True)])
        precision = LedoitWolf(assume_centered=True).fit(residuals).precision_
        apart = [np.sqrt(np.einsum("ij,jk,ik->i", rows[of] - mean, precision, rows[of] - mean)) for mean in means]
        return np.array([one.mean() for one in apart])

    rng = np.random.default_rng(0)
    fold = np.empty(12, int)
    fold[rng.permutation(8)] = np.arange(8) % 4
    fold[8 + rng.permutation(4)] = np.arange(8, 12) % 4
    held_out = np.stack([distances(np.flatnonzero(fold != fold[clip]).tolist(), clip) for clip in range(12)])
    usual = usual_distances(held_out, domain)
    np.testing.assert_allclose(found[:12], (held_out / usual).min(1), rtol=1e-6)
    expected = [(distances(list(range(12)), clip) / usual).min() for clip in range(12, 16)]
    np.testing.assert_allclose(found[12:], expected, rtol=1e-6)


def test_too_few_target_clips_are_pooled_and_said(tmp_path, caplog):
    path = write_features(tmp_path / "f.h5", {"00": (12, 4)})
    with_domains(path, 2)
    with open_features(path) as features:
        found = [
            scores(features, fit_sections(features, Fit(domains=domains), np.random.default_rng(0)))
            for domains in ("nearest", "pooled")
        ]
    np.testing.assert_array_equal(*found)
    assert "section 00: 2 of 12 training clips are of the target domain" in caplog.text


def test_windows_are_pooled_as_the_settings_say():
    values = np.array([[1.0, 9], [3, 8], [2, 7], [5, 0]])
    counts = np.array([3, 1])
    assert pooled(values, counts, WindowPooling()).tolist() == [[2, 8], [5, 0]]
    assert pooled(values, counts, WindowPooling(kind="max")).tolist() == [[3, 9], [5, 0]]
    found = pooled(values, counts, WindowPooling(kind="gwrp", decay=0.5))
    np.testing.assert_allclose(found[0], [(3 + 2 / 2 + 1 / 4) / 1.75, (9 + 8 / 2 + 7 / 4) / 1.75])
    assert found[1].tolist() == [5, 0]


@pytest.mark.parametrize(
    "settings",
    [
        Fit(detector="knn", knn=Knn(density="ratio", smote=0.9)),
        Fit(detector="knn", domains="nearest", knn=Knn(metric="cosine", neighbours=2)),
        Fit(detector="gmm", gmm=Gmm(components=2)),
        Fit(window_pooling=WindowPooling(kind="max"), mvg=Mvg(standardise=True)),
    ],
    ids=lambda settings: settings.detector,
)
def test_every_detector_scores_held_out_and_comes_back_from_its_file(tmp_path, settings):
    path = write_features(tmp_path / "f.h5", {"00": (12, 3)}, (4, 4))
    with_domains(path, 4)
    with open_features(path) as features:
        fitted = fit_sections(features, settings, np.random.default_rng(0))
        write_sections(tmp_path / "d.h5", fitted)
        found = scores(features, fitted)
        np.testing.assert_array_equal(scores(features, read_sections(tmp_path / "d.h5")), found)
        inside = fitted.sections["00"].window_scores(features.rows(0, 48))
    assert np.isfinite(found).all()
    inside = pooled(inside, np.full(12, 4), settings.window_pooling).min(1)
    assert (inside <= found[:12] + 1e-9).mean() > 0.9  # a clip that was learned from looks more normal
