"""A detector in one file: the very scores of the workflow, and refusals that say why."""

import inspect
import json
import re
import warnings
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, call
from detectors import WINDOWS, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asd.detector import Detector
from asd.errors import InputError
from asd.scores import read_scores
from asd.settings import Decision
from asd.threshold import of_sections

KEPT = ("network.safetensors", "fitted.h5", "features.h5")


@pytest.mark.parametrize("model", [*WINDOWS, "spectrum", "fusion"])
def test_the_scores_are_those_of_the_workflow(detectors, recordings, model):
    detector = Detector.load(detectors / model / "fan.zip")
    table = read_scores(detectors / model / "fan.csv").query("split == 'test'")
    for row in table.itertuples():
        waveform, rate = soundfile.read(recordings[row.file], dtype="int16")
        found = detector.score(waveform, rate, row.section)
        assert found.score == pytest.approx(row.score, rel=1e-5, abs=1e-4 if model == "fusion" else 0)
        assert found.decision == bool(row.decision)
        assert found.section == row.section
        assert len(found.windows) == (5 if model in ("local", "fusion") else 1)
        if model == "fusion":
            assert np.average(list(found.members.values()), weights=[4, 1, 1]) == pytest.approx(found.score)
        else:
            assert found.windows.mean() == pytest.approx(found.score)
        nearest = detector.score(waveform, rate)
        own = read_scores(detectors / model / "fan.csv").query("split == 'train'").groupby("section")["score"]
        standardised = {
            one: (detector.score(waveform, rate, one).score - scores.mean()) / scores.std(ddof=0) for one, scores in own
        }
        assert nearest.section == min(standardised, key=standardised.__getitem__)
        assert nearest.standardised == pytest.approx(standardised[nearest.section])
    assert (found.worst is None) == (model not in ("local", "fusion"))


def test_the_worst_moment_is_where_the_fault_is(detectors, recordings):
    waveform = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    detector = Detector.load(detectors / "local/fan.zip")
    calm = detector.score(waveform, 16000, "00")
    waveform = waveform.copy()
    waveform[-4000:] = np.random.default_rng(0).normal(0, 12000, 4000).clip(-32768, 32767)
    found = detector.score(waveform, 16000, "00")
    assert found.windows[-1] > calm.windows[-1]
    assert found.windows[-1] - calm.windows[-1] > 10 * abs(found.windows[0] - calm.windows[0])
    assert found.times[-1] == pytest.approx((16 + 7.5) * 512 / 16000)


def test_floats_and_integers_are_the_same_sound(detectors, recordings):
    detector = Detector.load(detectors / "global/fan.zip")
    path = next(iter(recordings.values()))
    whole, parts = (soundfile.read(path, dtype=kind)[0] for kind in ("int16", "float64"))
    assert detector.score(parts, 16000).score == pytest.approx(detector.score(whole, 16000).score, rel=1e-6)


@pytest.mark.parametrize(
    ("waveform", "rate", "section", "message"),
    [
        (np.zeros(16000), 8000, None, "rate: found 8000 Hz, but the detector was made from 16000 Hz"),
        (np.zeros((16000, 2)), 16000, None, r"float64 of shape \(16000, 2\); expected one channel"),
        (np.zeros(16000, np.int32), 16000, None, "found int32 of shape"),
        (np.zeros(0), 16000, None, "found no samples"),
        (np.full(16000, np.nan), 16000, None, "samples that are no numbers"),
        (np.full(16000, 1e30), 16000, None, "up to 1e.30, expected full scale at 1"),
        (np.arange(-8000.0, 8000.0), 16000, None, "up to 8000, expected full scale at 1"),
        (np.zeros(16000, np.complex64), 16000, None, "found complex64 of shape"),
        (np.zeros(16000, bool), 16000, None, "found bool of shape"),
        ([[0.0], [0.0, 0.1]], 16000, None, "waveform: not an array of samples"),
        ("recording.wav", 16000, None, "expected one channel of samples"),
        (None, 16000, None, "expected one channel of samples"),
        (torch.zeros(16000, requires_grad=True), 16000, None, "waveform: not an array of samples"),
        (np.zeros(16000), "16000", None, r"rate: found '16000' \(str\); expected a number of Hz: 16000"),
        (np.zeros(16000), None, None, "rate: found None"),
        (np.zeros(16000), True, None, "rate: found True"),
        (np.zeros(16000), np.nan, None, "rate: found nan Hz"),
        (np.zeros(4000), 16000, None, r"found 0\.25 s; a window of the detector takes 0\.48 s"),
        (np.zeros(16000), 16000, "07", "section: found '07'; the detector knows 00, 01"),
    ],
)
def test_what_it_cannot_score_is_refused(detectors, waveform, rate, section, message):
    with pytest.raises(InputError, match=message):
        Detector.load(detectors / "local/fan.zip").score(waveform, rate, section)


@pytest.mark.parametrize(
    "layout",
    [
        lambda sound: sound[::-1][::-1],
        lambda sound: np.stack([sound, sound], 1)[:, 1],
        lambda sound: sound.astype(">f8"),
        lambda sound: sound.astype(np.float16).astype(np.longdouble),
        lambda sound: sound.tolist(),
        lambda sound: torch.from_numpy(sound),
        lambda sound: np.rint(sound * 32768).astype(">i2"),
        lambda sound: np.rint(sound * 32768).astype(np.int16)[::-1][::-1],
    ],
)
def test_the_layout_of_the_array_does_not_matter(detectors, recordings, layout):
    detector = Detector.load(detectors / "global/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="float64")[0]
    sound = sound.astype(np.float16).astype(np.float64) if "float16" in inspect.getsource(layout) else sound
    assert detector.score(layout(sound), 16000.0).score == pytest.approx(detector.score(sound, 16000).score, rel=1e-5)


def test_a_read_only_recording_is_scored_and_left_as_it_is(detectors, recordings):
    sound = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    sound.setflags(write=False)
    before = sound.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Detector.load(detectors / "global/fan.zip").score(sound, np.int64(16000), section="00")
    np.testing.assert_array_equal(sound, before)


@settings(deadline=None, max_examples=40)
@given(
    waveform=st.one_of(
        arrays(np.float64, st.integers(0, 9000), elements=st.floats(width=64), fill=st.floats(width=64)),
        arrays(np.float32, st.integers(0, 9000), elements=st.floats(-1, 1, width=32), fill=st.just(0)),
        arrays(np.int16, st.integers(0, 9000), fill=st.integers(-32768, 32767)),
        arrays(np.uint8, st.integers(0, 4)),
        st.lists(st.floats() | st.text(max_size=2) | st.none(), max_size=4),
    ),
    rate=st.just(16000) | st.floats() | st.text(max_size=3) | st.none(),
    section=st.sampled_from([None, "00", "", 7]),
)
def test_any_array_has_a_finite_score_or_is_refused(detectors, waveform, rate, section):
    detector = Detector.load(detectors / "global/fan.zip")
    try:
        found = detector.score(waveform, rate, section)
    except InputError:
        return
    assert np.isfinite(found.score)
    assert np.isfinite(found.windows).all()
    assert found.section in ("00", "01")


def test_no_decision_on_a_score_that_is_not_finite(detectors, recordings):
    detector = Detector.load(detectors / "global/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    first = next(iter(detector.members[0].network.parameters()))
    with torch.no_grad():
        first.fill_(torch.nan)
    with pytest.raises(InputError, match="score: found a value that is not finite, so there is no decision"):
        detector.score(sound, 16000)


@pytest.mark.parametrize(
    "contents",
    [
        {"network": None},
        {"network": b"\0" * 100},
        {"fitted": b"\0" * 100},
        {"detector": b"{}"},
        {"training": None},
        {"detector": b"\x80\x04."},
    ],
)
def test_a_damaged_detector_is_named(detectors, tmp_path, contents):
    path = damaged(tmp_path / "fan.zip", detectors / "global/fan.zip", **contents)
    with pytest.raises(InputError, match=r"fan\.zip: not a readable detector .* make it with asd fit"):
        Detector.load(path)


def test_a_detector_of_another_layout_says_which(detectors, tmp_path):
    said = b'{"layout": 4, "versions": {"asd": "0.3.0"}}'
    old = damaged(tmp_path / "fan.zip", detectors / "global/fan.zip", detector=said)
    with pytest.raises(InputError, match=r"it has layout 4, written by asd 0\.3\.0; this asd reads layout 5\); make"):
        Detector.load(old)


def test_a_flipped_byte_and_a_missing_file_are_named(detectors, tmp_path):
    data = bytearray((detectors / "global/fan.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "fan.zip").write_bytes(data)
    for path in (tmp_path / "fan.zip", tmp_path / "none.zip", detectors / "fan.safetensors"):
        with pytest.raises(InputError, match="not a readable detector"):
            Detector.load(path)


def test_the_same_detector_is_the_same_bytes_and_no_pickle(detectors, cache_path, tmp_path):
    source = {"model": "local", "title": "LOCAL", "detector": "gaussian", "windows": WINDOWS["local"].model_dump()}
    source |= {"cache": str(cache_path), "network": str(detectors / "fan.safetensors")}
    source |= {"features": str(detectors / "local.h5"), "fitted": str(detectors / "local-fitted.h5")}
    source |= {"scores": str(detectors / "local/fan.csv")}
    again = {"scores": detectors / "local/fan.csv", "model": "local", "title": "LOCAL", "out": tmp_path / "fan.zip"}
    call("detector", members=[json.dumps(source)], decision=Decision(), **again)
    assert (tmp_path / "fan.zip").read_bytes() == (detectors / "local/fan.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "fan.zip") as archive:
        names = ["detector.json", "training.csv", *(f"local/{one}" for one in KEPT)]
        assert archive.namelist() == names
        said = json.loads(archive.read("detector.json"))
    assert said["sections"] == ["00", "01"]
    assert said["versions"]["torch"]


def test_the_chosen_one_is_the_ensembles(detectors, tmp_path):
    selection = tmp_path / "selection.csv"
    selection.write_text("machine,model,reason\nfan,oe,labels\n")
    each = [detectors / model / "fan.zip" for model in WINDOWS]
    call("chosen_detector", selection=selection, detectors=each, out=tmp_path / "fan.zip")
    assert Detector.load(tmp_path / "fan.zip").description.model == "oe"
    with pytest.raises(InputError, match="machine fan: found the model oe; expected global, local"):
        call("chosen_detector", selection=selection, detectors=each[:2], out=tmp_path / "fan.zip")


def test_the_nearest_section_is_that_of_the_lowest_standardised_score(detectors, recordings, tmp_path):
    """Whatever the units of the sections."""
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    scores = {one: Detector.load(detectors / "local/fan.zip").score(waveform, rate, one).score for one in ("00", "01")}
    with zipfile.ZipFile(detectors / "local/fan.zip") as archive:
        said = json.loads(archive.read("detector.json"))
    low, high = sorted(scores, key=scores.__getitem__)
    for nearest, other in ((low, high), (high, low)):
        standards = {nearest: [scores[nearest], 1.0], other: [scores[other] - 1, 0.5]}
        path = damaged(
            tmp_path / f"{nearest}.zip",
            detectors / "local/fan.zip",
            detector=json.dumps(said | {"standards": standards, "thresholds": {low: 1e9, high: -1e9}}).encode(),
        )
        found = Detector.load(path).score(waveform, rate)
        assert (found.section, found.score, found.standardised) == (nearest, scores[nearest], 0.0)
        assert found.threshold == {low: 1e9, high: -1e9}[nearest]
        assert found.decision == (nearest == high)


@pytest.mark.parametrize("model", ["spectrum", "oe", "fusion"])
def test_another_rate_of_false_alarms_has_the_thresholds_that_the_workflow_would_find(detectors, model):
    detector = Detector.load(detectors / model / "fan.zip")
    table = read_scores(detectors / model / "fan.csv")
    for share in (0.1, 0.3):
        other, remarks = detector.with_false_alarms(share)
        expected = of_sections(table, table["score"].to_numpy(), Decision(quantile=1 - share))
        assert other.description.thresholds == expected
        assert remarks == []  # the standardised scores of two sections' six recordings: 1/13 is supported
    assert detector.with_false_alarms(0.1)[0].description == detector.description
    _, remarks = detector.with_false_alarms(0.05)
    assert [remark.split(": ")[0] for remark in remarks] == ["section 00", "section 01"]
    assert "rarer than 12 training recordings can tell" in remarks[0]


def test_the_training_clips_are_kept_with_their_scores_and_levels(detectors, cache_path):
    kept = Detector.load(detectors / "spectrum/fan.zip").training
    table = read_scores(detectors / "spectrum/fan.csv").query("split == 'train'")
    assert kept[["file", "section", "score"]].values.tolist() == table[["file", "section", "score"]].values.tolist()
    for file, level in zip(kept["file"], kept["level"], strict=True):
        sound, _ = soundfile.read(cache_path.parent / "fan/train" / file)
        assert level == pytest.approx(20 * np.log10(sound.std()), abs=1e-5)


def test_silence_is_said(detectors, recordings):
    detector = Detector.load(detectors / "spectrum/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="float64")[0]
    assert detector.score(sound, 16000).remark == ""
    for silence in (np.zeros(16000), np.full(16000, 0.1), 1e-5 * np.sin(np.arange(16000))):  # the sine: -103 dB
        assert detector.score(silence, 16000).remark.startswith("silent (level -10")


def test_the_example_of_the_documentation_runs(detectors, recordings, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs/detectors.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "results/detectors").mkdir(parents=True)
    (tmp_path / "results/detectors/fan.zip").symlink_to(detectors / "local/fan.zip")
    (tmp_path / "recording.wav").symlink_to(next(iter(recordings.values())))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "detectors.md", "exec"), {})
    said = capsys.readouterr().out
    assert "threshold" in said
    assert "most anomalous around" in said
