"""What a person hears and sees of each clip: the very samples, the very scores, under names of our own."""

import hashlib
import json
import re

import numpy as np
import pytest
import soundfile
from finished import HOSTILE_NAME, make_machine
from PIL import Image

import asd.report.clips
from asd.cache import open_cache
from asd.errors import InputError
from asd.features import open_features, window_times
from asd.report.clips import waveform_digest, window_scores, write_clips
from asd.results.suspicious import deviations
from asd.scores import read_scores
from asd.sections import read_sections
from asd.settings import LogMel


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return make_machine(tmp_path_factory.mktemp("machine"), hostile=True)


@pytest.fixture(scope="module")
def written(machine):
    """The folder of the machine's clips, and what its list says."""
    folder = machine.folder / "clips"
    scores = {path.parent.name: read_scores(path) for path in machine.scores}
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "local", "h5")) as features:
        write_clips(folder, cache, scores, ("local", features, read_sections(machine.of("mvg", "local", "h5"))))
    return folder, json.loads((folder / "clips.json").read_text())


def test_the_mean_of_the_window_scores_is_the_score(machine):
    scores = read_scores(machine.of("scores", "local", "csv"))
    sections = read_sections(machine.of("mvg", "local", "h5"))
    with open_features(machine.of("features", "local", "h5")) as features:
        for row in np.flatnonzero(scores["split"] == "test"):
            curve = window_scores(features, sections, row)
            assert len(curve) == 9  # 32 frames, 16 a window, every second
            assert curve.mean() == pytest.approx(scores["score"][row], rel=1e-12)


def test_gaussians_of_other_features_are_refused(machine):
    with open_features(machine.of("features", "local", "h5")) as features:
        sections = read_sections(machine.of("mvg", "local", "h5"))
        sections.sections.clear()
        with pytest.raises(InputError, match=r"local/fan\.h5: the detector was fitted to other features"):
            window_scores(features, sections, 0)


def test_times_are_the_middles_of_the_windows():
    # Frames 0 to 63 are centred at 0 and at 63 * 32 ms.
    np.testing.assert_allclose(window_times(3, 2, 64, LogMel()), [1.008, 1.072, 1.136])


def test_every_test_clip_is_there_as_sound_and_pictures(machine, written):
    folder, said = written
    with open_cache(machine.cache) as cache:
        rows = np.flatnonzero(cache.clips["split"] == "test")
        assert [clip["row"] for clip in said["clips"]] == rows.tolist()
        assert [clip["file"] for clip in said["clips"]] == cache.clips["file"].iloc[rows].tolist()
        for row in rows:
            samples, rate = soundfile.read(folder / f"{row}.flac", dtype="int16")
            assert rate == 16000
            np.testing.assert_array_equal(samples, cache.read_waveform([row])[0])
            assert Image.open(folder / f"{row}.webp").size == (32, 64)
    assert {path.name for path in folder.iterdir()} == {
        "clips.json",
        *(f"{row}.{kind}" for row in rows for kind in ("flac", "webp")),
    }


def test_no_name_from_outside_is_in_a_file_name(written):
    folder, said = written
    assert HOSTILE_NAME in [clip["file"] for clip in said["clips"]]
    for path in folder.iterdir():
        assert re.fullmatch(r"\d+\.(flac|webp)|clips\.json", path.name)


def test_the_list_says_score_decision_and_when(machine, written):
    _, said = written
    scores = {model: read_scores(machine.of("scores", model, "csv")) for model in ("global", "local", "ensemble")}
    windowed = said["windowed"]
    assert windowed["model"] == "local"
    assert windowed["length"] == pytest.approx(16 * 512 / 16000)
    assert (windowed["first"], windowed["each"]) == pytest.approx((7.5 * 0.032, 2 * 0.032))
    for clip in said["clips"]:
        for model, table in scores.items():
            assert clip["scores"][model] == table["score"][clip["row"]]
            assert clip["decisions"][model] == table["decision"][clip["row"]]
            assert clip["decisions"][model] == (clip["scores"][model] > said["thresholds"][model][clip["section"]])
            own = table[(table["section"] == clip["section"]) & (table["split"] == "train")]
            expected = deviations(np.array([clip["scores"][model]]), own)[0]
            assert clip["deviations"][model] == pytest.approx(expected)
        if clip["label"] == "anomaly":  # the last window was made the worst: frames 16 to 31
            assert clip["worst"] == pytest.approx(23.5 * 512 / 16000)


def test_the_digest_is_that_of_the_recordings(machine):
    digest = hashlib.sha256()
    with open_cache(machine.cache) as cache:
        for path in machine.folder / cache.clips["path"]:
            digest.update(soundfile.read(path, dtype="int16")[0].tobytes())
        assert waveform_digest(cache) == digest.hexdigest()


def test_without_windows_there_is_no_curve(machine, tmp_path):
    scores = {"global": read_scores(machine.of("scores", "global", "csv"))}
    with open_cache(machine.cache) as cache:
        write_clips(tmp_path / "clips", cache, scores)
    said = json.loads((tmp_path / "clips/clips.json").read_text())
    assert said["windowed"] is said["spectral"] is None
    assert {clip["worst"] for clip in said["clips"]} == {None}
    assert [clip["windows"] for clip in said["clips"]] == [[]] * len(said["clips"])


def test_the_curve_is_that_of_the_window_scores(machine, written):
    _, said = written
    windowed = said["windowed"]
    sections = read_sections(machine.of("mvg", "local", "h5"))
    with open_features(machine.of("features", "local", "h5")) as features:
        for clip in said["clips"]:
            found = windowed["low"] + np.array(clip["windows"]) / 1000 * (windowed["high"] - windowed["low"])
            within = (windowed["high"] - windowed["low"]) / 1999
            np.testing.assert_allclose(found, window_scores(features, sections, clip["row"]), atol=within)


def test_of_many_windows_each_point_is_the_highest_of_a_few(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(asd.report.clips, "POINTS", 4)
    scores = {"local": read_scores(machine.of("scores", "local", "csv"))}
    sections = read_sections(machine.of("mvg", "local", "h5"))
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "local", "h5")) as features:
        write_clips(tmp_path / "clips", cache, scores, ("local", features, sections))
        said = json.loads((tmp_path / "clips/clips.json").read_text())
        clip, windowed = said["clips"][0], said["windowed"]
        own = window_scores(features, sections, clip["row"])
    expected = [max(own[start : start + 3]) for start in (0, 3, 6)]  # nine windows
    found = windowed["low"] + np.array(clip["windows"]) / 1000 * (windowed["high"] - windowed["low"])
    np.testing.assert_allclose(found, expected, atol=(windowed["high"] - windowed["low"]) / 1999)
    assert windowed["each"] == pytest.approx(3 * 2 * 0.032)


def test_windows_nearly_as_long_as_the_clip_tell_no_time(machine, tmp_path, monkeypatch):
    """Half of a clip is less than `TELLING`, and more than 0.4."""
    monkeypatch.setattr(asd.report.clips, "TELLING", 0.4)
    scores = {"local": read_scores(machine.of("scores", "local", "csv"))}
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "local", "h5")) as features:
        write_clips(
            tmp_path / "clips", cache, scores, ("local", features, read_sections(machine.of("mvg", "local", "h5")))
        )
    said = json.loads((tmp_path / "clips/clips.json").read_text())
    assert {clip["worst"] for clip in said["clips"]} == {None}
    assert all(clip["windows"] for clip in said["clips"])


def test_scores_of_other_clips_are_refused(machine, tmp_path):
    scores = {"global": read_scores(machine.of("scores", "global", "csv")).iloc[::-1].reset_index(drop=True)}
    with open_cache(machine.cache) as cache, pytest.raises(InputError, match="global: not of the same clips"):
        write_clips(tmp_path / "clips", cache, scores)


def test_the_threshold_is_in_the_range_however_far_the_scores_are(machine, tmp_path):
    table = read_scores(machine.of("scores", "local", "csv"))
    table["threshold"] /= 1000
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "local", "h5")) as features:
        sections = read_sections(machine.of("mvg", "local", "h5"))
        write_clips(tmp_path / "clips", cache, {"local": table}, ("local", features, sections))
    said = json.loads((tmp_path / "clips/clips.json").read_text())
    assert said["windowed"]["low"] == pytest.approx(table["threshold"].min())


def test_what_is_unknown_is_null(machine, tmp_path):
    table = read_scores(machine.of("scores", "global", "csv"))
    table["threshold"] = np.inf
    table.loc[table["split"] == "train", "score"] = np.nan
    with open_cache(machine.cache) as cache:
        write_clips(tmp_path / "clips", cache, {"global": table})
    said = json.loads((tmp_path / "clips/clips.json").read_text())
    assert said["thresholds"] == {"global": {"00": None, "01": None}}
    assert {clip["deviations"]["global"] for clip in said["clips"]} == {None}
