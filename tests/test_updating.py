"""`asd update`: that it gives the detector of a fit to all recordings, and what it refuses."""

import errno
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import hum
from detectors import FITS, WINDOWS, asd, damaged
from test_fitting import normals

from asd import cli, detector_file, sections
from asd.cache import open_cache, write_cache
from asd.corpus import read_manifest, sorted_clips, write_manifest
from asd.detector import Detector
from asd.features import open_features, write_features
from asd.kinds import load
from asd.settings import Decision, LogMel
from asd.threshold import of_sections

MODELS = """
models:
  mix: {title: Mix, spectrum: ranked, detector: gmm}
  both: {title: Both, members: [spectrum, nearest], weights: [2, 1]}
"""


@pytest.mark.parametrize("model", ["spectrum", "nearest", "mix", "both"])
def test_the_file_is_that_of_a_fit_to_all_recordings(tmp_path, monkeypatch, capsys, caplog, model):
    overlay = tmp_path / "models.yaml"
    overlay.write_text(MODELS)
    normals(tmp_path / "fan/b", 14)
    fixed = {"model": model, "machine": "fan", "configfile": (overlay,)}
    cli.fit(tmp_path / "fan", out=tmp_path / "before.zip", **fixed)
    normals(tmp_path / "fan/a", 6, seed=1)  # before the others by name
    cli.fit(tmp_path / "fan", out=tmp_path / "all.zip", **fixed)
    out = tmp_path / "after.zip"
    words = ("--detector", tmp_path / "before.zip", "--out", out)
    status, said, _ = asd(monkeypatch, capsys, "update", *words, tmp_path / "fan")
    assert status == 0
    assert out.read_bytes() == (tmp_path / "all.zip").read_bytes()
    assert "from 20 clips of 1.00 s at 16000 Hz\nsection 00: 20 clips; anomalous above " in said
    assert "14 of 20 recordings are in the detector already, or twice" in caplog.text
    again = "--false-alarms", "0.3"  # in place
    one = normals(tmp_path / "new", 1, seed=2)
    assert asd(monkeypatch, capsys, "update", "--detector", out, "--out", out, *again, one)[0] == 0
    found = Detector.load(out)
    clips, score = found.training.assign(split="train"), found.training["score"].to_numpy()
    assert len(clips) == 21
    assert found.description.thresholds == of_sections(clips, score, Decision(quantile=0.7))


@pytest.mark.parametrize("model", ["global", "local"])
def test_a_network_stays_and_its_features_are_fitted_again(detectors, cache_path, tmp_path, monkeypatch, capsys, model):
    """The sections are those that `asd.sections` fits to the features of all recordings, section 00 with six more."""
    new, random = tmp_path / "new", np.random.default_rng(7)
    new.mkdir()
    for number in range(6):
        soundfile.write(new / f"{number}.wav", hum(random, 0, number % 2), 16000, "PCM_16")
    words = ("--detector", detectors / f"{model}/fan.zip", "--section", "00", "--out", tmp_path / "fan.zip", new)
    assert asd(monkeypatch, capsys, "update", *words)[0] == 0

    home = cache_path.parent
    before = read_manifest(home / "manifest.csv")
    before["path"] = [str(home / path) for path in before["path"]]
    like = before.query("split == 'train' and section == '00'").iloc[[0] * 6].reset_index(drop=True)
    files = [str(path) for path in sorted(new.iterdir())]
    write_manifest(tmp_path / "all.csv", sorted_clips(pd.concat([before, like.assign(path=files, file=files)])))
    write_cache(tmp_path / "all.h5", tmp_path / "all.csv", LogMel(mels=64))
    network = load(detectors / "fan.safetensors").for_scoring()
    with open_cache(tmp_path / "all.h5") as cache:
        write_features(tmp_path / "features.h5", network, cache, WINDOWS[model], network.mean.device)
    with open_features(tmp_path / "features.h5") as features:
        expected = sections.fit_sections(features, FITS[model], np.random.default_rng(0))
    found = Detector.load(tmp_path / "fan.zip")
    scores = dict(zip(found.training["file"], found.training["score"], strict=True))
    assert len(scores) == 18
    assert scores == pytest.approx(expected.held_out, rel=1e-4)
    row = np.random.default_rng(0).normal(0, 1, (1, len(found.members[0].columns)))
    for section, one in expected.sections.items():
        ours = found.members[0].fitted.sections[section]
        assert ours.window_scores(row) == pytest.approx(one.window_scores(row), rel=1e-4)
    with zipfile.ZipFile(tmp_path / "fan.zip") as archive, zipfile.ZipFile(detectors / f"{model}/fan.zip") as old:
        kept = f"{model}/network.safetensors"
        assert archive.read(kept) == old.read(kept)


def test_features_that_are_too_large_are_left_out_and_said(tmp_path, monkeypatch, capsys, caplog):
    normals(tmp_path / "fan", 6)
    monkeypatch.setattr(detector_file, "FEATURES", 6 * 2 * 224 * 4 - 1)
    cli.fit(tmp_path / "fan", out=tmp_path / "fan.zip")
    assert "asd update cannot add recordings to it" in caplog.text
    normals(tmp_path / "new", 1, seed=1)
    words = ("--detector", tmp_path / "fan.zip", "--out", tmp_path / "b.zip", tmp_path / "new")
    status, _, said = asd(monkeypatch, capsys, "update", *words)
    assert status == 2
    assert "fan.zip: does not carry the training features of Spectrum" in said


@pytest.fixture
def plant(tmp_path, monkeypatch, detectors):
    """A folder with a detector of twelve clips, and recordings that are wrong in one way each."""
    monkeypatch.chdir(tmp_path)
    normals(tmp_path / "fan", 12)
    cli.fit(tmp_path / "fan", out=tmp_path / "fan.zip")
    (good,) = normals(tmp_path / "new", 1, seed=1).iterdir()
    sound = soundfile.read(good)[0]
    soundfile.write("silent.wav", 0 * sound, 16000)
    soundfile.write("short.wav", sound[:15000], 16000)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty").mkdir()
    (tmp_path / "models").symlink_to(detectors)
    damaged(tmp_path / "old.zip", tmp_path / "fan.zip", detector=b'{"layout": 4}')
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detector", "fan.zip"], "found no recordings; name them: asd update"),
        (["--detector", "fan.zip", "empty"], "empty: found no recordings in it; expected files that end in"),
        (["--detector", "fan.zip", "none.wav"], "none.wav: no such file"),
        (["--detector", "none.zip", "new"], "none.zip: not a readable detector"),
        (["--detector", "old.zip", "new"], "old.zip: not a readable detector (it has layout 4"),
        (["--detector", "fan.zip", "text.wav"], "text.wav: not a readable"),
        (["--detector", "fan.zip", "new", "silent.wav"], "1 of 2 training recordings are silent"),
        (
            ["--detector", "fan.zip", "new", "short.wav"],
            "short.wav: 0.94 s; the detector was made from clips of 1.00 s",
        ),
        (["--detector", "fan.zip", "fan"], "12 of 12 recordings are in the detector already, or twice: "),
        (["--detector", "fan.zip", "--section", "07", "new"], "--section: found 07; the detector has 00"),
        (["--detector", "fan.zip", "--false-alarms", "2", "new"], "--false-alarms: found 2; expected a share"),
        (["--detector", "models/oe/fan.zip", "new"], "OE scores by its classifier, which would have to be trained"),
        (["--detector", "models/fusion/fan.zip", "new"], "OE scores by its classifier, which would have to be trained"),
        (["--detector", "models/spectrum/fan.zip", "new"], "--section: not given; the detector has 00, 01; say of"),
        (["--detector", "fan.zip", "new", "--out", "a.onnx"], "--out: found a.onnx; expected the name of a file that"),
    ],
)
def test_what_cannot_be_added_is_said(plant, monkeypatch, capsys, words, message):
    out = [] if "--out" in words else ["--out", "new.zip"]
    status, _, said = asd(monkeypatch, capsys, "update", *out, *words)
    assert status == 2
    assert message in said
    assert said.count("error: ") == 1
    assert not (plant / "new.zip").exists()


def test_another_rate_is_refused_or_converted(detectors, tmp_path, monkeypatch, capsys):
    """A detector of the workflow takes wavs of its rate; --convert takes others."""
    soundfile.write(tmp_path / "slow.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    words = ("--detector", detectors / "global/fan.zip", "--section", "00", "--out", tmp_path / "fan.zip")
    status, _, said = asd(monkeypatch, capsys, "update", *words, tmp_path / "slow.wav")
    assert status == 2
    assert "expected a wav, 16-bit PCM, mono, 16000 Hz; convert it" in said
    assert asd(monkeypatch, capsys, "update", *words, "--convert", tmp_path / "slow.wav")[0] == 0
    assert Detector.load(tmp_path / "fan.zip").description.training == {"00": 7, "01": 6}


def test_a_recording_that_was_replaced_has_to_be_renamed(plant, monkeypatch, capsys):
    shutil.copy(plant / "new/0.wav", plant / "fan/3.wav")
    status, _, said = asd(monkeypatch, capsys, "update", "--detector", "fan.zip", "--out", "new.zip", "fan")
    assert status == 2
    assert "fan/3.wav: the detector was made from another recording of this name (1 such); rename it" in said


def test_a_domain_that_is_not_clear_has_to_be_given(tmp_path, monkeypatch, capsys):
    folder = normals(tmp_path / "fan", 8)
    rows = [f"{number}.wav,fan,train,{'target' if number > 4 else 'source'}" for number in range(8)]
    (folder / "manifest.csv").write_text("\n".join(["file,machine,split,domain", *rows]))
    cli.fit(folder, out=tmp_path / "fan.zip")
    normals(tmp_path / "new", 1, seed=1)
    words = ("update", "--detector", tmp_path / "fan.zip", "--out", tmp_path / "new.zip", tmp_path / "new")
    status, _, said = asd(monkeypatch, capsys, *words)
    assert status == 2
    assert "--domain: not given; section 00 was made from the domains source and target" in said
    assert asd(monkeypatch, capsys, *words, "--domain", "target")[0] == 0
    assert sorted(Detector.load(tmp_path / "new.zip").training["domain"]) == ["source"] * 5 + ["target"] * 4


def test_a_full_disk_leaves_the_detector_as_it_was(plant, monkeypatch, capsys):
    before = (plant / "fan.zip").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    status, _, said = asd(monkeypatch, capsys, "update", "--detector", "fan.zip", "--out", "fan.zip", "new")
    assert status == 2
    assert "error: fan.zip: cannot be written: the disk is full" in said
    assert (plant / "fan.zip").read_bytes() == before
    assert not list(plant.glob(".fan*"))
