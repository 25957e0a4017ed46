"""A detector as one ONNX graph: from a recording, or from its log-mel, to the score.

From the waveform the graph holds all that `asd score` does with a recording:

    waveform  (batch, samples) float32, full scale at 1; samples of the clips from which the detector was made
    score     (batch, sections) float64, the score of the recording for each section

From the log-mel it holds the network or the poolings, and the detector:

    logmel    (batch, mels, frames) float32, in dB; as many frames as the network's window or, without windows, a clip
    score     (batch, sections) float64, the score for each section; that of a recording is the mean over its windows

The batch is dynamic. What else is needed is in the graph's metadata: sections, thresholds, standards, and the settings
of the log-mel and the windows, as JSON texts.
"""

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from asd.audio import FLOOR, hann
from asd.detector import Detector, Loaded
from asd.errors import InputError
from asd.exposure import doubt
from asd.features import cut
from asd.files import written
from asd.mel import frames as frame_count
from asd.mel import mel_filters

Source = Literal["logmel", "waveform"]

TOLERANCE = 1e-4
"""Largest difference between the graph's score and torch's, relative to torch's."""


class Graph(nn.Module):
    """A detector as one module: log-mels (batch, mels, frames) or waveforms (batch, samples) -> (batch, sections).

    Raises:
        InputError: the detector's score is not the mean of the graph's scores over windows (see `exportable`).
    """

    def __init__(self, detector: Detector, source: Source = "logmel") -> None:
        super().__init__()
        loaded = exportable(detector, source)
        self.source, self.logmel, self.windows = source, loaded.member.logmel, loaded.member.windows
        self.network, self.spectrum = loaded.network, loaded.member.spectrum
        if source == "waveform":
            filters = mel_filters(self.logmel.rate, self.logmel.n_fft, self.logmel.mels)
            self.register_buffer("filters", torch.from_numpy(filters))
            self.register_buffer("hann", torch.from_numpy(hann(self.logmel.n_fft)))
        self.sections = detector.description.sections
        self.fitted = loaded.fitted and [loaded.fitted.sections[section] for section in self.sections]
        if self.fitted:
            self.register_buffer("columns", torch.from_numpy(loaded.columns))
            for number, section in enumerate(self.fitted):
                for name in ("means", "scale", "factor"):
                    self.register_buffer(f"{name}{number}", torch.from_numpy(getattr(section.fitted, name)))
        else:
            known = self.network.description
            labels = [known.section_label(detector.description.machine, section) for section in self.sections]
            self.own = [known.section_labels.index(label) for label in labels]

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Return the scores of log-mels or waveforms as each section: (batch, sections) float64."""
        if self.source == "logmel":
            by_domain = self._by_domain(sound)
        else:
            power = self._power(sound)
            logmel = (power @ self.filters.float()).clamp(min=FLOOR).log10().mul(10).mT
            if self.spectrum:
                by_domain = self._by_domain(logmel, power.sqrt().double() @ self.filters, sound)
            else:
                rows = cut(np.array([False]), logmel.shape[2], self.windows)
                windows = torch.stack([logmel[:, :, one : one + rows.window] for one in rows.start.tolist()], 1)
                scores = self._by_domain(windows.flatten(0, 1))
                by_domain = [one.unflatten(0, (-1, len(rows.start))).mean(1) for one in scores]
        return torch.stack([one.amin(1) for one in by_domain], 1)

    def _power(self, waveform: torch.Tensor) -> torch.Tensor:
        """The power spectrum of waveforms, (batch, frames, bins) float32 (`asd.audio.power_spectrum`)."""
        n_fft, hop = self.logmel.n_fft, self.logmel.hop
        options = {"center": True, "pad_mode": "constant", "return_complex": True}
        parts = torch.view_as_real(torch.stft(waveform.double(), n_fft, hop, window=self.hann, **options))
        return (parts[..., 0].square() + parts[..., 1].square()).float().mT

    def _by_domain(
        self, logmel: torch.Tensor, magnitude: torch.Tensor | None = None, waveform: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """The scores of log-mels as the domains of each section, (rows, domains) float64.

        Magnitudes (rows, frames, mels) and waveforms are for spectra of these.
        """
        if self.spectrum:
            values = logmel.double() if self.spectrum.scale == "db" else magnitude.mT
            rows = self._pooled(values, waveform)
        elif self.fitted:
            rows = self.network.vectors(logmel)[:, self.columns].double()
        else:
            logits = self.network.section(self.network.embed(self.network.standardise(logmel)))
            own = (torch.full_like(logits[:, 0], one, dtype=torch.int64) for one in self.own)
            return [doubt(logits, one).double()[:, None] for one in own]
        return [self._distances(rows, number) for number in range(len(self.sections))]

    def _pooled(self, logmel: torch.Tensor, waveform: torch.Tensor | None) -> torch.Tensor:
        """The features of `asd.spectra.features`, (batch, poolings * mels), and the level at the end."""
        found = []
        for pool in (pool for pool in self.spectrum.pool if pool != "level"):
            if pool == "mean":
                found.append(logmel.mean(2))
            elif pool == "deviation":
                found.append((logmel - logmel.mean(2, keepdim=True)).square().mean(2).sqrt())
            else:
                descending = logmel.sort(2, descending=True).values
                for decay in self.spectrum.decays:
                    weights = torch.tensor([decay**rank for rank in range(logmel.shape[2])], dtype=torch.float64)
                    found.append(descending @ (weights / weights.sum()))
        if "level" in self.spectrum.pool:
            square = waveform.double().square().mean(1, keepdim=True)
            found.append(10 * torch.log10(square + 1e-10))
        return torch.cat(found, 1).float().double()  # as a features file keeps them

    def _distances(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The scores of rows as the domains of a section: the distances of `asd.gaussian.Gaussian`, (rows, domains)."""
        section = self.fitted[number]
        by_domain = []
        for mean, divisor in zip(getattr(self, f"means{number}"), section.divisor, strict=True):
            centred = (rows - mean) / getattr(self, f"scale{number}")
            form = (centred @ getattr(self, f"factor{number}").T).square().sum(1)
            if section.fitted.isotropic:
                form = section.fitted.isotropic * centred.square().sum(1) - form
            by_domain.append(form.clamp(min=0).sqrt() / float(divisor))
        return torch.stack(by_domain, 1)


def exportable(detector: Detector, source: Source = "logmel") -> Loaded:
    """Return the member of a detector that can be a graph.

    Args:
        detector: any.
        source: what the graph begins with.

    Raises:
        InputError: the detector cannot be a graph. Graphs exist for the detectors gaussian and exposure; not for
            fusions, networks of the waveform, quantiles, windows whose scores are not averaged, and, from the log-mel,
            poolings of the waveform.
    """
    title, members = detector.description.title, detector.members
    if len(members) > 1:
        names = ", ".join(loaded.member.model for loaded in members)
        raise InputError(f"{title}: a fusion of {names} is no single graph; export the detector of one of them")
    (loaded,) = members
    member, fitted = loaded.member, loaded.fitted
    reason = ""
    if member.detector not in ("gaussian", "exposure"):
        reason = f"detector {member.detector}; expected gaussian or exposure"
    elif loaded.network and loaded.network.hears != "logmel":
        reason = f"a network of the {loaded.network.hears}; expected one of log-mels"
    elif member.spectrum and "quantiles" in member.spectrum.pool:
        reason = "a spectrum of quantiles; expected mean, deviation, gwrp or level"
    elif member.spectrum and member.spectrum.needs_waveform and source == "logmel":
        pool = ", ".join(member.spectrum.pool)
        reason = f"a spectrum of {pool}, {member.spectrum.scale}, which needs the waveform; take --from waveform"
    elif fitted and member.windows.window:
        nearest = any(len(section.divisor) > 1 for section in fitted.sections.values())
        if fitted.settings.window_pooling.kind != "mean":
            reason = "windows whose scores are not averaged; expected window_pooling: mean"
        elif nearest and source == "logmel":
            reason = "windows with domains: nearest, of which all of a recording are needed; take --from waveform"
    if reason:
        raise InputError(f"{title}: cannot be a graph: found {reason}")
    return loaded


def export(detector: Detector, path: Path, source: Source = "logmel") -> dict[str, float]:
    """Write a detector as an ONNX graph, and check it against torch on noise, in several batch sizes.

    Args:
        detector: what to write.
        path: the graph.
        source: what the graph begins with.

    Returns:
        difference: the largest, relative to torch's score; latency and torch: median seconds of one row; megabytes: of
        the graph.

    Raises:
        InputError: the packages of the extra `onnx` are not installed.
        RuntimeError: the graph's scores are not torch's.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; install asd with the extra onnx: asd[onnx]") from None
    description = detector.description
    graph = Graph(detector, source).eval()
    (member,) = (loaded.member for loaded in detector.members)
    noise = _noise(graph, description.samples)
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with written(path) as aside:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = {"sound": {0: torch.export.Dim("batch")}}
            names = {"input_names": [source], "output_names": ["score"]}
            program = torch.onnx.export(graph, (noise[:2],), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        model = program.model_proto
        said = description.model_dump(mode="json") | {"windows": member.windows.model_dump()}
        onnx.helper.set_model_props(model, {key: json.dumps(said[key]) for key in sorted(said)})
        onnx.save(model, aside)
        session = onnxruntime.InferenceSession(aside, providers=["CPUExecutionProvider"])
        worst = 0.0
        for size in (1, 2, 5):
            with torch.inference_mode():
                expected = graph(noise[:size]).numpy()
            (found,) = session.run(None, {source: noise[:size].numpy()})
            worst = max(worst, float((np.abs(found - expected) / np.abs(expected).clip(1e-9)).max()))
            if not (np.isfinite(found).all() and np.isfinite(expected).all()):
                raise InputError(f"{path}: the detector's scores of noise are not finite; it is damaged: make it again")
        if worst > TOLERANCE:
            raise RuntimeError(f"{path}: the graph's scores differ from torch's by {worst:.1e}, more than {TOLERANCE}")
    with torch.inference_mode():
        slow = _median(lambda: graph(noise[:1]))
    return {
        "difference": worst,
        "latency": _median(lambda: session.run(None, {source: noise[:1].numpy()})),
        "torch": slow,
        "megabytes": path.stat().st_size / 1e6,
    }


def _noise(graph: Graph, samples: int) -> torch.Tensor:
    """Five clips of noise, as the graph takes them."""
    generator = torch.Generator().manual_seed(0)
    if graph.source == "waveform":
        return 0.1 * torch.randn(5, samples, generator=generator)
    frames = graph.windows.window or frame_count(samples, graph.logmel)
    noise = torch.randn(5, graph.logmel.mels, frames, generator=generator)
    mean, deviation = (graph.network.mean, graph.network.deviation) if graph.network else (-60.0, 10.0)
    return mean + deviation * noise


def _median(call, repeats: int = 15) -> float:
    """The median duration of a call, in seconds."""
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        durations.append(time.perf_counter() - begin)
    return float(np.median(durations))
