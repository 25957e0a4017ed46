"""What a person hears and sees of each clip: the very samples, the very scores, under names of our own."""

import hashlib
import json
import re

import numpy as np
import pytest
import soundfile
from finished import HOSTILE_NAME, make_machine
from PIL import Image

from asd.cache import open_cache
from asd.errors import InputError
from asd.features import open_features, window_times
from asd.report.clips import waveform_digest, window_scores, write_clips
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
        "frame.svg",
        *(f"{row}.{kind}" for row in rows for kind in ("flac", "webp", "svg")),
    }


def test_no_name_from_outside_is_in_a_file_name_or_a_picture(written):
    folder, said = written
    assert HOSTILE_NAME in [clip["file"] for clip in said["clips"]]
    for path in folder.iterdir():
        assert re.fullmatch(r"\d+\.(flac|webp|svg)|frame\.svg|clips\.json", path.name)
        assert path.suffix != ".svg" or "section_" not in path.read_text()


def test_the_list_says_score_decision_and_when(machine, written):
    _, said = written
    scores = {model: read_scores(machine.of("scores", model, "csv")) for model in ("global", "local", "ensemble")}
    assert said["windowed"] == "local"
    assert said["window"] == pytest.approx(16 * 512 / 16000)
    for clip in said["clips"]:
        for model, table in scores.items():
            assert clip["scores"][model] == table["score"][clip["row"]]
            assert clip["decisions"][model] == table["decision"][clip["row"]]
            assert clip["decisions"][model] == (clip["scores"][model] > said["thresholds"][model])
        if clip["label"] == "anomaly":  # the last window was made the worst: frames 16 to 31
            assert clip["worst"] == pytest.approx(23.5 * 512 / 16000)


def test_the_digest_is_that_of_the_recordings(machine):
    digest = hashlib.sha256()
    with open_cache(machine.cache) as cache:
        for path in machine.folder / cache.clips["path"]:
            digest.update(soundfile.read(path, dtype="int16")[0].tobytes())
        assert waveform_digest(cache) == digest.hexdigest()


def test_without_windows_there_is_a_picture_and_no_curve(machine, tmp_path):
    scores = {"global": read_scores(machine.of("scores", "global", "csv"))}
    with open_cache(machine.cache) as cache:
        write_clips(tmp_path / "clips", cache, scores)
    said = json.loads((tmp_path / "clips/clips.json").read_text())
    assert said["windowed"] is None
    assert {clip["worst"] for clip in said["clips"]} == {None}
    frame = (tmp_path / "clips/frame.svg").read_text()
    assert "frequency, kHz" in frame
    assert "window score" not in frame
    assert list((tmp_path / "clips").glob("*.svg")) == [tmp_path / "clips/frame.svg"]


def test_the_curve_lies_where_the_frame_says(written):
    """The curve's points, read from the SVG, are on a line with the frame's ticks."""
    folder, said = written
    clip = next(clip for clip in said["clips"] if clip["label"] == "anomaly")
    path = max(
        re.findall(r'<path d="([^"]*)"[^>]*stroke: #c04a00', (folder / f"{clip['row']}.svg").read_text()), key=len
    )
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float)
    left, _, width, _ = said["box"]
    begin, end = said["span"]
    seconds = begin + (points[:, 0] / 576 - left) / width * (end - begin)  # 8 inches of 72 points
    np.testing.assert_allclose(seconds, window_times(9, 2, 16, LogMel()), atol=1e-4)
    assert points[:, 1].argmin() == 8  # the highest, in a picture whose y points down


def test_scores_of_other_clips_are_refused(machine, tmp_path):
    scores = {"global": read_scores(machine.of("scores", "global", "csv")).iloc[::-1].reset_index(drop=True)}
    with open_cache(machine.cache) as cache, pytest.raises(InputError, match="global: not of the same clips"):
        write_clips(tmp_path / "clips", cache, scores)


def test_the_threshold_is_in_the_frame_however_far_the_scores_are(machine, tmp_path):
    table = read_scores(machine.of("scores", "local", "csv"))
    table["threshold"] /= 1000
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "local", "h5")) as features:
        sections = read_sections(machine.of("mvg", "local", "h5"))
        write_clips(tmp_path / "clips", cache, {"local": table}, ("local", features, sections))
    (line,) = re.findall(
        r'<path d="M ([\d.]+) ([\d.-]+)[^"]*"[^>]*stroke-dasharray', (tmp_path / "clips/frame.svg").read_text()
    )
    bottom, top = 302.4 * (1 - 0.12), 302.4 * (1 - 0.39)  # 4.2 inches of 72 points, of which the axes take a part
    assert top < float(line[1]) < bottom
