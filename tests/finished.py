"""What the stages before the report leave behind, made in a second without a network: for the tests of the report."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from conftest import make_corpus

from asd.cache import open_cache, write_cache
from asd.corpus import read_manifest, scan, write_manifest
from asd.features import cut, open_features
from asd.hdf5 import LIBVER, write_clips
from asd.scores import write_scores
from asd.sections import fit_sections, write_sections
from asd.sections import scores as score_clips
from asd.settings import Decision, Fit, LogMel, Windows
from asd.threshold import of_sections

WINDOWS = {"global": Windows(), "local": Windows(window=16, hop=8, test_hop=2)}
TITLES = {"global": "CNN-Global", "local": "CNN-Local", "ensemble": "Ensemble"}
WIDTHS = [2] * 9
DATA = '<script type="application/json" id="data">'
"""The beginning of the page's data. Values from outside cannot contain it, since they are escaped."""
HOSTILE_NAME = "section_00_source_test_normal_9999_spd_<img src=x onerror=window.hacked=1>.wav"
HOSTILE_ATTRIBUTE = "</script><script>window.hacked=1</script>"


@dataclass(frozen=True)
class Machine:
    """The files of one machine."""

    folder: Path
    name: str

    @property
    def cache(self) -> Path:
        return self.folder / f"{self.name}.h5"

    def of(self, kind: str, model: str, suffix: str) -> Path:
        return self.folder / kind / model / f"{self.name}.{suffix}"

    @property
    def scores(self) -> list[Path]:
        return [self.of("scores", model, "csv") for model in TITLES]

    @property
    def curves(self) -> list[Path]:
        return [self.of("networks", model, "csv") for model in WINDOWS]


def make_machine(folder: Path, name: str = "fan", test: int = 2, hostile: bool = False) -> Machine:
    """Recordings and log-mels; made-up features, in which anomalies are far away; real Gaussians and scores.

    Args:
        test: test clips of each domain and label, in each of two sections.
        hostile: with a clip whose name, and another whose attributes, are HTML that runs a script.
    """
    machine = Machine(folder, name)
    make_corpus(folder, name, test=test)
    manifest = folder / f"{name}.csv"
    clips = scan(folder, name)
    clips["path"] = [str(folder / path) if not Path(path).is_absolute() else path for path in clips["path"]]
    if hostile:  # a name and attributes that `scan` would not let through, but a manifest from elsewhere may have
        first, last = clips.index[clips["split"] == "test"][[0, -1]]
        renamed = Path(clips.loc[first, "path"]).rename(folder / name / "test" / HOSTILE_NAME)
        clips.loc[first, ["path", "file"]] = [str(renamed), HOSTILE_NAME]
        clips.loc[last, "attributes"] = json.dumps({"note": HOSTILE_ATTRIBUTE})
    write_manifest(manifest, clips)
    write_cache(machine.cache, manifest, LogMel(mels=64))
    with open_cache(machine.cache) as cache:
        clips, frames = cache.clips, cache.frames
    for number, (model, windows) in enumerate(WINDOWS.items()):
        machine.of("features", model, "h5").parent.mkdir(parents=True, exist_ok=True)
        write_features(machine.of("features", model, "h5"), clips, frames, windows, seed=number)
        with open_features(machine.of("features", model, "h5")) as features:
            fitted = fit_sections(features, Fit(folds=3), np.random.default_rng(0))
            write_sections(machine.of("mvg", model, "h5"), fitted)
            score = score_clips(features, fitted)
        limit = of_sections(clips, score, Decision(scope="machine"))
        for one in (model, "ensemble"):  # the last one, local, is the ensemble's choice
            write_scores(machine.of("scores", one, "csv"), clips, score, limit)
        machine.of("networks", model, "csv").parent.mkdir(parents=True, exist_ok=True)
        curve = {"epoch": [1, 2], "rate": 0.1, "loss": [2.0, 1.5], "section_accuracy": [0.5, 0.75]}
        pd.DataFrame(curve).assign(attribute_accuracy=np.nan).to_csv(machine.of("networks", model, "csv"), index=False)
    assert list(read_manifest(manifest)["file"]) == list(clips["file"])
    return machine


def write_features(path: Path, clips: pd.DataFrame, frames: int, windows: Windows, seed: int) -> None:
    """Features of noise; those of anomalies, and of every fifth clip, lie off, and most in the last window."""
    rows = cut((clips["split"] == "train").to_numpy(), frames, windows)
    values = np.random.default_rng(seed).standard_normal((len(rows.clip), sum(WIDTHS)))
    odd = (clips["split"] == "test") & ((clips["label"] == "anomaly") | (np.arange(len(clips)) % 5 == 0))
    odd = odd.to_numpy()[rows.clip]
    last = np.isin(np.arange(len(values)), rows.offsets[1:] - 1)
    values += 1.0 * odd[:, None] + 3.0 * (odd & last)[:, None]
    with h5py.File(path, "w", libver=LIBVER) as file:
        file.create_dataset("features", data=values.astype(np.float32), chunks=(1, values.shape[1]), fletcher32=True)
        file["offsets"] = rows.offsets
        file.attrs["widths"] = WIDTHS
        file.attrs["settings"] = json.dumps(windows.model_dump())
        write_clips(file, clips)
