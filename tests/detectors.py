"""Detectors of a network without training, for the tests of what uses a finished detector."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call

from asd import cli, exposure, sections
from asd import network as networks
from asd.cache import open_cache
from asd.features import open_features, write_features
from asd.fusion import fuse_tables
from asd.network import Description, Network
from asd.scores import read_scores, write_scores
from asd.settings import Decision, Fit, Mvg, Spectrum, Windows
from asd.spectra import write_spectra
from asd.threshold import of_sections

LABELS = ("00", "01", "00 equalised", "01 equalised")
WINDOWS = {"global": Windows(), "local": Windows(window=16, hop=8, test_hop=4), "oe": Windows()}
SPECTRUM = Spectrum(pool=["gwrp", "deviation"], decays=[1.0, 0.9])
FITS = {
    "global": Fit(folds=3, mvg=Mvg(stages=[3, 9])),
    "local": Fit(folds=3, mvg=Mvg(stages=[3, 9])),
    "spectrum": Fit(folds=3, domains="nearest", mvg=Mvg(standardise=True)),
}


def make_detectors(folder: Path, cache_path: Path) -> Path:
    """Scores as the workflow makes them, and the detectors: <model>/fan.csv and <model>/fan.zip."""
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
                source["features"] = str(features)
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
    call(
        "detector",
        members=members,
        scores=scores,
        model=model,
        title=model.upper(),
        decision=Decision(),
        out=out,
        **fusion,
    )


def damaged(path: Path, source: Path, **contents: bytes | None) -> Path:
    """A copy of a detector with members replaced, or left out."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            data = contents.get(Path(name).stem, before.read(name))
            if data is not None:
                after.writestr(name, data)
    return path


def with_threshold(folder: Path, tmp_path: Path, value: float | None) -> Path:
    """The local detector with another threshold."""
    with zipfile.ZipFile(folder / "local/fan.zip") as archive:
        said = json.loads(archive.read("detector.json"))
    return damaged(
        tmp_path / "fan.zip",
        folder / "local/fan.zip",
        detector=json.dumps(said | {"thresholds": {"00": value, "01": value}}).encode(),
    )


def asd(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    """The command, in this process: its exit status and what it says."""
    monkeypatch.setattr(sys, "argv", ["asd", *map(str, words)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr()
    return done.value.code or 0, said.out, said.err
