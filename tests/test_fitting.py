"""`asd fit`: a detector from a folder of recordings, and that it is the workflow's."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import make_corpus
from test_workflow import snakemake

from asd import cli, fitting
from asd.detector import Detector
from asd.scores import read_scores
from asd.threshold import threshold


def normals(folder: Path, count: int, seconds: float = 1.0, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", random.normal(0, 0.1, int(16000 * seconds)), 16000)
    return folder


def asd_fit(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["asd", "fit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_a_detector_of_a_folder_says_what_it_learned(tmp_path, monkeypatch, capsys):
    normals(tmp_path / "Fan 3", 12)
    normals(tmp_path / "new/normal", 3, seed=1)
    loud = normals(tmp_path / "new/ng", 2, seed=2)
    for path in loud.iterdir():
        soundfile.write(path, 3 * soundfile.read(path)[0], 16000)
    out = tmp_path / "made/fan.zip"
    monkeypatch.chdir(tmp_path)  # folders are relative to where the command runs
    status, said, _ = asd_fit(monkeypatch, capsys, "Fan 3", "--out", out, "--test", "new")
    assert status == 0
    first, second, expected, third, last = said.splitlines()
    assert first == "Fan_3: Spectrum, from 12 clips of 1.00 s at 16000 Hz"
    assert second.startswith("section 00: 12 clips; anomalous above ")
    assert expected == "expected false alarms: 10% of the normal clips, which is 8640 per day at a clip every 1 s"
    assert third.startswith("test, section 00: 5 clips, ")
    assert "found 2 of 2, false alarms " in third
    assert third.endswith("AUC 100.0 (no interval, all resamples have this)")
    assert last == str(out)
    detector = Detector.load(out)
    sound, rate = soundfile.read(loud / "0.wav")
    assert detector.score(sound, rate).decision


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fusion", "oe"])
def test_networks_and_fusions_are_made_too(tmp_path, model):
    folder = make_corpus(tmp_path)
    rows = [
        {
            "file": path.relative_to(folder.parent),
            "machine": "fan",
            "split": path.parent.name,
            "section": path.name[8:10],
        }
        for path in sorted(folder.rglob("*.wav"))
    ]
    pd.DataFrame(rows).to_csv(folder.parent / "manifest.csv", index=False)
    overlay = tmp_path / "brief.yaml"
    overlay.write_text(
        "train: {epochs: 1, batch: 4}\n"
        "networks: {local: {epochs: 1, batch: 4, window: 16, test_hop: 8}, oe: {epochs: 1}}\n"
        "backbone: {weights: none}\ncheck: {short: 0.5}\n"
    )
    status = cli.fit(folder.parent, out=tmp_path / "fan.zip", model=model, configfile=(overlay,))
    assert status == 0
    detector = Detector.load(tmp_path / "fan.zip")
    assert detector.description.sections == ["00", "01"]
    assert len(detector.members) == (3 if model == "fusion" else 1)


@pytest.mark.slow
def test_scores_and_decisions_are_those_of_the_workflow(tmp_path):
    folder = tmp_path / "plant"
    normals(folder / "train", 24)
    normals(folder / "test", 4, seed=1)
    rows = [{"file": f"{path.parent.name}/{path.name}", "machine": "fan", "split": path.parent.name}
            for path in sorted(folder.rglob("*.wav"))]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    overlay = {
        "dataset": {"kind": "folder", "folder": {"path": str(folder)}},
        "machines": ["fan"],
        "logmel": {"convert": True, "channel": "mix", "lengths": "crop"},
        "check": {"short": 0.5},
        "run_models": ["spectrum"],
        "paper_models": ["spectrum"],
    }
    (tmp_path / "run").mkdir()
    made = "results/scores/spectrum/fan.csv", "results/detectors/spectrum/fan.zip"
    snakemake(tmp_path / "run", "--", *made, overlay=overlay)
    theirs = read_scores(tmp_path / "run/results/scores/spectrum/fan.csv")
    settings = fitting.configured((), folder, "fan")
    work = tmp_path / "work"
    work.mkdir()
    clips = fitting.clips_of(folder, "fan", None, work)
    ours = fitting.fit(clips, "spectrum", settings, tmp_path / "fan.zip", "cpu", work).scores
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert (tmp_path / "fan.zip").read_bytes() == (tmp_path / "run/results/detectors/spectrum/fan.zip").read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere", "--out", "a.zip"], "nowhere: no such folder; name one of recordings"),
        (["empty", "--out", "a.zip"], "empty: found no recordings; expected files that end in"),
        (["two", "--out", "a.onnx"], "--out: found a.onnx; expected the name of a file that ends in .zip"),
        (["two", "--out", "a.zip", "--model", "best"], "--model: found 'best'; the configuration has level, nearest"),
        (["two", "--out", "a.zip", "--configfile", "no.yaml"], "no.yaml: cannot be read as YAML"),
        (
            ["quiet", "--out", "a.zip"],
            "2.wav: silent (level -100 dB, below -90 dB); the microphone",
        ),
        (["quiet", "--out", "a.zip"], "1 of 3 training recordings are silent, and a detector would learn silence as"),
        (["two", "--out", "a.zip", "--false-alarms", "0"], "--false-alarms: found 0; expected a share of the clips"),
        (["two", "--out", "a.zip", "--period", "0"], "--period: found 0; expected seconds from one clip to the next"),
        (["plant", "--out", "a.zip"], "has the machines fan, pump; say which one: --machine fan"),
        (["plant", "--out", "a.zip", "--machine", "fan", "--test", "two"], "leave out --test, or the manifest"),
    ],
)
def test_what_cannot_be_fitted_is_said(tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    normals(tmp_path / "two", 2)
    shutil.copytree(tmp_path / "two", tmp_path / "plant")
    shutil.copytree(tmp_path / "two", tmp_path / "quiet")
    soundfile.write(tmp_path / "quiet/2.wav", np.zeros(16000), 16000)
    (tmp_path / "plant/manifest.csv").write_text("file,machine,split\n0.wav,fan,train\n1.wav,pump,train\n")
    status, _, said = asd_fit(monkeypatch, capsys, *words)
    assert status == 2
    assert expected in said
    assert not (tmp_path / "a.zip").exists()


def test_the_wanted_rate_of_false_alarms_is_that_of_the_threshold(tmp_path, monkeypatch, capsys, caplog):
    normals(tmp_path / "fan", 24)
    rate = ("--false-alarms", "96/day", "--period", 180)  # 480 clips a day
    status, said, _ = asd_fit(monkeypatch, capsys, tmp_path / "fan", "--out", tmp_path / "a.zip", *rate)
    assert status == 0
    assert "expected false alarms: 20% of the normal clips, which is 96 per day at a clip every 180 s" in said
    detector = Detector.load(tmp_path / "a.zip")
    held_out = detector.training["score"].to_numpy()
    assert detector.description.thresholds == {"00": threshold(held_out, 0.8)[0]}
    assert detector.description.decision.quantile == 0.8
    assert caplog.messages == []
    rate = ("--false-alarms", "1/day", "--period", 180)
    asd_fit(monkeypatch, capsys, tmp_path / "fan", "--out", tmp_path / "a.zip", *rate)
    assert "section 00: 0.0021 of the normal clips is rarer than 24 training recordings can tell" in caplog.text


def test_a_single_recording_decides_nothing(tmp_path, monkeypatch, capsys):
    normals(tmp_path / "one", 1)
    status, said, _ = asd_fit(monkeypatch, capsys, tmp_path / "one", "--out", tmp_path / "a.zip")
    assert status == 0
    assert "0 scored training recordings are too few for a threshold (5 are needed); nothing is decided" in said
