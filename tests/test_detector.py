"""A detector in one file: the very scores of the workflow, refusals that say why, and the command asd score."""

import errno
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import ROOT, call
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asd import cli, exposure, sections
from asd import network as networks
from asd.cache import open_cache
from asd.detector import Detector, Loaded
from asd.errors import InputError
from asd.export import Graph, export
from asd.features import open_features, write_features
from asd.fusion import fuse_tables
from asd.network import Description, Network
from asd.scores import read_scores, write_scores
from asd.settings import Decision, Fit, Mvg, Spectrum, Windows
from asd.spectra import write_spectra
from asd.threshold import of_sections

LABELS = ("00", "01", "00 equalised", "01 equalised")
HEADER = ["file", "score", "decision", "section", "threshold", "standardised", "worst", "seconds", "remark"]
WINDOWS = {"global": Windows(), "local": Windows(window=16, hop=8, test_hop=4), "oe": Windows()}


SPECTRUM = Spectrum(pool=["gwrp", "deviation"], decays=[1.0, 0.9])
FITS = {
    "global": Fit(folds=3, mvg=Mvg(stages=[3, 9])),
    "local": Fit(folds=3, mvg=Mvg(stages=[3, 9])),
    "spectrum": Fit(folds=3, domains="nearest", mvg=Mvg(standardise=True)),
}


@pytest.fixture(scope="module")
def folder(cache_path, tmp_path_factory) -> Path:
    """Scores as the workflow makes them, and the detectors: <model>/fan.csv and <model>/fan.zip."""
    folder = tmp_path_factory.mktemp("detectors")
    torch.manual_seed(0)
    network = Network(Description("tf_efficientnet_lite1", "fan", 1, LABELS, ("",), "{}", 64, bands=2)).eval()
    network.mean.fill_(-60)
    network.deviation.fill_(20)
    networks.save(folder / "fan.safetensors", network)
    network = networks.fold(network)
    sources = {}
    for model in (*WINDOWS, "spectrum"):
        features = folder / f"{model}.h5"
        source = {"model": model, "title": model.upper(), "detector": "gaussian", "cache": str(cache_path)}
        source["scores"] = str(folder / model / "fan.csv")
        if model == "spectrum":
            source["spectrum"] = SPECTRUM.model_dump()
        else:
            source |= {"network": str(folder / "fan.safetensors"), "windows": WINDOWS[model].model_dump()}
        with open_cache(cache_path) as cache:
            if model == "oe":
                score = exposure.scores(network, cache, WINDOWS[model], torch.device("cpu"))
                source["detector"] = "exposure"
            else:
                if model == "spectrum":
                    write_spectra(features, cache, SPECTRUM)
                else:
                    write_features(features, network, cache, WINDOWS[model], torch.device("cpu"))
                source["fitted"] = str(folder / f"{model}-fitted.h5")
                with open_features(features) as opened:
                    fitted = sections.fit_sections(opened, FITS[model], np.random.default_rng(0))
                    sections.write_sections(Path(source["fitted"]), fitted)
                    score = sections.scores(opened, fitted)
            write_scores(Path(source["scores"]), cache.clips, score, of_sections(cache.clips, score, Decision()))
        sources[model] = json.dumps(source)
        packed(folder, model, [sources[model]])
    members = ["spectrum", "local", "oe"]
    clips, score = fuse_tables({one: read_scores(folder / one / "fan.csv") for one in members}, "mean", [4, 1, 1])
    write_scores(folder / "fusion/fan.csv", clips, score, of_sections(clips, score, Decision()))
    packed(folder, "fusion", [sources[one] for one in members], weights=(4, 1, 1))
    return folder


def packed(folder: Path, model: str, members: list[str], **fusion) -> None:
    scores, out = folder / model / "fan.csv", folder / model / "fan.zip"
    call("detector", members=members, scores=scores, model=model, title=model.upper(), out=out, **fusion)


@pytest.fixture(scope="module")
def recordings(cache_path) -> dict[str, Path]:
    """The test clips by name."""
    paths = sorted((cache_path.parent / "fan/test").glob("*.wav"))
    return {path.name: path for path in paths}


@pytest.mark.parametrize("model", [*WINDOWS, "spectrum", "fusion"])
def test_the_scores_are_those_of_the_workflow(folder, recordings, model):
    detector = Detector.load(folder / model / "fan.zip")
    table = read_scores(folder / model / "fan.csv").query("split == 'test'")
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
        own = read_scores(folder / model / "fan.csv").query("split == 'train'").groupby("section")["score"]
        standardised = {
            one: (detector.score(waveform, rate, one).score - scores.mean()) / scores.std(ddof=0) for one, scores in own
        }
        assert nearest.section == min(standardised, key=standardised.__getitem__)
        assert nearest.standardised == pytest.approx(standardised[nearest.section])
    assert (found.worst is None) == (model not in ("local", "fusion"))


def test_the_worst_moment_is_where_the_fault_is(folder, recordings):
    waveform = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    detector = Detector.load(folder / "local/fan.zip")
    calm = detector.score(waveform, 16000, "00")
    waveform = waveform.copy()
    waveform[-4000:] = np.random.default_rng(0).normal(0, 12000, 4000).clip(-32768, 32767)
    found = detector.score(waveform, 16000, "00")
    assert found.windows[-1] > calm.windows[-1]
    assert found.windows[-1] - calm.windows[-1] > 10 * abs(found.windows[0] - calm.windows[0])
    assert found.times[-1] == pytest.approx((16 + 7.5) * 512 / 16000)


def test_floats_and_integers_are_the_same_sound(folder, recordings):
    detector = Detector.load(folder / "global/fan.zip")
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
def test_what_it_cannot_score_is_refused(folder, waveform, rate, section, message):
    with pytest.raises(InputError, match=message):
        Detector.load(folder / "local/fan.zip").score(waveform, rate, section)


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
def test_the_layout_of_the_array_does_not_matter(folder, recordings, layout):
    detector = Detector.load(folder / "global/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="float64")[0]
    sound = sound.astype(np.float16).astype(np.float64) if "float16" in inspect.getsource(layout) else sound
    assert detector.score(layout(sound), 16000.0).score == pytest.approx(detector.score(sound, 16000).score, rel=1e-5)


def test_a_read_only_recording_is_scored_and_left_as_it_is(folder, recordings):
    sound = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    sound.setflags(write=False)
    before = sound.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Detector.load(folder / "global/fan.zip").score(sound, np.int64(16000), section="00")
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
def test_any_array_has_a_finite_score_or_is_refused(folder, waveform, rate, section):
    detector = Detector.load(folder / "global/fan.zip")
    try:
        found = detector.score(waveform, rate, section)
    except InputError:
        return
    assert np.isfinite(found.score)
    assert np.isfinite(found.windows).all()
    assert found.section in ("00", "01")


def test_no_decision_on_a_score_that_is_not_finite(folder, recordings):
    detector = Detector.load(folder / "global/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="int16")[0]
    first = next(iter(detector.members[0].network.parameters()))
    with torch.no_grad():
        first.fill_(torch.nan)
    with pytest.raises(InputError, match="score: found a value that is not finite, so there is no decision"):
        detector.score(sound, 16000)


def damaged(path: Path, source: Path, **contents: bytes | None) -> Path:
    """A copy of a detector with members replaced, or left out."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            data = contents.get(Path(name).stem, before.read(name))
            if data is not None:
                after.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "contents",
    [
        {"network": None},
        {"network": b"\0" * 100},
        {"fitted": b"\0" * 100},
        {"detector": b"{}"},
        {"detector": b'{"layout": 1}'},
        {"detector": b"\x80\x04."},
    ],
)
def test_a_damaged_detector_is_named(folder, tmp_path, contents):
    path = damaged(tmp_path / "fan.zip", folder / "global/fan.zip", **contents)
    with pytest.raises(InputError, match=r"fan\.zip: not a readable detector .* make it with snakemake"):
        Detector.load(path)


def test_a_flipped_byte_and_a_missing_file_are_named(folder, tmp_path):
    data = bytearray((folder / "global/fan.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "fan.zip").write_bytes(data)
    for path in (tmp_path / "fan.zip", tmp_path / "none.zip", folder / "fan.safetensors"):
        with pytest.raises(InputError, match="not a readable detector"):
            Detector.load(path)


def test_the_same_detector_is_the_same_bytes_and_no_pickle(folder, cache_path, tmp_path):
    source = {"model": "local", "title": "LOCAL", "detector": "gaussian", "windows": WINDOWS["local"].model_dump()}
    source |= {"cache": str(cache_path), "network": str(folder / "fan.safetensors")}
    source |= {"fitted": str(folder / "local-fitted.h5"), "scores": str(folder / "local/fan.csv")}
    again = {"scores": folder / "local/fan.csv", "model": "local", "title": "LOCAL", "out": tmp_path / "fan.zip"}
    call("detector", members=[json.dumps(source)], **again)
    assert (tmp_path / "fan.zip").read_bytes() == (folder / "local/fan.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "fan.zip") as archive:
        assert archive.namelist() == ["detector.json", "local/network.safetensors", "local/fitted.h5"]
        said = json.loads(archive.read("detector.json"))
    assert said["sections"] == ["00", "01"]
    assert said["versions"]["torch"]


def test_the_chosen_one_is_the_ensembles(folder, tmp_path):
    selection = tmp_path / "selection.csv"
    selection.write_text("machine,model,reason\nfan,oe,labels\n")
    detectors = [folder / model / "fan.zip" for model in WINDOWS]
    call("chosen_detector", selection=selection, detectors=detectors, out=tmp_path / "fan.zip")
    assert Detector.load(tmp_path / "fan.zip").description.model == "oe"
    with pytest.raises(InputError, match="machine fan: found the model oe; expected global, local"):
        call("chosen_detector", selection=selection, detectors=detectors[:2], out=tmp_path / "fan.zip")


def asd(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    """The command, in this process: its exit status and what it says."""
    monkeypatch.setattr(sys, "argv", ["asd", *map(str, words)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr()
    return done.value.code or 0, said.out, said.err


def with_threshold(folder: Path, tmp_path: Path, value: float | None) -> Path:
    """The local detector with another threshold."""
    with zipfile.ZipFile(folder / "local/fan.zip") as archive:
        said = json.loads(archive.read("detector.json"))
    return damaged(
        tmp_path / "fan.zip",
        folder / "local/fan.zip",
        detector=json.dumps(said | {"thresholds": {"00": value, "01": value}}).encode(),
    )


@pytest.mark.parametrize(("limit", "status", "word"), [(0.0, 3, "anomalous"), (1e9, 0, "normal")])
def test_the_exit_status_says_whether_anything_was_anomalous(
    folder, recordings, tmp_path, monkeypatch, capsys, limit, status, word
):
    detector = with_threshold(folder, tmp_path, limit)
    some = list(recordings.values())[:3]
    found, out, _ = asd(monkeypatch, capsys, "score", "--detector", detector, "--format", "csv", *some)
    table = pd.read_csv(StringIO(out), dtype={"section": str})
    assert found == status
    assert list(table.columns) == HEADER
    assert table["file"].tolist() == [str(path) for path in some]
    assert set(table["decision"]) == {word}
    expected = [Detector.load(detector).score(*soundfile.read(path, dtype="int16")) for path in some]
    assert table["score"].tolist() == [one.score for one in expected]


def test_the_nearest_section_is_that_of_the_lowest_standardised_score(folder, recordings, tmp_path):
    """Whatever the units of the sections."""
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    scores = {one: Detector.load(folder / "local/fan.zip").score(waveform, rate, one).score for one in ("00", "01")}
    with zipfile.ZipFile(folder / "local/fan.zip") as archive:
        said = json.loads(archive.read("detector.json"))
    low, high = sorted(scores, key=scores.__getitem__)
    for nearest, other in ((low, high), (high, low)):
        standards = {nearest: [scores[nearest], 1.0], other: [scores[other] - 1, 0.5]}
        path = damaged(
            tmp_path / f"{nearest}.zip",
            folder / "local/fan.zip",
            detector=json.dumps(said | {"standards": standards, "thresholds": {low: 1e9, high: -1e9}}).encode(),
        )
        found = Detector.load(path).score(waveform, rate)
        assert (found.section, found.score, found.standardised) == (nearest, scores[nearest], 0.0)
        assert found.threshold == {low: 1e9, high: -1e9}[nearest]
        assert found.decision == (nearest == high)


def test_without_a_threshold_nothing_is_decided(folder, recordings, tmp_path, monkeypatch, capsys, caplog):
    detector = with_threshold(folder, tmp_path, None)
    some = list(recordings.values())[:2]
    found = Detector.load(detector).score(*soundfile.read(some[0], dtype="int16"), section="01")
    assert found.decision is None
    assert found.threshold == np.inf
    words = ("score", "--detector", detector, "--section", "01", *some)
    status, out, _ = asd(monkeypatch, capsys, *words)
    assert status == 1
    assert [line.split()[2] for line in out.splitlines()] == ["decision", "-", "-"]
    assert caplog.text.count("section 01: 6 scored training recordings are too few for a threshold") == 1
    _, out, _ = asd(monkeypatch, capsys, *words, "--format", "jsonl")
    assert [(row["decision"], row["threshold"]) for row in map(json.loads, out.splitlines())] == [(None, None)] * 2


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(folder, recordings, tmp_path, monkeypatch, capsys, caplog):
    detector = with_threshold(folder, tmp_path, 1e9)
    good = next(iter(recordings.values()))
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "short.wav", np.zeros(3000, np.int16), 16000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "stereo.wav", np.zeros((16000, 2)), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    bad = {
        "empty.wav": "an empty file",
        "short.wav": "found 0.19 s; a window of the detector takes 0.48 s",
        "slow.wav": "expected a wav, 16-bit PCM, mono, 16000 Hz; convert it, or give --convert",
        "stereo.wav": "expected a wav, 16-bit PCM, mono, 16000 Hz; convert it, or give --channel mix",
        "text.wav": "not a readable wav",
        "none.wav": "no such file",
    }
    words = ("score", "--detector", detector, "--format", "jsonl")
    paths = [tmp_path / name for name in bad]
    found, out, _ = asd(monkeypatch, capsys, *words, paths[0], good, *paths[1:])
    assert found == 1
    (row,) = map(json.loads, out.splitlines())
    assert row["file"] == str(good)
    assert row["seconds"] == 1
    for path, (name, said) in zip(paths, bad.items(), strict=True):
        assert any(str(path) in message and said in message for message in caplog.messages), name
    assert caplog.messages[-1] == "6 of 7 recordings could not be scored"
    others = (tmp_path / "slow.wav", tmp_path / "stereo.wav")
    caplog.clear()
    found, out, _ = asd(monkeypatch, capsys, *words, "--convert", "--channel", "mix", *others)
    assert found == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == list(map(str, others))
    assert [message.endswith("may be dead") for message in caplog.messages] == [True, True]


def test_a_folder_stands_for_the_recordings_in_it(folder, recordings, tmp_path, monkeypatch, capsys, caplog):
    words = ("score", "--detector", with_threshold(folder, tmp_path, 1e9), "--format", "csv")
    (tmp_path / "new/deep").mkdir(parents=True)
    sources = list(recordings.values())[:2]
    for source, name in zip(sources, ("b.wav", "deep/a.wav"), strict=True):
        shutil.copy(source, tmp_path / "new" / name)
    (tmp_path / "new/notes.m4a").write_bytes(b"?")
    status, out, _ = asd(monkeypatch, capsys, *words, tmp_path / "new")
    assert status == 0
    inside, named = pd.read_csv(StringIO(out)), pd.read_csv(StringIO(asd(monkeypatch, capsys, *words, *sources)[1]))
    assert sorted(inside["score"]) == sorted(named["score"])
    assert {Path(file).name for file in inside["file"]} == {"a.wav", "b.wav"}
    assert "notes.m4a" in caplog.text
    (tmp_path / "none").mkdir()
    status, _, said = asd(monkeypatch, capsys, *words, tmp_path / "none")
    assert status == 2
    assert "none: found no recordings in it; expected files that end in" in said


def test_silence_is_said(folder, recordings):
    detector = Detector.load(folder / "spectrum/fan.zip")
    sound = soundfile.read(next(iter(recordings.values())), dtype="float64")[0]
    assert detector.score(sound, 16000).remark == ""
    for silence in (np.zeros(16000), np.full(16000, 0.1), 1e-5 * np.sin(np.arange(16000))):  # the sine: -103 dB
        assert detector.score(silence, 16000).remark.startswith("silent (level -10")


def test_entries_that_cannot_be_looked_at_and_names_that_are_no_text(folder, recordings, tmp_path):
    good, bad = (tmp_path / os.fsdecode(name) for name in (b"L\xfcfter.wav", b"in/y.wav"))
    shutil.copy(next(iter(recordings.values())), good)
    bad.parent.mkdir()
    shutil.copy(good, bad)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    names = [good, tmp_path / "loop.wav", tmp_path / ("x" * 300 + ".wav")]
    words = [
        sys.executable,
        "-c",
        "from asd.cli import main; main()",
        "score",
        "--detector",
        folder / "global/fan.zip",
        "--format",
    ]
    for locale in ("C", "C.UTF-8"):
        run = {"capture_output": True, "env": os.environ | {"LC_ALL": locale}}
        said = subprocess.run([*words, "jsonl", *names], **run)
        assert said.returncode in (1, 3), said.stderr
        assert b"Traceback" not in said.stderr
        (row,) = map(json.loads, said.stdout.splitlines())
        assert row["file"] == str(good)
        for reason in (errno.ELOOP, errno.ENAMETOOLONG):
            assert os.strerror(reason).encode() in said.stderr
    table = subprocess.run([*words, "table", good], **run).stdout.decode("utf-8")
    assert "L\\udcfcfter.wav" in table


def test_recordings_of_another_length_are_scored_with_a_warning(folder, tmp_path, monkeypatch, capsys, caplog):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    some = tmp_path / "a.wav", tmp_path / "b.wav"
    _, out, _ = asd(monkeypatch, capsys, "score", "--detector", folder / "local/fan.zip", "--format", "csv", *some)
    assert pd.read_csv(StringIO(out))["seconds"].tolist() == [2, 2]
    (said,) = caplog.messages
    assert (
        f"made from clips of 1.00 s; its threshold may not fit recordings of another length: {some[0]}, 2.00 s" in said
    )
    assert said.endswith("and 1 more")


def test_a_table_to_read_and_a_picture_of_each_recording(folder, recordings, tmp_path, monkeypatch, capsys):
    first, second = list(recordings.values())[:2]
    plot = tmp_path / "pictures"
    _, out, _ = asd(monkeypatch, capsys, "score", "--detector", folder / "local/fan.zip", first, second, "--plot", plot)
    assert out.splitlines()[0].split() == HEADER
    assert {path.name for path in plot.iterdir()} == {
        f"{one.stem}.{kind}" for one in (first, second) for kind in ("svg", "png")
    }
    assert "window score" in (plot / f"{first.stem}.svg").read_text()
    again = tmp_path / "again" / first.name  # of the same name, in another folder
    again.parent.mkdir()
    again.symlink_to(first)
    plot = tmp_path / "both"
    asd(monkeypatch, capsys, "score", "--detector", folder / "global/fan.zip", first, again, "--plot", plot)
    assert len({path.name for path in plot.glob("*.png")}) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--detector", "none.zip", "a.wav"), "none.zip: not a readable detector"),
        (("--detector", "oe/fan.zip", "--section", "07", "a.wav"), "--section: found 07; it knows 00, 01"),
        (("--detector", "oe/fan.zip"), "found no recordings; name them"),
        (("--detector", "oe/fan.zip", "--device", "gpu", "a.wav"), "--device: .* found 'gpu'"),
        (("--detector", "oe/fan.zip", "--channel", "0", "a.wav"), "--channel: .* found 0"),
        (("--detector", "oe/fan.zip", "--plot", "oe/fan.zip", "a.wav"), "File exists: 'oe/fan.zip'"),
    ],
)
def test_what_is_wrong_with_the_command_ends_it_with_a_word(
    folder, recordings, tmp_path, monkeypatch, capsys, words, message
):
    (tmp_path / "oe").symlink_to(folder / "oe")
    (tmp_path / "a.wav").symlink_to(next(iter(recordings.values())))
    monkeypatch.chdir(tmp_path)
    status, _, err = asd(monkeypatch, capsys, "score", *words)
    assert status == 2
    assert re.search(f"error: .*{message}", err)


def test_the_command_says_its_version(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["asd", "--version"])
    cli.main()
    assert capsys.readouterr().out == f"asd {importlib.metadata.version('asd')}\n"


def test_a_reader_that_has_seen_enough_is_no_error(folder, recordings):
    """As in `asd score … | head -0`: the pipe is closed before anything is written."""
    command = [Path(sys.executable).with_name("asd"), "score", "--detector", folder / "local/fan.zip"]
    words = [*command, *recordings.values()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        begun.stdout.close()
        assert begun.stderr.read() == ""
    assert begun.returncode == 141


def test_a_folder_is_watched_and_a_restart_goes_on(folder, recordings, tmp_path, monkeypatch, capsys):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    first, second, third = list(recordings.values())[:3]
    for path in (first, second):
        (inbox / path.name).write_bytes(path.read_bytes())
    (inbox / "notes.txt").write_text("no recording")
    (inbox / "broken.wav").write_bytes(first.read_bytes()[:1000])
    words = ("watch", inbox, "--detector", folder / "local/fan.zip", "--once", "--interval", "0.01")
    assert asd(monkeypatch, capsys, *words)[0] == 1  # one could not be scored
    rows = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows} == {first.name, second.name, "broken.wav"}
    scored = {row["file"]: row.get("score") for row in rows}
    detector = Detector.load(folder / "local/fan.zip")
    assert scored[first.name] == detector.score(*soundfile.read(first, dtype="int16")).score
    assert scored["broken.wav"] is None
    with (inbox / "asd.jsonl").open("a") as log:
        log.write('{"file": "half a li')  # a power cut
    (inbox / third.name).write_bytes(third.read_bytes())
    _, out, _ = asd(monkeypatch, capsys, *words)
    assert third.name in out
    assert first.name not in out
    again = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert again[:3] == rows
    assert [row["file"] for row in again[3:]] == [third.name]


@pytest.mark.slow
def test_the_onnx_graph_gives_the_same_scores(folder, recordings, tmp_path, monkeypatch, capsys):
    import onnxruntime

    path = tmp_path / "fan.onnx"
    status, out, _ = asd(monkeypatch, capsys, "export", "--detector", folder / "local/fan.zip", "--onnx", path)
    assert status == 0
    assert "ms per row with onnxruntime" in out
    detector = Detector.load(folder / "local/fan.zip")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["sections"]) == ["00", "01"]
    assert json.loads(said["thresholds"]) == detector.description.thresholds
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    logmel = detector.log_mel(waveform, rate)
    windows = np.stack([logmel[:, start : start + 16] for start in (0, 4, 8, 12, 16)])
    (scores,) = session.run(None, {"logmel": windows})
    assert scores.shape == (5, 2)
    for number, section in enumerate(("00", "01")):
        np.testing.assert_allclose(scores[:, number], detector.score(waveform, rate, section).windows, rtol=1e-4)


@pytest.mark.slow
def test_a_graph_whose_scores_are_not_finite_is_not_written(folder, tmp_path):
    detector = Detector.load(folder / "local/fan.zip")
    with torch.no_grad():
        next(iter(detector.members[0].network.parameters())).fill_(torch.nan)
    with pytest.raises(InputError, match=r"fan\.onnx: the detector's scores of noise are not finite"):
        export(detector, tmp_path / "fan.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["oe", "spectrum"])
def test_the_graph_of_a_whole_clip_is_the_detector(folder, recordings, model):
    detector = Detector.load(folder / model / "fan.zip")
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    with torch.inference_mode():
        (scores,) = Graph(detector)(torch.from_numpy(detector.log_mel(waveform, rate))[None]).tolist()
    assert scores == pytest.approx([detector.score(waveform, rate, one).score for one in ("00", "01")], rel=1e-6)


def test_what_is_no_single_graph_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="a fusion of spectrum, local, oe is no single graph"):
        Graph(Detector.load(folder / "fusion/fan.zip"))
    detector = Detector.load(folder / "local/fan.zip")
    (loaded,) = detector.members
    knn = loaded.member.model_copy(update={"detector": "knn"})
    with pytest.raises(InputError, match="cannot be a graph: found detector knn; expected gaussian or exposure"):
        Graph(Detector(detector.description, [Loaded(knn, loaded.network, loaded.fitted)]))


def test_the_example_of_the_documentation_runs(folder, recordings, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs/detectors.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "results/detectors").mkdir(parents=True)
    (tmp_path / "results/detectors/fan.zip").symlink_to(folder / "local/fan.zip")
    (tmp_path / "recording.wav").symlink_to(next(iter(recordings.values())))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "detectors.md", "exec"), {})
    said = capsys.readouterr().out
    assert "threshold" in said
    assert "most anomalous around" in said
