"""Faulty recordings are found and said; levels and spectra are those of the sound."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_workflow import snakemake

from asd.corpus_check import BANDS, Spectrum, examine, few, summary, write_plots
from asd.settings import Check, LogMel

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/check_corpus.py"
RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)


def broken(folder: Path) -> pd.DataFrame:
    """A clip for each fault, and a good one."""
    sounds = {
        "good": (NOISE, "PCM_16"),
        "quiet": (1e-6 * NOISE, "PCM_24"),
        "loud": (np.clip(30 * NOISE, -1, 1), "PCM_16"),
        "hot": (15 * NOISE, "FLOAT"),
        "brief": (NOISE[:1000], "PCM_16"),
        "nan": (np.where(np.arange(len(NOISE)) == 7, np.nan, NOISE), "FLOAT"),
        "cut": (NOISE, "PCM_16"),
        "stereo": (np.stack([NOISE, NOISE], 1)[::-1], "PCM_16"),
    }
    for name, (sound, subtype) in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound, RATE, subtype)
    data = (folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(data[:-1000])
    rows = [
        {"file": f"{name}.wav", "machine": "fan", "split": "train" if name == "good" else "test"} for name in sounds
    ]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return pd.DataFrame([row | {"section": "00", "domain": "", "label": ""} for row in rows])


@pytest.mark.parametrize("threads", [1, 3])
def test_each_fault_is_found(tmp_path, threads):
    clips = broken(tmp_path)
    settings = LogMel(convert=True)
    table, spectra = examine(clips, [tmp_path / file for file in clips["file"]], settings, Check(), threads)
    found = dict(zip(table["file"].str[:-4], zip(table["fault"], table["refused"], strict=True), strict=True))
    assert found == {
        "good": ("", False),
        "quiet": ("silent", True),
        "loud": ("clipped", False),
        "hot": ("clipped", False),
        "brief": ("short", True),
        "nan": ("unreadable", True),
        "cut": ("unreadable", True),
        "stereo": ("unreadable", True),
    }
    reasons = dict(zip(table["file"].str[:-4], table["reason"], strict=True))
    assert "truncated: found 31500 samples, the header promises 32000" in reasons["cut"]
    assert "sample 7 is [nan]" in reasons["nan"]
    assert reasons["brief"] == "0.062 s"
    good = table.iloc[0]
    assert good["seconds"] == 2
    assert good["level"] == pytest.approx(10 * np.log10(np.mean(NOISE**2)), abs=0.01)
    assert good["peak"] == pytest.approx(20 * np.log10(np.abs(NOISE).max()), abs=0.01)
    assert table["peak"][3] == pytest.approx(20 * np.log10(15 * np.abs(NOISE).max()), abs=0.01)  # beyond full scale
    assert spectra.shape == (8, len(BANDS))
    counts = summary(table).set_index("split")
    assert counts.loc["test", ["clips", "faulty", "refused"]].tolist() == [7, 7, 5]
    assert counts.loc["train", ["clips", "faulty", "refused"]].tolist() == [1, 0, 0]


def test_what_is_refused_is_configuration(tmp_path):
    clips = broken(tmp_path)
    files = [tmp_path / file for file in clips["file"]]
    strict, _ = examine(clips, files, LogMel(convert=True, channel="mix"), Check(refuse=["clipped"], clipped=0.5))
    assert set(strict["file"][strict["refused"]]) == {"loud.wav", "hot.wav", "nan.wav", "cut.wav"}
    lenient, _ = examine(clips, files, LogMel(convert=True, channel="mix"), Check(refuse=[], short=0, silent=-300))
    assert set(lenient["file"][lenient["refused"]]) == {"nan.wav", "cut.wav"}


def heard(folder: Path, check: Check, **sounds: np.ndarray) -> pd.DataFrame:
    """The faults of recordings, by name; those that begin with train are training recordings."""
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound, RATE, "PCM_16")
    rows = [{"file": f"{name}.wav", "split": "train" if name.startswith("train") else "test"} for name in sounds]
    clips = pd.DataFrame(rows).assign(machine="fan", section="00", domain="", label="")
    table, _ = examine(clips, [folder / file for file in clips["file"]], LogMel(), check)
    return table.set_index(table["file"].str[:-4])


def test_a_dead_microphone_is_silent_whatever_its_offset(tmp_path):
    offset = np.full(2 * RATE, 300 / 32768)
    late = np.where(np.arange(2 * RATE) < RATE / 2, NOISE, 0.01)  # dead after a quarter
    drops = np.where(np.arange(2 * RATE) % RATE < RATE // 25, 0, NOISE)  # 40 ms in each second
    found = heard(tmp_path, Check(), offset=offset, late=late, drops=drops, train=NOISE + 0.01)
    assert found["fault"].to_dict() == {"offset": "silent", "late": "gaps", "drops": "gaps", "train": ""}
    assert found["refused"].to_dict() == {"offset": True, "late": True, "drops": True, "train": False}
    assert found["silence"].to_dict() == pytest.approx(
        {"offset": 1, "late": 0.75, "drops": 0.04, "train": 0}, abs=0.011
    )
    assert found.loc["late", "reason"] == "75.0% of the time silent"
    assert found.loc["offset", "level"] == -100
    assert not heard(tmp_path, Check(gaps=0.9), late=late)["fault"].any()


def test_the_same_sound_in_both_splits_is_found_whatever_its_name(tmp_path):
    other = NOISE[::-1].copy()
    found = heard(tmp_path, Check(), train_a=NOISE, train_b=NOISE, test_c=NOISE, test_d=other, test_e=other)
    assert found["fault"].tolist() == ["repeated", "repeated", "repeated", "", ""]
    assert found.loc["test_c", "reason"] == "the same sound as train_a.wav, which is in the other split"
    assert not heard(tmp_path, Check(refuse=[]), train_a=NOISE, test_c=NOISE)["refused"].any()


def test_a_long_recording_is_measured_in_blocks(tmp_path, monkeypatch):
    sound = np.float32(NOISE * np.linspace(0, 2, len(NOISE)) + 0.05)
    sound[4960:8960] = 0.05
    soundfile.write(tmp_path / "train.wav", sound, RATE, "FLOAT")
    clips = pd.DataFrame([{"file": "train.wav", "machine": "fan", "split": "train", "section": "00"}])
    clips = clips.assign(domain="", label="")
    tables = []
    for size in (10**6, 1234, 7):
        monkeypatch.setattr("asd.soundfiles.BLOCK", size)
        table, spectra = examine(clips, [tmp_path / "train.wav"], LogMel(convert=True), Check())
        tables.append(pd.concat([table, pd.DataFrame(spectra)], axis=1))
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, rtol=1e-9)
    row = tables[0].iloc[0]
    pieces = sound.astype(float).reshape(-1, 160)
    assert row["level"] == pytest.approx(10 * np.log10(sound.astype(float).var()), abs=1e-9)
    assert row["silence"] == np.mean(pieces.var(1) < 1e-9) == 0.125
    assert row["clipped"] == np.mean(np.abs(sound) >= 0.9999)
    assert row["sound"] == hashlib.sha256(sound.tobytes()).hexdigest()


def spectrum(sound: np.ndarray, rate: int) -> np.ndarray:
    """The levels of a recording that comes as one block."""
    measured = Spectrum(rate)
    measured.add(sound)
    return measured.levels()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_sine_lies_in_its_band(rate):
    band = 15  # 1000 Hz
    assert BANDS[band] == 1000
    levels = spectrum(np.float32(0.1 * np.sin(2 * np.pi * 1000 * np.arange(3 * rate) / rate)), rate)
    assert levels[band] == pytest.approx(-23.01, abs=0.05)
    assert np.nanmax(np.delete(levels, band)) < -60
    np.testing.assert_array_equal(np.isnan(levels), rate / 2 < BANDS * 2 ** (1 / 6))


def test_white_noise_rises_by_a_decibel_a_band():
    levels = spectrum(np.random.default_rng(1).normal(0, 0.1, 60 * RATE), RATE)
    low, high = BANDS * 2 ** (-1 / 6), BANDS * 2 ** (1 / 6)
    expected = 10 * np.log10(0.01 * (high - low) / (RATE / 2))
    known = ~np.isnan(levels) & (BANDS > 200)  # below, a band is a few bins wide
    np.testing.assert_allclose(levels[known], expected[known], atol=0.8)


def test_few_recordings_are_said_before_anything_is_computed():
    counts = {("fan", "00"): 4, ("fan", "01"): 5, ("fan", "02"): 19, ("fan", "03"): 20, ("valve", "00"): 30}
    rows = [
        {"machine": machine, "section": section, "split": split, "attributes": '{"site": "a"}'}
        for (machine, section), count in counts.items()
        for split, number in (("train", count), ("test", 50))
        for _ in range(number)
    ]
    undecided, uncertain, alone = few(pd.DataFrame(rows))
    assert undecided == "fan: training recordings of section 00 (4): fewer than 5, so nothing is decided there"
    assert uncertain.startswith("fan: training recordings of section 01 (5), 02 (19): fewer than 20")
    assert alone.startswith("valve: a single section, and no attribute with several values")
    rows[-60]["attributes"] = '{"site": "b"}'
    assert len(few(pd.DataFrame(rows))) == 2


def test_a_very_short_clip_has_a_spectrum():
    assert np.isfinite(spectrum(np.ones(3, np.float32), RATE)[:20]).all()


def test_a_plot_for_each_machine_and_the_same_bytes_again(tmp_path):
    clips = broken(tmp_path)
    table, spectra = examine(clips, [tmp_path / file for file in clips["file"]], LogMel(convert=True), Check())
    for folder in ("a", "b"):
        write_plots(tmp_path / folder, table, spectra)
    plot = (tmp_path / "a/fan.svg").read_text()
    assert plot.startswith("<?xml")
    assert plot == (tmp_path / "b/fan.svg").read_text()


def check_corpus(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, folder, "--out-dir", folder / "check", *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ)


def test_a_folder_without_a_manifest_says_what_to_do(tmp_path):
    done = check_corpus(tmp_path)
    assert done.returncode == 1
    assert f"manifest.csv: no such file; make_manifest.py {tmp_path} writes" in done.stderr


def test_check_corpus(tmp_path):
    broken(tmp_path)
    done = check_corpus(tmp_path, "--convert", "True", "--channel", "1")
    assert done.returncode == 1
    assert "error: 4 of 8 recordings are refused" in done.stderr
    assert "refused: fan: brief.wav: short (0.062 s)" in done.stdout
    assert "let through: fan: 2 recordings clipped, the first hot.wav (" in done.stdout
    assert sorted(path.name for path in (tmp_path / "check").iterdir()) == ["corpus.csv", "fan.svg"]
    table = pd.read_csv(tmp_path / "manifest.csv")
    table[table["file"].isin(["good.wav", "loud.wav"])].to_csv(tmp_path / "manifest.csv", index=False)
    done = check_corpus(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 left out" in done.stderr
    assert pd.read_csv(tmp_path / "check/summary.csv")["clips"].tolist() == [1, 1]


def test_recordings_with_the_same_fault_are_one_line_with_their_number(tmp_path):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(2 * RATE, np.int16), RATE, "PCM_16")
    rows = pd.DataFrame({"file": [f"{number}.wav" for number in range(3)], "machine": "fan", "split": "train"})
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    said = [line for line in check_corpus(tmp_path).stdout.splitlines() if line.startswith("refused")]
    assert said == ["refused: fan: 3 recordings silent, the first 0.wav (level -100.0 dB)"]
    assert len(pd.read_csv(tmp_path / "check/corpus.csv")) == 3


@pytest.mark.slow
def test_a_refused_recording_ends_the_run_before_anything_is_computed(tmp_path):
    (tmp_path / "plant").mkdir()
    broken(tmp_path / "plant")
    overlay = {
        "dataset": {"kind": "folder", "folder": {"path": str(tmp_path / "plant")}},
        "machines": ["fan"],
        "logmel": {"convert": True, "channel": "mix"},
    }
    output = snakemake(tmp_path, overlay=overlay, status=1)
    assert re.search(r"^ 1 of \d+  download +fan", output, re.MULTILINE)
    assert "failed: check_corpus; the end of " in output
    assert "4 of 8 recordings are refused" in output
    assert "logmel" not in output
    (log,) = tmp_path.rglob("check_corpus.log")
    assert "refused: fan: 2 recordings unreadable, the first cut.wav (" in log.read_text()
    assert "let through: fan: 2 recordings clipped, the first hot.wav (" in log.read_text()
    (table,) = tmp_path.rglob("corpus.csv")  # what says why stays
    assert pd.read_csv(table)["refused"].sum() == 4
