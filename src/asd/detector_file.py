"""The file of a detector: what is in it, and how it is packed. `asd.detector` reads it and scores recordings.

A detector file is a zip of

    detector.json                  its description: machine, model, sections, threshold, members, settings, versions
    training.csv                   its training clips, see `Detector.training`
    <member>/network.safetensors   its network, as `asd.network` writes it; missing for a spectrum
    <member>/fitted.h5             its fitted detector, as `asd.sections` writes it; missing for the detector exposure
    <member>/features.h5           the features that it was fitted to, for `asd.updating`; missing if they are too large

A model has one member, itself; a fusion has several.
"""

import logging
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from asd import soundfiles
from asd.cache import open_cache
from asd.corpus import recording_count
from asd.corpus_check import decibel
from asd.errors import InputError
from asd.features import write_training
from asd.files import written
from asd.fusion import standards
from asd.scores import read_scores, thresholds_of
from asd.settings import Check, Decision, DetectorName, LogMel, Model, Name, Spectrum, Windows

log = logging.getLogger(__name__)

LAYOUT = 5
FEATURES = 200_000_000
"""Largest number of bytes of a member's training features that a detector file carries."""

TRAINING = ("file", "section", "domain", "recording", "score", "level")
"""Columns of `training.csv`."""


class Member(Model):
    """A model that a detector consists of."""

    model: Name
    """An entry of the configuration's `models`."""
    title: str
    detector: DetectorName
    spectrum: Spectrum | None = None
    """The settings of a spectrum; None if the model has a network."""
    logmel: LogMel
    """The settings of its log-mels."""
    windows: Windows
    """How a recording is cut into windows."""
    standards: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """For a fusion: section -> mean and deviation by which the member's scores are standardised."""


class Description(Model):
    """The description of a detector."""

    layout: Literal[5] = LAYOUT
    machine: str
    model: str
    """An entry of the configuration's `models`."""
    title: str
    sections: list[str]
    """The sections as which it can score."""
    thresholds: dict[str, float | None]
    """section -> a recording is anomalous if its score is above this value; None if there is no threshold."""
    decision: Decision
    """How the thresholds were found from the training scores."""
    standards: dict[str, tuple[float, float]]
    """section -> mean and deviation by which scores of different sections are compared; empty if no training clip has a
    score."""
    training: dict[str, int]
    """section -> number of recordings of the scored training clips."""
    samples: int
    """Samples of the clips from which it was made."""
    logmel: LogMel
    """Of the first member; says how recordings are read."""
    members: list[Member]
    fuse: Literal["mean", "max", "min"] = "mean"
    weights: list[float] = Field(default_factory=list)
    versions: dict[str, str]


class _Layout(BaseModel):
    """What descriptions of all layouts have."""

    layout: int
    versions: dict[str, str] = Field(default_factory=dict)


class Source(Model):
    """The files from which a member is packed, for `write_detector`."""

    model: Name
    title: str
    detector: DetectorName
    spectrum: Spectrum | None = None
    windows: Windows = Windows()
    cache: Path
    """The machine's log-mel cache."""
    network: Path | None = None
    features: Path | None = None
    fitted: Path | None = None
    scores: Path
    """Of the machine's clips by this member."""


def write_detector(
    path: Path,
    members: list[Source],
    *,
    scores: Path,
    model: str,
    title: str,
    decision: Decision,
    fuse: Literal["mean", "max", "min"] = "mean",
    weights: list[float] | None = None,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Pack a detector.

    Args:
        path: the zip to write.
        members: the model itself, or those of a fusion.
        scores: of the machine's clips by this model; they hold the thresholds.
        model: its name.
        title: its title.
        decision: how the thresholds were found.
        fuse: of a fusion.
        weights: of a fusion's members.
        levels: in dB of full scale of training clips that are not in the cache of the first member, by file.

    Raises:
        InputError: members of different sample rates.
    """
    table = read_scores(scores)
    training = table[table["split"] == "train"]
    described, contents = [], {}
    for one in members:
        with open_cache(one.cache) as cache:
            logmel, samples = cache.settings, cache.samples
        own = standards(read_scores(one.scores), one.model) if len(members) > 1 else {}
        kept = one.model_dump(include={"model", "title", "detector"})
        described.append(
            Member(
                **kept,
                spectrum=one.spectrum,
                logmel=logmel,
                windows=one.windows,
                standards={section: tuple(standard) for section, standard in own.items()},
            )
        )
        for name, file in (("network.safetensors", one.network), ("fitted.h5", one.fitted)):
            if file:
                contents[f"{one.model}/{name}"] = file
        if logmel.rate != described[0].logmel.rate:
            raise InputError(
                f"{title}: its members {members[0].model} and {one.model} listen at {described[0].logmel.rate} and "
                f"{logmel.rate} Hz; one detector takes one rate"
            )
    description = Description(
        machine=scores.stem,
        model=model,
        title=title,
        sections=sorted(training["section"].unique()),
        thresholds=written_thresholds(thresholds_of(training)),
        decision=decision,
        standards=standards(training, model) if training["score"].notna().any() else {},
        training={str(one): recording_count(own[own["score"].notna()]) for one, own in training.groupby("section")},
        samples=samples,
        logmel=described[0].logmel,
        members=described,
        fuse=fuse,
        weights=weights or [],
        versions={name: version(name) for name in ("asd", "numpy", "torch", "timm")},
    )
    heard = {**(levels or {}), **levels_of(members[0].cache)}
    known = training.assign(level=training["file"].map(heard))[list(TRAINING)]
    with written(path) as aside, zipfile.ZipFile(aside, "w") as archive, TemporaryDirectory() as folder:
        # The default date of ZipInfo, so that the same detector gives the same bytes.
        archive.writestr(zipfile.ZipInfo("detector.json"), description.model_dump_json(indent=1).encode())
        archive.writestr(zipfile.ZipInfo("training.csv"), known.to_csv(index=False, lineterminator="\n").encode())
        for name, file in contents.items():
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
        for one in (one for one in members if one.features):
            features = Path(folder) / f"{one.model}.h5"
            size = write_training(features, {one.features: ()}, one.windows, most=FEATURES)
            if features.exists():
                archive.writestr(zipfile.ZipInfo(f"{one.model}/features.h5"), features.read_bytes())
            else:
                log.warning(
                    "%s: the training features take %.0f MB, more than %.0f MB, so the detector does not carry them: "
                    "asd update cannot add recordings to it",
                    *(one.title, size / 1e6, FEATURES / 1e6),
                )


def written_thresholds(thresholds: Mapping[str, float]) -> dict[str, float | None]:
    """Thresholds as the description has them: None for none."""
    return {one: limit if np.isfinite(limit) else None for one, limit in thresholds.items()}


def levels_of(path: Path) -> dict[str, float]:
    """Return the level of each training clip of a log-mel cache in dB of full scale, by file."""
    with open_cache(path) as cache:
        training = np.flatnonzero(cache.clips["split"] == "train")
        waveforms = (cache.read_waveform([row])[0] / np.float32(soundfiles.FULL_SCALE) for row in training)
        return dict(zip(cache.clips["file"].iloc[training], map(level, waveforms), strict=True))


def level(waveform: np.ndarray) -> float:
    """Return the level of a waveform (samples,) in dB of its full scale 1, apart from a constant offset."""
    return float(decibel(float(np.var(waveform, dtype=np.float64))))


def silent(found: float) -> str:
    """Return a remark if a level in dB of full scale is that of a silent recording; else ""."""
    limit = Check().silent
    if found >= limit:
        return ""
    return f"silent (level {found:.0f} dB, below {limit:.0f} dB); the microphone or its cable may be defective"


def refuse_silence(levels: Mapping[str, float]) -> None:
    """Refuse to learn from silent recordings.

    Args:
        levels: of recordings in dB of full scale, by file.

    Raises:
        InputError: there are some.
    """
    found = [file for file, one in levels.items() if silent(one)]
    if found:
        raise InputError(
            f"{found[0]}: {silent(levels[found[0]])}. {len(found)} of {len(levels)} training recordings are silent, "
            "and a detector would learn silence as normal; remove them"
        )


def described(text: bytes) -> Description:
    """Read the description of a detector.

    Raises:
        InputError: it is of another layout, or damaged.
    """
    try:
        layout = _Layout.model_validate_json(text)
        if layout.layout == LAYOUT:
            return Description.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"detector.json: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    made = layout.versions.get("asd", "an unknown version")
    raise InputError(f"it has layout {layout.layout}, written by asd {made}; this asd reads layout {LAYOUT}")
