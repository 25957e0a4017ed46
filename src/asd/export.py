"""A detector as one ONNX graph: from the log-mel to the score.

    logmel  (batch, mels, frames) float32, in dB; as many frames as the network's window or, without windows, a clip has
    score   (batch, sections) float64, the score for each section; the score of a recording is the mean over its windows

The batch is dynamic. What else scoring needs is in the graph's metadata: sections, threshold, and the settings of the
log-mel and the windows, as JSON texts.
"""

import json
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from asd.detector import Detector, Loaded
from asd.errors import InputError
from asd.exposure import doubt
from asd.files import written
from asd.mel import frames as frame_count

TOLERANCE = 1e-4
"""Largest difference between the graph's score and torch's, relative to torch's."""


class Graph(nn.Module):
    """A detector as one module: (batch, mels, frames) -> (batch, sections).

    Raises:
        InputError: the detector's score is not the mean of the graph's scores over windows (see `exportable`).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        loaded = exportable(detector)
        self.network, self.spectrum = loaded.network, loaded.member.spectrum
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

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return the scores of log-mels (batch, mels, frames) as each section: (batch, sections) float64."""
        if self.spectrum:
            rows = self._pooled(logmel.double())
            scores = [self._distance(rows, number) for number in range(len(self.sections))]
        elif self.fitted:
            rows = self.network.vectors(logmel)[:, self.columns].double()
            scores = [self._distance(rows, number) for number in range(len(self.sections))]
        else:
            logits = self.network.section(self.network.embed(self.network.standardise(logmel)))
            scores = [doubt(logits, torch.full_like(logits[:, 0], own, dtype=torch.int64)).double() for own in self.own]
        return torch.stack(scores, 1)

    def _pooled(self, logmel: torch.Tensor) -> torch.Tensor:
        """The poolings of `asd.spectra.pooled`, (batch, poolings * mels)."""
        found = []
        for pool in self.spectrum.pool:
            if pool == "mean":
                found.append(logmel.mean(2))
            elif pool == "deviation":
                found.append((logmel - logmel.mean(2, keepdim=True)).square().mean(2).sqrt())
            else:
                descending = logmel.sort(2, descending=True).values
                for decay in self.spectrum.decays:
                    weights = torch.tensor([decay**rank for rank in range(logmel.shape[2])], dtype=torch.float64)
                    found.append(descending @ (weights / weights.sum()))
        return torch.cat(found, 1)

    def _distance(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The score of rows as a section: the distance of `asd.gaussian.Gaussian`, of the nearest domain."""
        section = self.fitted[number]
        by_domain = []
        for mean, divisor in zip(getattr(self, f"means{number}"), section.divisor, strict=True):
            centred = (rows - mean) / getattr(self, f"scale{number}")
            form = (centred @ getattr(self, f"factor{number}").T).square().sum(1)
            if section.fitted.isotropic:
                form = section.fitted.isotropic * centred.square().sum(1) - form
            by_domain.append(form.clamp(min=0).sqrt() / float(divisor))
        return torch.stack(by_domain, 1).amin(1)


def exportable(detector: Detector) -> Loaded:
    """Return the member of a detector that can be a graph.

    Raises:
        InputError: the detector cannot be a graph. Graphs exist for the detectors gaussian and exposure; not for
            fusions, networks and poolings that need the waveform, quantiles, and windows whose scores are not averaged.
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
    elif member.spectrum and (member.spectrum.needs_waveform or "quantiles" in member.spectrum.pool):
        pool = ", ".join(member.spectrum.pool)
        reason = f"a spectrum of {pool}, {member.spectrum.scale}; expected mean, deviation or gwrp of db"
    elif loaded.network and loaded.network.hears == "waveform":
        reason = "a network of the waveform; expected one of log-mels"
    elif fitted and member.windows.window:
        nearest = any(len(section.divisor) > 1 for section in fitted.sections.values())
        if nearest or fitted.settings.window_pooling.kind != "mean":
            reason = "windows whose scores are not averaged; expected domains: pooled and window_pooling: mean"
    if reason:
        raise InputError(f"{title}: cannot be a graph: found {reason}")
    return loaded


def export(detector: Detector, path: Path) -> dict[str, float]:
    """Write a detector as an ONNX graph, and check it against torch on log-mels of noise, in several batch sizes.

    Returns:
        difference: the largest, relative to torch's score; latency and torch: median seconds of one row.

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
    graph = Graph(detector).eval()
    (member,) = (loaded.member for loaded in detector.members)
    frames = member.windows.window or frame_count(description.samples, description.logmel)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, description.logmel.mels, frames, generator=generator)
    mean, deviation = (graph.network.mean, graph.network.deviation) if graph.network else (-60.0, 10.0)
    noise = mean + deviation * noise
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with written(path) as aside:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = {"logmel": {0: torch.export.Dim("batch")}}
            names = {"input_names": ["logmel"], "output_names": ["score"]}
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
            (found,) = session.run(None, {"logmel": noise[:size].numpy()})
            worst = max(worst, float((np.abs(found - expected) / np.abs(expected).clip(1e-9)).max()))
            if not (np.isfinite(found).all() and np.isfinite(expected).all()):
                raise InputError(f"{path}: the detector's scores of noise are not finite; it is damaged: make it again")
        if worst > TOLERANCE:
            raise RuntimeError(f"{path}: the graph's scores differ from torch's by {worst:.1e}, more than {TOLERANCE}")
    with torch.inference_mode():
        slow = _median(lambda: graph(noise[:1]))
    return {
        "difference": worst,
        "latency": _median(lambda: session.run(None, {"logmel": noise[:1].numpy()})),
        "torch": slow,
    }


def _median(call, repeats: int = 15) -> float:
    """The median duration of a call, in seconds."""
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        durations.append(time.perf_counter() - begin)
    return float(np.median(durations))
