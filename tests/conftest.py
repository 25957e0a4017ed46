"""A small corpus on disk, and its log-mel cache, for the modules that begin with one."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from asd.cache import write_cache
from asd.corpus import scan, write_manifest
from asd.settings import LogMel

RATE = 16000
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The suite runs in two processes, and bytes depend on the threads, which the scripts' functions set."""
    torch.set_num_threads(1)


def call(script: str, **arguments: object) -> None:
    """The function of a script, in this process, since the start of another one takes seconds."""
    runpy.run_path(str(ROOT / f"workflow/scripts/{script}.py"))["main"](**arguments)


def merged(below: dict, above: dict) -> dict:
    """A configuration as Snakemake makes it of two: the values of `above`, and those of `below` that it lacks."""
    both = {key: merged(below[key], value) for key, value in above.items() if isinstance(value, dict) and key in below}
    return below | above | both


def hum(random: np.random.Generator, section: int, speed: int, seconds: float = 1.0) -> np.ndarray:
    """A clip of int16: a harmonic hum whose pitch is the section's and the speed's, in noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 150 * (section + 1) + 20 * speed
    tone = sum(np.sin(2 * np.pi * pitch * k * t + random.uniform(0, 6)) / k for k in range(1, 5))
    return np.int16(3000 * tone + random.normal(0, 800, len(t)))


def make_corpus(folder: Path, machine: str = "fan", sections: int = 2, train: int = 6, test: int = 2) -> Path:
    """Write recordings laid out like the published data, `test` clips of each domain and label a section."""
    random = np.random.default_rng(1)
    for section in range(sections):
        clips = [("train", "source", "normal")] * train
        clips += [("test", domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")] * test
        for index, (split, domain, label) in enumerate(clips):
            speed = index % 2 + 2 * (domain == "target")
            name = f"section_{section:02}_{domain}_{split}_{label}_{index:04}_spd_{speed}.wav"
            path = folder / machine / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, hum(random, section, speed + 3 * (label == "anomaly")), RATE, "PCM_16")
    return folder


@pytest.fixture(scope="session")
def cache_path(tmp_path_factory) -> Path:
    """A log-mel cache of two sections, 64 mel bins, 32 frames."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    write_manifest(folder / "manifest.csv", scan(folder, "fan"))
    write_cache(folder / "fan.h5", folder / "manifest.csv", LogMel(mels=64))
    return folder / "fan.h5"


@pytest.fixture(scope="session")
def detectors(cache_path, tmp_path_factory) -> Path:
    """A folder of detectors, <model>/fan.zip, and of the scores that the workflow makes with them, <model>/fan.csv."""
    from detectors import make_detectors

    return make_detectors(tmp_path_factory.mktemp("detectors"), cache_path)


@pytest.fixture(scope="session")
def recordings(cache_path) -> dict[str, Path]:
    """The test clips by name."""
    paths = sorted((cache_path.parent / "fan/test").glob("*.wav"))
    return {path.name: path for path in paths}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Path:
    """A folder in which the chain has run on a tiny corpus, for the tests of what may befall it."""
    from kill import snakemake

    folder = tmp_path_factory.mktemp("undisturbed")
    assert snakemake(folder, "--cores", "2").wait() == 0, (folder / "said").read_text()
    return folder


def manifest_row(file: str, split: str = "train", section: str = "00", **attributes: str) -> dict[str, str]:
    """A row of a manifest, for tests that need no recordings."""
    return {
        "path": file,
        "file": file,
        "machine": "fan",
        "section": section,
        "split": split,
        "part": "development",
        "domain": "source",
        "label": "normal",
        "attributes": json.dumps(attributes),
        "recording": "",
    }


def manifest(*rows: dict[str, str]) -> pd.DataFrame:
    """A manifest of these rows."""
    return pd.DataFrame(rows, dtype=str)
