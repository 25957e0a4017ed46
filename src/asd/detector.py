"""A detector in one file: everything that is needed to score new recordings as the workflow scored the test clips.

A detector file is a zip of

    detector.json                  its description: machine, model, sections, threshold, members, settings, versions
    training.csv                   its training clips, see `Detector.training`
    <member>/network.safetensors   its network, as `asd.network` writes it; missing for a spectrum
    <member>/fitted.h5             its fitted detector, as `asd.sections` writes it; missing for the detector exposure
    <member>/features.h5           the features that it was fitted to, for `asd.updating`; missing if they are too large

A model has one member, itself; a fusion has several.

    >>> detector = Detector.load("results/detectors/fan.zip")
    >>> found = detector.score(waveform, rate=16000)
    >>> found.score, found.decision, found.section, found.worst
"""

import io
import logging
import numbers
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, Field, ValidationError

from asd import audio, soundfiles
from asd.bands import band_shares
from asd.cache import open_cache
from asd.corpus import recording_count
from asd.corpus_check import decibel
from asd.errors import InputError
from asd.features import FRAMES_AT_ONCE, cut, window_times, write_training
from asd.files import written
from asd.fusion import Standard, fused, standards
from asd.mel import frames as frame_count
from asd.scores import read_scores, thresholds_of
from asd.sections import Sections, columns_of, pooled, read_sections
from asd.settings import Check, Decision, DetectorName, LogMel, Model, Name, Spectrum, Windows
from asd.spectra import features
from asd.threshold import of_sections, unsupported

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from asd.network import Network

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


@dataclass(frozen=True)
class Score:
    """The result of a recording."""

    score: float
    standardised: float
    """The score in standard deviations above the mean of the section's training clips."""
    decision: bool | None
    """Whether it is anomalous: the score is above the threshold; None if there is no threshold."""
    section: str
    """The section as which it was scored: the given one, or the one with the lowest standardised score."""
    threshold: float
    """Of the section; infinite if there were too few training clips for one."""
    worst: float | None
    """The time in seconds of the middle of the window with the highest score; None if there is only one window."""
    times: np.ndarray
    """(windows,), the seconds at their middles; of the first member that sees windows."""
    windows: np.ndarray
    """(windows,), their scores."""
    members: dict[str, float] = field(default_factory=dict)
    """Of a fusion: the standardised score of each member."""
    bands: np.ndarray | None = None
    """(bands,), the share of each band of mel bins in the squared distance (`asd.bands.band_shares`), of the first
    member that is a Gaussian of a spectrum; None if there is none."""
    level: float = np.nan
    """Of the recording, in dB of full scale."""
    remark: str = ""
    """A fault of the recording itself: it is silent, so its score says nothing about the machine; "" if none."""


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
        thresholds=_written(thresholds_of(training)),
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


def _written(thresholds: Mapping[str, float]) -> dict[str, float | None]:
    """Thresholds as the description has them: None for none."""
    return {one: limit if np.isfinite(limit) else None for one, limit in thresholds.items()}


def levels_of(path: Path) -> dict[str, float]:
    """Return the level of each training clip of a log-mel cache in dB of full scale, by file."""
    with open_cache(path) as cache:
        training = np.flatnonzero(cache.clips["split"] == "train")
        waveforms = (cache.read_waveform([row])[0] / np.float32(soundfiles.FULL_SCALE) for row in training)
        return dict(zip(cache.clips["file"].iloc[training], map(level, waveforms), strict=True))


@dataclass(frozen=True)
class Loaded:
    """A member with what it scores by."""

    member: Member
    network: "Network | None"
    fitted: Sections | None

    @property
    def columns(self) -> np.ndarray:
        """The columns (values,) of the features that its detector takes."""
        if self.network:
            return columns_of(np.array(self.network.widths), self.fitted.settings)
        return np.arange(self.member.spectrum.width(self.member.logmel.mels))

    def scores(self, waveform: np.ndarray, machine: str, sections: list[str]) -> dict[str, np.ndarray]:
        """Return the scores of a recording's windows for each section, by domain: (windows, domains) float64.

        Args:
            waveform: (samples,) float32 with full scale at 1.
            machine: of the detector.
            sections: the sections as which it is scored.
        """
        logmel = audio.log_mel(waveform, self.member.logmel)
        if self.network is None or self.network.hears == "waveform":
            rows = self._embedded(waveform) if self.network else self._pooled(waveform, logmel)[None]
            return {section: self.fitted.sections[section].window_scores(rows) for section in sections}
        return self._of_windows(logmel, machine, sections)

    def _embedded(self, waveform: np.ndarray) -> np.ndarray:
        """Return the features of the pieces of a recording, (pieces, values), by a network that hears the waveform."""
        import torch

        from asd.waveform import of_recording

        device = next(self.network.parameters()).device
        heard = of_recording(torch.from_numpy(as_int16(waveform)), self.network.description.samples)
        with torch.inference_mode():
            return torch.cat([self.network.vectors(some.to(device)).cpu() for some in heard.split(16)]).numpy()

    def times(self, windows: int, samples: int) -> np.ndarray:
        """Return the seconds at the middles of the windows of a recording of so many samples, (windows,)."""
        logmel, cut_in = self.member.logmel, self.member.windows
        if self.network and self.network.hears == "waveform":
            from asd.waveform import pieces

            length = self.network.description.samples
            return (pieces(samples, length) + min(length, samples) / 2) / logmel.rate
        return window_times(windows, cut_in.test_hop, cut_in.window or frame_count(samples, logmel), logmel)

    def _pooled(self, waveform: np.ndarray, logmel: np.ndarray) -> np.ndarray:
        """Return the features of a recording without a network, (d,) float32 as a features file keeps them."""
        return features(logmel, as_int16(waveform), self.member.spectrum, self.member.logmel).astype(np.float32)

    @property
    def tells_bands(self) -> bool:
        """Whether the share of each frequency band in its score is known."""
        spectrum = self.member.spectrum
        return bool(spectrum and self.member.detector == "gaussian" and "level" not in spectrum.pool)

    def bands(self, waveform: np.ndarray, section: str) -> np.ndarray:
        """Return the share of each frequency band in the squared distance of a recording to a section, (bands,)."""
        row = self._pooled(waveform, audio.log_mel(waveform, self.member.logmel)).astype(np.float64)
        return band_shares(self.fitted.sections[section], row, self.member.logmel.mels)

    def _of_windows(self, logmel: np.ndarray, machine: str, sections: list[str]) -> dict[str, np.ndarray]:
        import torch

        from asd.exposure import doubt

        device = next(self.network.parameters()).device
        rows = cut(np.array([False]), logmel.shape[1], self.member.windows)
        windows = torch.from_numpy(logmel).to(device).unfold(1, rows.window, 1)[:, rows.start].transpose(0, 1)
        size = max(1, FRAMES_AT_ONCE[device.type] // rows.window)
        scores: dict[str, list[np.ndarray]] = {section: [] for section in sections}
        with torch.inference_mode():
            for batch in windows.split(size):
                if self.fitted:
                    values = self.network.vectors(batch).cpu().numpy()[:, self.columns]
                    for section, found in scores.items():
                        found.append(self.fitted.sections[section].window_scores(values))
                    continue
                logits = self.network.section(self.network.embed(self.network.standardise(batch)))
                for section, found in scores.items():
                    label = self.network.description.section_label(machine, section)
                    own = self.network.description.section_labels.index(label)
                    index = torch.full((len(logits),), own, device=device)
                    found.append(doubt(logits, index).cpu().double().numpy()[:, None])
        return {section: np.concatenate(found) for section, found in scores.items()}

    def of_clip(self, scores: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the score of a recording, and those of its windows (windows,), as the nearest domain."""
        if self.fitted is None:
            by_domain = scores.mean(0)
        else:
            by_domain = pooled(scores, np.array([len(scores)]), self.fitted.settings.window_pooling)[0]
        nearest = int(by_domain.argmin())
        return float(by_domain[nearest]), scores[:, nearest]


class Detector:
    """Scores recordings of one machine."""

    def __init__(self, description: Description, members: list[Loaded], training: bytes = b"") -> None:
        self.description = description
        self.members = members
        self._training = training

    @classmethod
    def load(cls, path: str | Path, device: "str | torch.device" = "cpu") -> "Detector":
        """Read a detector file; no code in it is run.

        Raises:
            InputError: the file is missing, damaged, or not a detector of this layout.
        """
        try:
            with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
                description = _described(archive.read("detector.json"))
                training = archive.read("training.csv")
                members = [_loaded(archive, Path(folder), member, device) for member in description.members]
        except (OSError, KeyError, zipfile.BadZipFile, InputError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable detector ({reason}); make it with asd fit, or with snakemake "
                "results/detectors/<machine>.zip"
            ) from None
        return cls(description, members, training)

    @cached_property
    def training(self) -> "pd.DataFrame":
        """The training clips: file, section, domain, recording, score (held out; nan: none) and level in dB."""
        import pandas as pd

        table = pd.read_csv(io.BytesIO(self._training), dtype=str, keep_default_na=False)
        return table.assign(score=table["score"].replace("", "nan").astype(float), level=table["level"].astype(float))

    def with_false_alarms(self, share: float) -> tuple["Detector", list[str]]:
        """Return this detector with other thresholds, and what is to be said of them.

        Args:
            share: of the normal clips that are meant to be above the threshold, 0 to 1.

        Returns:
            The detector; and a line per threshold that its training recordings are too few for
            (`asd.threshold.unsupported`).
        """
        decision = self.description.decision.model_copy(update={"quantile": 1 - share})
        clips, score = self.training.assign(split="train"), self.training["score"].to_numpy()
        thresholds = _written(of_sections(clips, score, decision))
        description = self.description.model_copy(update={"decision": decision, "thresholds": thresholds})
        return Detector(description, self.members, self._training), unsupported(clips, score, decision)

    def score(self, waveform: ArrayLike, rate: float, section: str | None = None) -> Score:
        """Score a recording.

        Args:
            waveform: (samples,) int16, or floating point with full scale at 1; any array-like that numpy takes.
            rate: its sample rate in Hz, which must be that of the training recordings.
            section: of the machine; None: the one with the lowest standardised score.

        Raises:
            InputError: another rate, several channels, too short for a window, samples that are no numbers or have
                another full scale, a section that the detector does not know, or a score that is not finite.
        """
        waveform = self._checked(waveform, rate)
        known = self.description.sections
        if section is not None and str(section) not in known:
            raise InputError(f"section: found {section!r}; the detector knows {', '.join(known)}")
        for member in (loaded.member for loaded in self.members):
            needed = (member.windows.window - 1) * member.logmel.hop / rate
            if len(waveform) / rate < needed:
                raise InputError(
                    f"waveform: found {len(waveform) / rate:.2f} s; a window of the detector takes {needed:.2f} s"
                )
        sections = known if section is None else [str(section)]
        machine = self.description.machine
        by_member = [loaded.scores(waveform, machine, sections) for loaded in self.members]
        if not all(np.isfinite(found).all() for scores in by_member for found in scores.values()):
            raise InputError(
                "score: found a value that is not finite, so there is no decision; the detector is damaged or its "
                "training failed: make it again"
            )
        found = {one: self._fused([scores[one] for scores in by_member], one) for one in sections}
        standard = {one: Standard(*self.description.standards.get(one, (0.0, 1.0))) for one in sections}
        nearest = min(sections, key=lambda one: standard[one].of(found[one][0]))
        score, shares = found[nearest]
        times, windows = np.empty(0), np.empty(0)
        for loaded, scores in zip(self.members, by_member, strict=True):
            _, curve = loaded.of_clip(scores[nearest])
            if loaded.member.windows.window or len(self.members) == 1:
                times, windows = loaded.times(len(curve), len(waveform)), curve
                break
        limit = self.description.thresholds[nearest]
        decision = None if limit is None else score > limit
        limit = np.inf if limit is None else limit
        worst = float(times[windows.argmax()]) if len(windows) > 1 else None
        loudness = level(waveform)
        bands = next((one.bands(waveform, nearest) for one in self.members if one.tells_bands), None)
        return Score(
            score=score,
            standardised=float(standard[nearest].of(score)),
            decision=decision,
            section=nearest,
            threshold=limit,
            worst=worst,
            times=times,
            windows=windows,
            members=shares,
            bands=bands,
            level=loudness,
            remark=silent(loudness),
        )

    def _fused(self, scores: list[np.ndarray], section: str) -> tuple[float, dict[str, float]]:
        """Return the score of a recording as a section, and the members' standardised ones of a fusion."""
        own = [loaded.of_clip(one)[0] for loaded, one in zip(self.members, scores, strict=True)]
        if len(own) == 1:
            return own[0], {}
        standardised = [
            float(Standard(*loaded.member.standards[section]).of(one))
            for loaded, one in zip(self.members, own, strict=True)
        ]
        score = fused([np.array(one) for one in standardised], self.description.fuse, self.description.weights)
        names = [loaded.member.model for loaded in self.members]
        return float(score), dict(zip(names, standardised, strict=True))

    def log_mel(self, waveform: ArrayLike, rate: float) -> np.ndarray:
        """Return the log-mel of a recording, (mels, frames) float32 in dB; raises as `score` does."""
        return audio.log_mel(self._checked(waveform, rate), self.description.logmel)

    def _checked(self, waveform: ArrayLike, rate: float) -> np.ndarray:
        """A waveform of any memory layout as (samples,) float32 with full scale at 1; raises as `score` does."""
        expected = self.description.logmel.rate
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
            raise InputError(f"rate: found {rate!r} ({type(rate).__name__}); expected a number of Hz: {expected}")
        if rate != expected:
            raise InputError(f"rate: found {rate} Hz, but the detector was made from {expected} Hz; resample it")
        try:
            waveform = np.asarray(waveform)
        except (TypeError, ValueError, RuntimeError) as error:  # a ragged list; a tensor with a gradient, or on a GPU
            raise InputError(f"waveform: not an array of samples ({error}); expected (samples,) numbers") from None
        int16 = waveform.dtype.kind == "i" and waveform.dtype.itemsize == 2  # of either byte order
        if waveform.ndim != 1 or not (int16 or waveform.dtype.kind == "f"):
            raise InputError(
                f"waveform: found {waveform.dtype} of shape {waveform.shape}; expected one channel of samples, int16 "
                "or floating point with full scale at 1"
            )
        if len(waveform) == 0:
            raise InputError("waveform: found no samples")
        if int16:
            return waveform.astype(np.float32) / np.float32(soundfiles.FULL_SCALE)
        if fault := soundfiles.fault_of(waveform):
            raise InputError(f"waveform: {fault}")
        return waveform.astype(np.float32)


def as_int16(waveform: np.ndarray) -> np.ndarray:
    """Return a waveform (samples,) of full scale 1 as a log-mel cache keeps it, int16."""
    scaled = np.rint(waveform * soundfiles.FULL_SCALE)
    return scaled.clip(-soundfiles.FULL_SCALE, soundfiles.FULL_SCALE - 1).astype(np.int16)


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


def _described(text: bytes) -> Description:
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


def _loaded(archive: zipfile.ZipFile, folder: Path, member: Member, device: "str | torch.device") -> Loaded:
    """Read a member of a detector file."""

    def file(name: str) -> Path:
        unpacked = folder / f"{member.model}-{name}"
        unpacked.write_bytes(archive.read(f"{member.model}/{name}"))
        return unpacked

    network = None
    if member.spectrum is None:
        from asd.kinds import load

        network = load(file("network.safetensors")).for_scoring().to(device)
    return Loaded(member, network, None if member.detector == "exposure" else read_sections(file("fitted.h5")))
