"""The scripts fit.py and score.py, run alone on files."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import call

from asd.errors import InputError
from asd.hdf5 import write_clips
from asd.scores import UNDECIDED, read_scores
from asd.sections import read_sections
from asd.settings import Decision, Fit, Mvg

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
WIDTHS = (2, 2, 2, 2, 2, 2, 2, 2, 14)


def run(script: str, *flags: object) -> subprocess.CompletedProcess:
    """The script as a command of its own."""
    command = [sys.executable, SCRIPTS / script, *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_features(path: Path, sections: dict[str, tuple[int, int]], distance: float = 6.0) -> Path:
    """Features of (training clips, test clips) a section; the second half of the test clips is that far away."""
    generator = np.random.default_rng(0)
    clips, rows = [], []
    for split in ("train", "test"):
        for section, numbers in sections.items():
            for number in range(numbers[split == "test"]):
                anomaly = split == "test" and number >= numbers[1] / 2
                label = "anomaly" if anomaly else "normal"
                file = f"section_{section}_source_{split}_{label}_{number:04}.wav"
                clips.append({"file": file, "section": section, "split": split, "label": label})
                rows.append(generator.standard_normal(sum(WIDTHS)) + distance * anomaly)
    table = pd.DataFrame(clips).assign(
        path="", machine="fan", part="development", domain="source", attributes="{}", recording=""
    )
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        data = np.array(rows, np.float32)
        file.create_dataset("features", data=data, chunks=(1, data.shape[1]), fletcher32=True)
        file["offsets"] = np.arange(len(rows) + 1)
        file.attrs["widths"] = WIDTHS
        write_clips(file, table)
    return path


@pytest.mark.parametrize(("script", "flag"), [("fit.py", "--mvg.covariance"), ("score.py", "--scope")])
def test_help(script, flag):
    done = run(script, "--help")
    assert done.returncode == 0
    assert "Writes" in done.stdout
    assert flag in done.stdout


def test_from_features_to_scores(tmp_path):
    features = write_features(tmp_path / "features.h5", {"00": (40, 10), "01": (12, 10)})
    mvg, out = tmp_path / "mvg.h5", tmp_path / "scores.csv"
    flags = ("--mvg.covariance", "oas", "--mvg.ridge", 0.5, "--mvg.stages", 2, 9, "--folds", 4, "--threads", 1)
    done = run("fit.py", "--features", features, *flags, "--out", mvg)
    assert done.returncode == 0, done.stderr
    done = run("score.py", "--features", features, "--fitted", mvg, "--threads", 1, "--out", out)
    assert done.returncode == 0, done.stderr

    sections = read_sections(mvg)
    assert sections.settings.mvg == Mvg(covariance="oas", ridge=0.5, stages=[2, 9])
    assert {name: section.fitted.means.shape for name, section in sections.sections.items()} == {
        "00": (1, 16),
        "01": (1, 16),
    }
    table = read_scores(out)
    assert len(table) == 72
    assert table["score"].notna().all()
    test = table[table["split"] == "test"]
    assert (test["decision"] == 1)[test["label"] == "anomaly"].all()
    normal = table[(table["split"] == "train") | (table["label"] == "normal")]
    assert 0.02 < normal["decision"].mean() < 0.2  # the 90th percentile


def test_the_same_bytes_again(tmp_path):
    features = write_features(tmp_path / "features.h5", {"00": (40, 10), "01": (12, 10)})
    for name in ("once", "again"):
        mvg = tmp_path / f"{name}.h5"
        call("fit", features=features, settings=Fit(), out=mvg)
        call("score", features=features, fitted=mvg, decision=Decision(), out=tmp_path / f"{name}.csv")
    assert (tmp_path / "once.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_two_training_clips(tmp_path, caplog):
    features = write_features(tmp_path / "features.h5", {"00": (2, 6)})
    call("fit", features=features, settings=Fit(), out=tmp_path / "m.h5")
    call("score", features=features, fitted=tmp_path / "m.h5", decision=Decision(), out=tmp_path / "s.csv")
    assert "section 00: 2 scored training recordings are too few for a threshold (5 are needed)" in caplog.text
    table = read_scores(tmp_path / "s.csv")
    assert table["score"].notna().all()
    assert (table["decision"] == UNDECIDED).all()


def test_a_single_training_clip(tmp_path, caplog):
    features = write_features(tmp_path / "features.h5", {"00": (1, 6)})
    call("fit", features=features, settings=Fit(), out=tmp_path / "m.h5")
    assert "section 00: a single training recording" in caplog.text
    call("score", features=features, fitted=tmp_path / "m.h5", decision=Decision(), out=tmp_path / "s.csv")
    assert "section 00: 0 scored training recordings are too few" in caplog.text
    table = read_scores(tmp_path / "s.csv")
    assert table["score"].isna().tolist() == [True] + [False] * 6
    assert (table["decision"] == UNDECIDED).all()


@pytest.fixture
def files(tmp_path):
    features = write_features(tmp_path / "features.h5", {"00": (6, 4)})
    call("fit", features=features, settings=Fit(), out=tmp_path / "mvg.h5")
    return features, tmp_path / "mvg.h5"


def refusal(script: str, out: Path, **arguments: object) -> str:
    """The message that a script ends with, having written nothing."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(InputError) as error:
        call(script, out=out, **arguments)
    assert sorted(out.parent.iterdir()) == before
    return str(error.value)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "not there"])
def test_damaged_features(tmp_path, files, damage):
    features, mvg = files
    content = bytearray(features.read_bytes())
    with h5py.File(features) as file:
        for chunk in (0, 8):  # a training clip, a test clip
            content[file["features"].id.get_chunk_info(chunk).byte_offset + 3] ^= 4
    if damage == "not there":
        features.unlink()
    else:
        features.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    assert str(features) in refusal("fit", tmp_path / "new.h5", features=features, settings=Fit())
    assert str(features) in refusal("score", tmp_path / "s.csv", features=features, fitted=mvg, decision=Decision())


@pytest.mark.parametrize("damage", ["truncated", "not there"])
def test_damaged_gaussians(tmp_path, files, damage):
    features, mvg = files
    if damage == "not there":
        mvg.unlink()
    else:
        mvg.write_bytes(mvg.read_bytes()[:-100])
    assert str(mvg) in refusal("score", tmp_path / "s.csv", features=features, fitted=mvg, decision=Decision())


def test_a_section_that_training_never_saw(tmp_path):
    features = write_features(tmp_path / "features.h5", {"00": (6, 4), "02": (0, 4)})
    call("fit", features=features, settings=Fit(), out=tmp_path / "mvg.h5")
    out = tmp_path / "s.csv"
    done = run("score.py", "--features", features, "--fitted", tmp_path / "mvg.h5", "--out", out)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "machine fan: section 02 has test clips but no training clips" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
