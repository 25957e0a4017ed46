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
from asd.threshold import SECONDS, checked, per_clip, too_few, unsupported

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from asd.settings import Decision, Fit, Settings

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
        rows += [
            {"file": path, "split": "test", "label": _label(path.relative_to(test.absolute()))} for path in _below(test)
        ]
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
    false_alarms: float
    """Share of the normal clips that are meant to be above the threshold."""
    period: float
    """Seconds from the beginning of one clip to that of the next, by which false alarms are counted in time."""

    def told(self) -> list[str]:
        """Return lines that say what was learned, and how the test recordings were decided."""
        test = self.scores[self.scores["split"] == "test"]
        training = self.scores[self.scores["split"] == "train"]
        lines = [f"{self.machine}: {self.title}, from {len(training)} clips of {self.seconds:.2f} s at {self.rate} Hz"]
        for section, own in training.groupby("section"):
            limit, count = own["threshold"].iloc[0], recording_count(own[own["score"].notna()])
            found = f"anomalous above {limit:.4g}" if np.isfinite(limit) else too_few(count)
            parts = "" if len(own) == recording_count(own) else f" of {recording_count(own)} recordings"
            lines.append(f"section {section}: {len(own)} clips{parts}; {found}")
        if np.isfinite(training["threshold"]).any():
            lines.append(
                f"expected false alarms: {100 * self.false_alarms:.3g}% of the normal clips, which is "
                f"{_number(self.false_alarms * SECONDS['day'] / self.period)} per day at a clip every {self.period:g} s"
            )
        return lines + [f"test, section {section}: {_judged(section, own)}" for section, own in test.groupby("section")]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
        ends = "no interval, all resamples have this" if np.isnan(low) else f"{percent(low)}-{percent(high)}"
        said.append(f"AUC {percent(values[0])} ({ends})")
    return ", ".join(said)


def fit(
    clips: "pd.DataFrame",
    model: str,
    settings: "Settings",
    out: Path,
    device: "torch.device",
    work: Path,
    false_alarms: str | None = None,
    period: float | None = None,
) -> Made:
    """Fit a model to the training clips of a machine, score all clips, and write a detector.

    Args:
        clips: the manifest's columns, one row per clip of one machine.
        model: an entry of `settings.models`.
        settings: the configuration.
        out: the detector to write.
        device: where networks compute.
        work: a folder for what lies between the stages.
        false_alarms: the wanted rate of false alarms (`asd.threshold.per_clip`); None: as the settings say.
        period: seconds from one clip to the next; None: the length of a clip.

    Raises:
        InputError: there is no such model or rate, or a stage refuses what it gets.
    """
    from asd.cache import open_cache
    from asd.corpus import write_manifest
    from asd.detector_file import levels_of, refuse_silence, write_detector
    from asd.scores import read_scores

    if model not in settings.models:
        raise InputError(f"--model: found {model!r}; the configuration has {', '.join(settings.models)}")
    chosen, machine = settings.models[model], clips["machine"].iloc[0]
    write_manifest(work / "manifest.csv", clips)
    stages, names = _Stages(settings, machine, device, work), chosen.members or [model]
    heard = stages.cache(settings.models[names[0]].network)
    if "silent" in settings.check.refuse:
        refuse_silence(levels_of(heard))
    with open_cache(heard) as cache:
        rate, seconds = cache.settings.rate, cache.samples / cache.settings.rate
    decision, period = chosen.decision, checked(seconds if period is None else period)
    if false_alarms:
        decision = decision.model_copy(update={"quantile": 1 - per_clip(false_alarms, period)})
    sources = [stages.source(name, decision) for name in names]
    scores = fused_scores(sources, chosen.fuse, chosen.weights, decision, work / "scores" / model / f"{machine}.csv")
    write_detector(
        out,
        sources,
        scores=scores,
        model=model,
        title=chosen.title,
        decision=decision,
        fuse=chosen.fuse,
        weights=chosen.weights,
    )
    found = read_scores(scores)
    if false_alarms:
        for line in unsupported(found, found["score"].to_numpy(), decision):
            log.warning("%s", line)
    return Made(found, seconds, rate, machine, chosen.title, 1 - decision.quantile, period)


def fused_scores(sources: list[Any], fuse: str, weights: list[float], decision: "Decision", out: Path) -> Path:
    """Return the score file of a model: that of its only source, or the fusion of several, which is written.

    Args:
        sources: of the members, as `asd.detector_file.Source`.
        fuse: mean, max or min.
        weights: of the members, for the mean.
        decision: how the thresholds are found.
        out: the score file of the fusion.
    """
    from asd.fusion import fuse_tables
    from asd.scores import read_scores, write_scores
    from asd.threshold import of_sections

    if len(sources) == 1:
        return sources[0].scores
    fused, score = fuse_tables({one.model: read_scores(one.scores) for one in sources}, fuse, weights)
    write_scores(out, fused, score, of_sections(fused, score, decision))
    return out


def fit_features(features: Path, settings: "Fit", decision: "Decision", fitted: Path, scores: Path) -> None:
    """Fit a detector to a features file, and score its clips.

    Args:
        features: the features file.
        settings: of the detector.
        decision: how the thresholds are found.
        fitted: the file of the detector to write (`asd.sections`).
        scores: the score file to write.
    """
    from asd.features import open_features
    from asd.scores import write_scores
    from asd.sections import fit_sections, read_sections, write_sections
    from asd.sections import scores as scored
    from asd.threshold import of_sections

    with open_features(features) as opened:
        write_sections(fitted, fit_sections(opened, settings, np.random.default_rng(0)))
        score = scored(opened, read_sections(fitted))
        write_scores(scores, opened.clips, score, of_sections(opened.clips, score, decision))


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
        from asd.kinds import module_of

        path, block = self.work / "networks" / f"{name}.safetensors", self.settings.networks[name]
        if path.exists():
            return path
        start, kind = None, module_of(block.kind)
        if block.warm_start:
            start = networks.read(self.network(block.warm_start))
        elif block.starts:
            start = weights.start(block.backbone)
        with open_cache(self.cache(name)) as cache:
            network, data = kind.prepared(start, cache, block.training, path, self.device)
            kind.train(network, data, block.training, cache.settings)
        networks.save(path, network)
        return path

    def source(self, name: str, decision: "Decision") -> Any:
        """The files of a model of features or of a classifier, as `asd.detector_file.Source`."""
        from asd import exposure
        from asd.cache import open_cache
        from asd.detector_file import Source
        from asd.features import write_features
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
                score = exposure.scores(network, cache, files["windows"], self.device)
                write_scores(scores, cache.clips, score, of_sections(cache.clips, score, decision))
            elif not features.exists() and model.network:
                write_features(features, network, cache, files["windows"], self.device)
            elif not features.exists():
                write_spectra(features, cache, files["spectrum"])
        if model.fitted:
            files |= {"features": features, "fitted": self.work / "fitted" / f"{name}.h5"}
            fit_features(features, model.fit, decision, files["fitted"], scores)
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
    false_alarms: str | None = None,
    period: float | None = None,
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
        false_alarms: the wanted rate of false alarms, see `fit`.
        period: seconds from one clip to the next, see `fit`.

    Raises:
        InputError: as `clips_of`, `configured` and `fit` raise it.
    """
    settings = configured(files, folder, machine)
    with TemporaryDirectory(prefix="asd-fit-") as work:
        clips = clips_of(folder, machine, test, Path(work))
        return fit(clips, model, settings, out, device, Path(work), false_alarms, period)
