"""A detector in one file: what it takes to score a recording of tomorrow as the workflow scored those of the test.

A detector file is a zip of

    detector.json          what it is: machine, model, sections, threshold, settings, versions
    network.safetensors    the network, as `asd.network` writes it
    gaussians.h5           the Gaussians, as `asd.gaussian` writes them; not where the classifier's doubt is the score

    >>> detector = Detector.load("results/detectors/fan.zip")
    >>> found = detector.score(waveform, rate=16000)
    >>> found.score, found.decision, found.section, found.worst
"""

import numbers
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError

from asd import audio, soundfiles
from asd import network as networks
from asd.errors import InputError
from asd.exposure import doubt
from asd.features import FRAMES_AT_ONCE, cut, window_times
from asd.files import written
from asd.gaussian import Sections, chosen_columns, read_sections
from asd.network import Network, stage_widths
from asd.scores import read_scores
from asd.settings import LogMel, Model, Windows
from asd.threshold import threshold

LAYOUT = 1


class Description(Model):
    """What a detector is."""

    layout: Literal[1] = LAYOUT
    machine: str
    model: str
    """An entry of the configuration's `models`."""
    title: str
    detector: Literal["gaussian", "exposure"]
    sections: list[str]
    """The sections that it knows."""
    threshold: float | None
    """A recording is anomalous where its score is above; None: there was nothing to decide by."""
    samples: int
    """Samples of the clips that it was made from."""
    logmel: LogMel
    windows: Windows
    versions: dict[str, str]


@dataclass(frozen=True)
class Score:
    """What a detector says of a recording."""

    score: float
    decision: bool
    """Whether it is anomalous: the score is above the threshold."""
    section: str
    """The section that it was scored as: the one given, or the one of the lowest score."""
    threshold: float
    """Infinite where there was nothing to decide by."""
    worst: float | None
    """The second at the middle of the window with the highest score; None where the recording is one window."""
    times: np.ndarray
    """(windows,), the seconds at their middles."""
    windows: np.ndarray
    """(windows,), their scores, whose mean is the score."""


def write_detector(
    path: Path,
    *,
    network: Path,
    mvg: Path | None,
    scores: Path,
    samples: int,
    logmel: LogMel,
    windows: Windows,
    model: str,
    title: str,
    quantile: float,
) -> None:
    """Pack a detector.

    Args:
        mvg: its Gaussians; None where the classifier's doubt is the score.
        scores: of the machine's clips by this model; the training clips' make the threshold.
        samples: of a clip.
    """
    table = read_scores(scores)
    limit, _ = threshold(table["score"][table["split"] == "train"].to_numpy(), quantile)
    machine = networks.load(network).description.machine
    machine = scores.stem if machine == networks.ALL else machine
    description = Description(
        machine=machine,
        model=model,
        title=title,
        detector="gaussian" if mvg else "exposure",
        sections=sorted(table["section"][table["split"] == "train"].unique()),
        threshold=float(limit) if np.isfinite(limit) else None,
        samples=samples,
        logmel=logmel,
        windows=windows,
        versions={name: version(name) for name in ("asd", "numpy", "torch", "timm")},
    )
    contents = {"detector.json": description.model_dump_json(indent=1).encode(), "network.safetensors": network}
    contents |= {"gaussians.h5": mvg} if mvg else {}
    with written(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, content in contents.items():  # ZipInfo's own date, so that the same detector is the same bytes
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(zipfile.ZipInfo(name), data)


class Detector:
    """Scores recordings of one machine."""

    def __init__(self, description: Description, network: Network, gaussians: Sections | None) -> None:
        self.description = description
        self.network = network
        self.gaussians = gaussians
        if gaussians:
            self.columns = chosen_columns(np.array(stage_widths(network.backbone)), gaussians.settings.stages)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "Detector":
        """Read a detector file; nothing in it is run.

        Raises:
            InputError: not there, damaged, or no detector of this layout.
        """
        try:
            with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
                description = Description.model_validate_json(archive.read("detector.json"))
                names = ["network.safetensors", *(["gaussians.h5"] if description.detector == "gaussian" else [])]
                for name in names:
                    Path(folder, name).write_bytes(archive.read(name))
                network = networks.fold(networks.load(Path(folder, names[0])))
                gaussians = read_sections(Path(folder, names[1])) if len(names) > 1 else None
        except (OSError, KeyError, zipfile.BadZipFile, ValidationError, InputError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path}: not a readable detector ({reason}); make it with snakemake results/detectors/<machine>.zip"
            ) from None
        return cls(description, network.to(device), gaussians)

    def score(self, waveform: ArrayLike, rate: float, section: str | None = None) -> Score:
        """Score a recording.

        Args:
            waveform: (samples,) int16, or floating point with full scale at 1; any array-like that numpy takes.
            rate: its sample rate in Hz, which must be that of the training recordings.
            section: of the machine; None: the one that it is nearest to.

        Raises:
            InputError: another rate, several channels, too short for a window, samples that are no numbers or have
                another full scale, a section that the detector does not know, or a score that is not finite.
        """
        logmel = self.log_mel(waveform, rate)
        known = self.description.sections
        if section is not None and str(section) not in known:
            raise InputError(f"section: found {section!r}; the detector knows {', '.join(known)}")
        window = self.description.windows.window
        if window > logmel.shape[1]:
            needed = (window - 1) * self.description.logmel.hop / rate
            raise InputError(
                f"waveform: found {len(waveform) / rate:.2f} s; a window of the detector takes {needed:.2f} s"
            )
        rows = cut(np.array([False]), logmel.shape[1], self.description.windows)
        sections = known if section is None else [str(section)]
        by_section = self._window_scores(logmel, rows.start, rows.window, sections)
        if not all(np.isfinite(scores).all() for scores in by_section.values()):
            raise InputError(
                "score: found a value that is not finite, so there is no decision; the detector is damaged or its "
                "training failed: make it again"
            )
        nearest = min(by_section, key=lambda one: by_section[one].mean())
        scores = by_section[nearest]
        times = window_times(len(scores), self.description.windows.test_hop, rows.window, self.description.logmel)
        limit = np.inf if self.description.threshold is None else self.description.threshold
        score = float(scores.mean())
        worst = float(times[scores.argmax()]) if len(scores) > 1 else None
        return Score(score, score > limit, nearest, limit, worst, times, scores)

    def log_mel(self, waveform: ArrayLike, rate: float) -> np.ndarray:
        """Return the log-mel of a recording, (mels, frames) float32 in dB; raises as `score` does."""
        waveform = self._checked(waveform, rate)
        return audio.log_mel(torch.from_numpy(waveform), self.description.logmel).numpy()

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

    @torch.inference_mode()
    def _window_scores(
        self, logmel: np.ndarray, starts: np.ndarray, window: int, sections: list[str]
    ) -> dict[str, np.ndarray]:
        """Return the scores of windows that begin at these frames, (windows,) float64, for each of some sections."""
        device = self.network.mean.device
        windows = torch.from_numpy(logmel).to(device).unfold(1, window, 1)[:, starts].transpose(0, 1)
        size = max(1, FRAMES_AT_ONCE[device.type] // window)
        scores: dict[str, list[np.ndarray]] = {section: [] for section in sections}
        for batch in windows.split(size):
            standardised = self.network.standardise(batch)
            if self.gaussians:
                rows = self.network.features(standardised).cpu().numpy()[:, self.columns]
                for section, found in scores.items():
                    found.append(self.gaussians.gaussians[section].distance(rows))
            else:
                logits = self.network.section(self.network.embed(standardised))
                for section, found in scores.items():
                    label = self.network.description.section_label(self.description.machine, section)
                    own = self.network.description.section_labels.index(label)
                    index = torch.full((len(logits),), own, device=device)
                    found.append(doubt(logits, index).double().cpu().numpy())
        return {section: np.concatenate(found) for section, found in scores.items()}
