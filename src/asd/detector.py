"""A detector, read from its file (`asd.detector_file`): it scores new recordings as the workflow scored the test clips.

>>> detector = Detector.load("results/detectors/fan.zip")
>>> found = detector.score(waveform, rate=16000)
>>> found.score, found.decision, found.section, found.worst
"""

import io
import numbers
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from asd import audio, soundfiles
from asd.bands import band_shares
from asd.detector_file import Description, Member, described, level, silent, written_thresholds
from asd.errors import InputError
from asd.features import FRAMES_AT_ONCE, cut, window_times
from asd.fusion import Standard, fused
from asd.mel import frames as frame_count
from asd.sections import Sections, columns_of, pooled, read_sections
from asd.spectra import features
from asd.threshold import of_sections, unsupported

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from asd.network import Network


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
                description = described(archive.read("detector.json"))
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
        thresholds = written_thresholds(of_sections(clips, score, decision))
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
