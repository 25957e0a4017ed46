"""A detector from a folder of recordings, without Snakemake: the stages of the workflow, one after another.

Settings are those of the configuration, and each step is the function that the workflow's stage calls, so that scores,
thresholds and the detector file are those that the workflow makes from the same recordings. What lies between the
stages is in a temporary folder.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from asd.corpus import recording_count
from asd.errors import InputError
from asd.threshold import too_few

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from asd.settings import Settings

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = (ROOT / "config/config.yaml", ROOT / "config/my_machines.yaml")
"""The default settings: of the workflow, and for your own recordings."""


def configured(files: tuple[Path, ...], folder: Path, machine: str) -> "Settings":
    """Return the settings for the recordings of one machine in a folder.

    Args:
        files: configuration files on top of `CONFIGURATIONS`, merged as Snakemake merges them.
        folder: of the recordings.
        machine: its name.

    Raises:
        InputError: a file cannot be read, or settings are refused.
    """
    import yaml
    from snakemake.utils import update_config

    from asd.settings import load

    merged: dict[str, Any] = {}
    for file in (*CONFIGURATIONS, *files):
        try:
            found = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{file}: cannot be read as YAML ({error}); expected a configuration") from None
        update_config(merged, found or {})
    own = {"dataset": {"kind": "folder", "folder": {"path": str(folder)}}, "machines": [machine]}
    update_config(merged, own)
    return load(merged)


def machine_of(folder: Path) -> str:
    """Return the name of the machine of a folder: the only one in its manifest, or the folder's name as a name.

    Raises:
        InputError: the manifest has several machines.
    """
    from asd.own_manifest import read_all

    if (own := folder / "manifest.csv").exists():
        names = sorted(set(read_all(own)["machine"]))
        if len(names) > 1:
            raise InputError(f"{own}: has the machines {', '.join(names)}; say which one: --machine {names[0]}")
        return names[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", folder.absolute().name).strip("_-") or "machine"


def clips_of(folder: Path, machine: str, test: Path | None, work: Path) -> "pd.DataFrame":
    """List the recordings of a machine.

    Args:
        folder: with a manifest.csv; or all recordings below it are normal, of one section.
        machine: its name.
        test: a folder of recordings to score, without a manifest. A recording below a folder that is called normal or
            anomaly, or by a word that means the same (`asd.own_manifest.WORDS`), has this label.
        work: a folder for the list.

    Returns:
        The manifest's columns, one row per clip; paths are absolute.

    Raises:
        InputError: there are no recordings, or the manifest is refused.
    """
    import pandas as pd

    from asd.own_manifest import listed

    own = folder / "manifest.csv"
    if own.exists() and test is not None:
        raise InputError(f"{own}: says which recordings are for the test; leave out --test, or the manifest")
    if own.exists():
        return listed(own, machine)
    rows = [{"file": path, "split": "train", "label": "normal"} for path in _below(folder)]
    if test is not None:
        rows += [{"file": path, "split": "test", "label": _label(path.relative_to(test))} for path in _below(test)]
    path = work / "recordings.csv"
    pd.DataFrame(rows).assign(machine=machine).to_csv(path, index=False)
    return listed(path, machine)


def _below(folder: Path) -> list[Path]:
    """The recordings below a folder, as absolute paths; what is left out is logged."""
    from asd.own_manifest import recordings_below
    from asd.soundfiles import SUFFIXES, said

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one of recordings")
    found, left_out = recordings_below(folder)
    if left_out:
        log.warning("%s: %s", folder, said(left_out))
    if not found:
        raise InputError(f"{folder}: found no recordings; expected files that end in {', '.join(SUFFIXES)}")
    return [path.absolute() for path in found]


def _label(path: Path) -> str:
    """The label that the folders of a recording give it, the nearest first; empty if none does."""
    from asd.own_manifest import WORDS

    return next((WORDS["label"][one.lower()] for one in path.parts[-2::-1] if one.lower() in WORDS["label"]), "")


@dataclass(frozen=True)
class Made:
    """What was made of the recordings."""

    scores: "pd.DataFrame"
    """The score file of the model, `asd.scores.read_scores`."""
    seconds: float
    """Length of a clip, in seconds."""
    rate: int
    """Sample rate in Hz."""
    machine: str
    title: str
    """Of the model."""
    quantile: float
    """Share of normal clips that are meant to be below the threshold."""

    def told(self) -> list[str]:
        """Return lines that say what was learned, and how the test recordings were decided."""
        test = self.scores[self.scores["split"] == "test"]
        training = self.scores[self.scores["split"] == "train"]
        lines = [f"{self.machine}: {self.title}, from {len(training)} clips of {self.seconds:.2f} s at {self.rate} Hz"]
        for section, own in training.groupby("section"):
            limit, count = own["threshold"].iloc[0], recording_count(own[own["score"].notna()])
            if np.isfinite(limit):
                lines.append(
                    f"section {section}: {len(own)} clips; anomalous above {limit:.4g}, which is meant to be "
                    f"exceeded by {1 - self.quantile:.0%} of normal clips"
                )
            else:
                lines.append(f"section {section}: {too_few(count)}")
        return lines + [f"test, section {section}: {_judged(section, own)}" for section, own in test.groupby("section")]


def _judged(section: str, clips: "pd.DataFrame") -> str:
    """How the test clips of a section were decided and, if there are both labels, ranked."""
    from asd.results.metrics import ALL, interval, machine_figures, percent

    said = [f"{len(clips)} clips, {int((clips['decision'] == 1).sum())} anomalous by the threshold"]
    for label, word in (("anomaly", "found"), ("normal", "false alarms")):
        own = clips[(clips["label"] == label) & (clips["decision"] >= 0)]
        if len(own):
            said.append(f"{word} {int(own['decision'].sum())} of {len(own)}")
    if {"anomaly", "normal"} <= set(clips["label"]):
        values = machine_figures("", clips, resamples=1000).values[0, ALL.index(("auc", "all"))]
        low, high = (float(end) for end in interval(values))
        ends = "" if np.isnan(low) else f" ({percent(low)}-{percent(high)})"
        said.append(f"AUC {percent(values[0])}{ends}")
    return ", ".join(said)


def fit(clips: "pd.DataFrame", model: str, settings: "Settings", out: Path, device: "torch.device", work: Path) -> Made:
    """Fit a model to the training clips of a machine, score all clips, and write a detector.

    Args:
        clips: the manifest's columns, one row per clip of one machine.
        model: an entry of `settings.models`.
        settings: the configuration.
        out: the detector to write.
        device: where networks compute.
        work: a folder for what lies between the stages.

    Raises:
        InputError: there is no such model, or a stage refuses what it gets.
    """
    from asd.cache import open_cache
    from asd.corpus import write_manifest
    from asd.detector import write_detector
    from asd.fusion import fuse_tables
    from asd.scores import read_scores, write_scores
    from asd.threshold import of_sections

    if model not in settings.models:
        raise InputError(f"--model: found {model!r}; the configuration has {', '.join(settings.models)}")
    chosen, machine = settings.models[model], clips["machine"].iloc[0]
    write_manifest(work / "manifest.csv", clips)
    stages = _Stages(settings, machine, device, work)
    sources = [stages.source(name) for name in chosen.members or [model]]
    scores = sources[0].scores
    if chosen.members:
        tables = {source.model: read_scores(source.scores) for source in sources}
        fused, score = fuse_tables(tables, chosen.fuse, chosen.weights)
        scores = work / "scores" / model / f"{machine}.csv"
        write_scores(scores, fused, score, of_sections(fused, score, chosen.decision))
    write_detector(
        out, sources, scores=scores, model=model, title=chosen.title, fuse=chosen.fuse, weights=chosen.weights
    )
    with open_cache(sources[0].cache) as cache:
        rate, seconds = cache.settings.rate, cache.samples / cache.settings.rate
    return Made(read_scores(scores), seconds, rate, machine, chosen.title, chosen.decision.quantile)


@dataclass(frozen=True)
class _Stages:
    """The stages of a machine; each makes its file once."""

    settings: "Settings"
    machine: str
    device: "torch.device"
    work: Path

    def cache(self, network: str) -> Path:
        """The log-mel cache, of a network that has log-mels of its own or of the configuration."""
        from asd.cache import write_cache

        logmel = self.settings.networks[network].logmel if network else self.settings.logmel
        path = self.work / f"{logmel.file}.h5"
        if not path.exists():
            write_cache(path, self.work / "manifest.csv", logmel)
        return path

    def network(self, name: str) -> Path:
        """A network, trained as the configuration says."""
        from asd import network as networks
        from asd import weights
        from asd.cache import open_cache
        from asd.kinds import KINDS

        path, block = self.work / "networks" / f"{name}.safetensors", self.settings.networks[name]
        if path.exists():
            return path
        start, kind = None, KINDS[block.kind]
        if block.warm_start:
            start = networks.read(self.network(block.warm_start))
        elif block.starts:
            start = weights.start(block.backbone)
        with open_cache(self.cache(name)) as cache:
            network, data = kind.prepared(start, cache, block.training, path, self.device)
            kind.train(network, data, block.training, cache.settings)
        networks.save(path, network)
        return path

    def source(self, name: str) -> Any:
        """The files of a model of features or of a classifier, as `asd.detector.Source`."""
        from asd import exposure, sections
        from asd.cache import open_cache
        from asd.detector import Source
        from asd.features import open_features, write_features
        from asd.kinds import load
        from asd.scores import write_scores
        from asd.spectra import write_spectra
        from asd.threshold import of_sections

        model = self.settings.models[name]
        scores = self.work / "scores" / name / f"{self.machine}.csv"
        files: dict[str, Any] = {"cache": self.cache(model.network), "scores": scores}
        features = self.work / "features" / f"{model.network or model.spectrum}.h5"
        if model.network:
            files["windows"] = self.settings.networks[model.network].windows
            files["network"] = self.network(model.network)
        else:
            files["spectrum"] = self.settings.spectra[model.spectrum]
        with open_cache(files["cache"]) as cache:
            if model.network:
                network = load(files["network"]).for_scoring().to(self.device)
            if not model.fitted:
                clips, score = cache.clips, exposure.scores(network, cache, files["windows"], self.device)
            elif not features.exists() and model.network:
                write_features(features, network, cache, files["windows"], self.device)
            elif not features.exists():
                write_spectra(features, cache, files["spectrum"])
        if model.fitted:
            files["fitted"] = self.work / "fitted" / f"{name}.h5"
            with open_features(features) as opened:
                sections.write_sections(
                    files["fitted"], sections.fit_sections(opened, model.fit, np.random.default_rng(0))
                )
                clips, score = opened.clips, sections.scores(opened, sections.read_sections(files["fitted"]))
        write_scores(scores, clips, score, of_sections(clips, score, model.decision))
        return Source(model=name, title=model.title, detector=model.detector, **files)


def fit_folder(
    folder: Path,
    out: Path,
    *,
    model: str,
    machine: str,
    test: Path | None,
    files: tuple[Path, ...],
    device: "torch.device",
) -> Made:
    """Fit a model to a folder of recordings and write a detector.

    Args:
        folder: of recordings, see `clips_of`.
        out: the detector to write.
        model: an entry of the configuration's models.
        machine: its name.
        test: a folder of recordings to score, see `clips_of`; None for none.
        files: configuration files on top of the default ones.
        device: where networks compute.

    Raises:
        InputError: as `clips_of`, `configured` and `fit` raise it.
    """
    settings = configured(files, folder, machine)
    with TemporaryDirectory(prefix="asd-fit-") as work:
        return fit(clips_of(folder, machine, test, Path(work)), model, settings, out, device, Path(work))
