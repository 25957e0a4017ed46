import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asd.corpus import read_manifest, recordings
from asd.settings import Dataset

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/download.py"
NAMES = [
    "train/section_00_source_train_normal_0000_vel_8.wav",
    "train/section_03_source_train_normal_0000_vel_9.wav",
    "test/section_00_source_test_anomaly_0000_vel_8.wav",
    "test/section_03_0000.wav",
]


@pytest.fixture
def download(monkeypatch):
    def run(out: Path, dataset: Dataset, machine: str = "fan") -> None:
        flags = ["--machine", machine, *shlex.split(f"{dataset.flags} {dataset.transfer}"), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


@pytest.fixture
def refused(download, capsys):
    def run(out: Path, dataset: Dataset, *expected: str, machine: str = "fan") -> None:
        with pytest.raises(SystemExit) as caught:
            download(out, dataset, machine)
        assert caught.value.code == 1
        message = capsys.readouterr().err
        assert all(one in message for one in expected), message
        assert not list(out.parent.glob("*.csv"))
        assert not list(out.parent.glob(".*"))

    return run


def plant(folder: Path) -> Path:
    for name in NAMES:
        (folder / "fan" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fan" / name).touch()
    return folder


def folder(path: Path | str) -> Dataset:
    return Dataset(kind="folder", folder={"path": str(path)})


def test_folder(download, tmp_path):
    out = tmp_path / "data/fan/manifest.csv"
    download(out, folder(plant(tmp_path / "plant")))
    clips = read_manifest(out)
    assert list(clips["path"]) == [str(tmp_path / "plant/fan" / name) for name in NAMES]
    assert list(clips["part"]) == ["development", "additional", "development", "evaluation"]


def test_log_mels_of_recordings_that_were_replaced_are_removed(tmp_path):
    """An interrupted run must not go on with them: names, and so the manifest, may be the same."""
    for name in NAMES:
        path = tmp_path / "tree/fan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    main = runpy.run_path(str(SCRIPT))["main"]
    dataset = Dataset(kind="folder", folder={"path": str(tmp_path / "tree")})
    made = [tmp_path / "data" / name for name in ("logmel-1/fan.h5", "logmel-2/fan.h5", "check/summary.csv")]
    other = tmp_path / "data/logmel-1/valve.h5"
    for contents, left in (("first", False), ("first", True), ("second", False)):
        for path in [*made, other]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        main(machine="fan", dataset=dataset, contents=contents, out=tmp_path / "data/fan/manifest.csv")
        assert [path.exists() for path in made] == [left] * 3
        assert other.exists()


def test_demo_lies_beside_its_manifest(download, tmp_path):
    settings = {"sections": 1, "additional_sections": 1, "train_source": 2, "train_target": 1, "test": 1}
    out = tmp_path / "data/fan/manifest.csv"
    download(out, Dataset(demo={**settings, "seconds": 0.5}))
    clips = read_manifest(out)
    assert all(path.parent.parent == out.parent and path.is_file() for path in recordings(out, clips))
    assert not clips["path"].str.startswith("/").any()
    counts = clips.groupby(["section", "split", "part", "label"]).size().to_dict()
    assert counts == {
        ("00", "train", "development", "normal"): 3,
        ("00", "test", "development", "normal"): 2,
        ("00", "test", "development", "anomaly"): 2,
        ("01", "train", "additional", "normal"): 3,
        ("01", "test", "evaluation", ""): 4,
    }
    assert (clips["attributes"][clips["label"] != ""] != "{}").all()


def test_a_year_whose_archives_are_not_there(refused, tmp_path):
    data = tmp_path / "dcase2022"
    block = {"parts": ["development"], "archives": str(tmp_path)}
    expected = [f"{tmp_path}: found no dev_fan.zip (record 6355122)", "put it there"]
    refused(data / "fan/manifest.csv", Dataset(kind="dcase2022", published=block), *expected)


def test_a_machine_that_a_year_does_not_have(refused, tmp_path):
    expected = ["dcase2020 has no 'bearing'", "ToyConveyor"]
    dataset = Dataset(kind="dcase2020", published={"archives": str(tmp_path)})
    refused(tmp_path / "dcase2020/bearing/manifest.csv", dataset, *expected, machine="bearing")


def test_bad_recordings_and_csvs(refused, tmp_path):
    out = tmp_path / "data/fan/manifest.csv"
    home = plant(tmp_path / "plant") / "fan"
    refused(out, folder(""), "folder.path", "expected")
    refused(out, folder(tmp_path / "elsewhere"), f"{tmp_path}/elsewhere/fan: no such folder")

    (home / "attributes_00.csv").write_text(f"file_name,d1p,d1v\nfan/{NAMES[0]},vel\nfan/{NAMES[2]},vel,8\n")
    refused(out, folder(home.parent), f"{home}/attributes_00.csv: row 2", "whole pairs")
    (home / "attributes_00.csv").write_text(f"file_name,d1p,d1v\nfan/{NAMES[0]},vel,8\nfan/train/gone.wav,vel,8\n")
    refused(out, folder(home.parent), f"{home}/attributes_00.csv: row 3", "fan/train/gone.wav", "no such recording")
    (home / "attributes_00.csv").unlink()

    (home / "train/morning.wav").touch()
    refused(out, folder(home.parent), "'morning.wav' does not follow the naming scheme", "expected section_NN_")


def test_a_failed_run_leaves_the_manifest_of_the_last_one(download, tmp_path):
    out = tmp_path / "data/fan/manifest.csv"
    home = plant(tmp_path / "plant")
    download(out, folder(home))
    before = out.read_bytes()
    (home / "fan/train/morning.wav").touch()
    with pytest.raises(SystemExit):
        download(out, folder(home))
    assert out.read_bytes() == before


def test_as_a_command(tmp_path):
    command = [sys.executable, str(SCRIPT), "--machine", "fan", "--kind", "folder", "--folder.path", str(tmp_path)]
    done = subprocess.run([*command, "--out", str(tmp_path / "manifest.csv")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/fan: no such folder")
    assert "Traceback" not in done.stderr
    usage = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True)
    assert usage.returncode == 0
    assert "manifest.csv" in usage.stdout
    assert "--folder.path" in usage.stdout


def test_real_recordings(download, tmp_path):
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    for home in Path(real).iterdir():
        out = tmp_path / home.name / "manifest.csv"
        download(out, folder(real), home.name)
        assert len(read_manifest(out)) == len(list(home.rglob("*.wav")))
