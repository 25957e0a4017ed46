"""Long recordings that are cut into clips (`logmel.cut`): the clips, their scores, and those of the recordings."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from conftest import RATE, ROOT, hum
from detectors import asd
from hypothesis import given, settings
from hypothesis import strategies as st

from asd import audio, cli, steps
from asd.cache import open_cache, write_cache
from asd.corpus import write_manifest
from asd.errors import InputError
from asd.own_manifest import listed
from asd.scores import pooled, read_scores
from asd.settings import Decision, LogMel, load
from asd.soundfiles import read
from asd.threshold import of_sections

CUT = LogMel(mels=64, cut={"seconds": 1.0})


def plant(folder: Path, train: int = 6, test: int = 4) -> Path:
    """A folder of recordings of 2.5 to 4.4 s with its manifest; the second half of the test recordings is anomalous."""
    random, rows = np.random.default_rng(3), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(train + test):
        fault = number >= train + test // 2
        name = f"{number:02}.wav"
        soundfile.write(folder / name, hum(random, 0, 5 if fault else 0, 2.5 + 0.21 * number), RATE, "PCM_16")
        split, label = ("train", "normal") if number < train else ("test", "anomaly" if fault else "normal")
        rows.append({"file": name, "machine": "pump", "split": split, "label": label})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def manifest(tmp_path) -> Path:
    folder = plant(tmp_path / "plant")
    write_manifest(tmp_path / "manifest.csv", listed(folder / "manifest.csv", "pump"))
    return tmp_path / "manifest.csv"


@given(length=st.integers(1, 60), window=st.integers(1, 20), every=st.integers(1, 30))
@settings(deadline=None)
def test_the_starts_are_those_of_the_windows(length, window, every):
    windows = list(steps.cut([np.arange(length, dtype=np.int16)], window, every))
    assert [start for start, _ in windows] == steps.starts(length, window, every)


@pytest.mark.parametrize("every", [0, 0.75, 1.5])
def test_the_clips_are_pieces_of_the_recordings(manifest, tmp_path, every):
    settings = LogMel(mels=64, cut={"seconds": 1.0, "every": every})
    write_cache(tmp_path / "pump.h5", manifest, settings)
    with open_cache(tmp_path / "pump.h5") as cache:
        assert cache.samples == RATE
        for row, clip in enumerate(cache.clips.itertuples()):
            name, _, start = clip.file.rpartition("@")
            assert name == clip.recording == Path(clip.path).name
            whole = read(tmp_path / "plant" / name, settings)
            first = round(float(start) * RATE)
            assert np.array_equal(cache.read_waveform([row])[0], whole[first : first + RATE])
        assert set(cache.clips["label"][cache.clips["recording"] == "09.wav"]) == {"anomaly"}
        expected = {0: ["0", "1", "1.5"], 0.75: ["0", "0.75", "1.5"], 1.5: ["0", "1.5"]}[every]  # of 2.5 s
        first = cache.clips["file"][cache.clips["recording"] == "00.wav"]
        assert [file.rpartition("@")[2] for file in first] == expected


def test_an_interrupted_cache_goes_on_with_the_right_pieces(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("asd.cache.SHARD_SAMPLES", 3 * RATE)
    monkeypatch.setattr("asd.cache.KEPT_AFTER", 0)
    write_cache(tmp_path / "whole.h5", manifest, CUT)
    calls, compute = [], audio.log_mel

    def fails(waveform, settings):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return compute(waveform, settings)

    monkeypatch.setattr("asd.audio.log_mel", fails)
    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "again.h5", manifest, CUT)
    write_cache(tmp_path / "again.h5", manifest, CUT)
    with open_cache(tmp_path / "whole.h5") as whole:
        assert len(calls) == len(whole.clips) + 1  # the nine of finished shards were not computed again
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_recording_shorter_than_a_clip_is_refused_or_padded(manifest, tmp_path):
    settings = LogMel(mels=64, cut={"seconds": 2.8})
    with pytest.raises(
        InputError, match=r"00\.wav.*01\.wav: 2\.50 s; expected 2\.8 s or more \(logmel\.cut\.seconds\)"
    ):
        write_cache(tmp_path / "pump.h5", manifest, settings)
    write_cache(tmp_path / "pump.h5", manifest, settings.model_copy(update={"lengths": "pad"}))
    with open_cache(tmp_path / "pump.h5") as cache:
        assert cache.clips["file"][0] == "00.wav@0"
        sound = cache.read_waveform([0])[0]
        assert sound[: int(2.5 * RATE)].any()
        assert not sound[int(2.5 * RATE) :].any()


def test_long_recordings_that_are_not_cut_are_told_of(manifest, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("asd.cache.LONG", 2.5)
    write_cache(tmp_path / "cut.h5", manifest, CUT)
    assert "logmel.cut" not in caplog.text
    write_cache(tmp_path / "whole.h5", manifest, LogMel(mels=64, lengths="crop", crop_limit=1))
    assert "each of the 10 clips has 2.5 s; if they are long recordings, set logmel.cut.seconds" in caplog.text


def test_the_scores_of_a_recording_are_pooled():
    clips = pd.DataFrame(
        {
            "file": ["a@0", "a@1", "b@0", "c@x.wav@0.5", "c@x.wav@1"],
            "section": ["00"] * 5,
            "split": ["train", "train", "train", "test", "test"],
            "score": [1.0, 2.0, np.nan, 5.0, 3.0],
        }
    )
    for pool, expected in (("mean", [1.5, np.nan, 4.0]), ("max", [2.0, np.nan, 5.0])):
        recordings, score = pooled(clips, pool)
        assert list(recordings["file"]) == ["a", "b", "c@x.wav"]
        np.testing.assert_array_equal(score, expected)
    with pytest.raises(InputError, match=r"d\.wav: not a clip that was cut from a recording"):
        pooled(clips.assign(file="d.wav"), "mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logmel": {"cut": {"every": 1}}}, "logmel.cut: every: without seconds"),
        ({"logmel": {"cut": {"seconds": 0.05}}}, "expected 0, or 0.1 seconds or more"),
        (
            {"logmel": {"cut": {"seconds": 1}}, "networks": {"local": {"logmel": {"cut": {"every": 0.5}}}}},
            "networks.local.logmel.cut: found {seconds: 1, every: 0.5, pool: mean}, but logmel.cut is {seconds: 1, ",
        ),
    ],
)
def test_impossible_settings(change, message):
    from conftest import merged

    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    with pytest.raises(InputError, match=re.escape(message)):
        load(merged(default, change))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the workflow has run on long recordings, with models of spectra."""
    folder = tmp_path_factory.mktemp("cut")
    plant(folder / "plant", train=8, test=6)
    overlay = {
        "dataset": {"folder": {"path": str(folder / "plant")}},
        "machines": ["pump"],
        "results_dir": "results",
        "logmel": {"cut": {"seconds": 1.0}},
        "models": {"both": {"title": "Both", "members": ["spectrum", "nearest"]}},
        "run_models": ["spectrum", "nearest", "both"],
        "paper_models": ["spectrum", "nearest"],
        "metrics": {"resamples": 20},
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", ROOT / "Snakefile", "--configfile",
         ROOT / "config/my_machines.yaml", folder / "overlay.yaml", "--", "results/tables/auc_total.csv",
         "results/tables/suspicious.csv", "results/detectors/both/pump.zip", "results/report/index.html"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder


def test_tables_count_recordings_and_lists_name_clips(finished):
    for model in ("spectrum", "nearest", "both", "ensemble"):
        clips = read_scores(finished / f"results/clip_scores/{model}/pump.csv")
        recordings = read_scores(finished / f"results/scores/{model}/pump.csv")
        by_hand = clips.groupby("recording")["score"].mean()
        assert list(recordings["file"]) == sorted(by_hand.index)
        np.testing.assert_allclose(recordings["score"], by_hand[recordings["file"]], rtol=1e-12)
        if model != "ensemble":
            own = Decision(scope="section")
            for table in (clips, recordings):
                assert table["threshold"].iloc[0] == of_sections(table, table["score"].to_numpy(), own)["00"]
    metrics = pd.read_csv(finished / "results/tables/metrics.csv")
    counts = {column: set(metrics[column].dropna()) for column in metrics.columns if column in ("normal", "anomalies")}
    assert all(values <= {3} for values in counts.values())
    ranked = pd.read_csv(finished / "results/tables/suspicious.csv")
    assert ranked["file"].str.contains("@").all()
    page = json.loads((finished / "results/report/clips/pump/clips.json").read_text())
    assert len(page["clips"]) == len(ranked)
    flagged = int((recordings["decision"][recordings["split"] == "test"] == 1).sum())  # of the ensemble
    assert f"{flagged} of 6 recordings" in (finished / "results/report/verdict.rst").read_text()
    html = (finished / "results/report/index.html").read_text()
    assert f"<h1>{flagged} of 6 recordings" in html
    assert "The models learned from 8 other recordings" in html
    assert "Recordings are cut into clips of 1 s." in html


def test_a_detector_decides_on_clips_as_the_workflow_does(finished, monkeypatch, capsys):
    clips = read_scores(finished / "results/clip_scores/both/pump.csv")
    recording = finished / "plant/13.wav"
    words = ("--detector", finished / "results/detectors/both/pump.zip", "--format", "jsonl", recording)
    _, said, _ = asd(monkeypatch, capsys, "score", *words)
    rows = [json.loads(line) for line in said.splitlines()]
    own = clips[clips["recording"] == "13.wav"]
    assert [f"13.wav@{row['start']:g}" for row in rows] == [
        f"{file.rpartition('@')[0]}@{float(file.rpartition('@')[2]):g}" for file in own["file"]
    ]
    np.testing.assert_allclose([row["score"] for row in rows], own["score"], rtol=1e-5)
    assert [row["decision"] == "anomalous" for row in rows] == (own["decision"] == 1).tolist()


def test_an_update_equals_a_fit_to_all(tmp_path, monkeypatch, capsys):
    (overlay := tmp_path / "cut.yaml").write_text("logmel: {cut: {seconds: 1.0}}\n")
    plant(tmp_path / "pump", train=8, test=0)
    (tmp_path / "pump/manifest.csv").unlink()
    later = [tmp_path / f"pump/{name}.wav" for name in ("06", "07")]
    fixed = {"machine": "pump", "configfile": (overlay,)}
    cli.fit(tmp_path / "pump", out=tmp_path / "all.zip", **fixed)
    assert "clips of 8 recordings; anomalous above" in capsys.readouterr().out
    aside = [path.rename(tmp_path / path.name) for path in later]
    cli.fit(tmp_path / "pump", out=tmp_path / "before.zip", **fixed)
    for path, place in zip(aside, later, strict=True):
        path.rename(place)
    words = ("--detector", tmp_path / "before.zip", "--out", tmp_path / "after.zip", *later)
    assert asd(monkeypatch, capsys, "update", *words)[0] == 0
    assert (tmp_path / "after.zip").read_bytes() == (tmp_path / "all.zip").read_bytes()
