"""A detector as one ONNX graph: from the log-mel to the score.

    logmel  (batch, mels, frames) float32, in dB; frames of the network's window, or of the clips that it sees whole
    score   (batch, sections) float64, the score as each of the sections; a recording's is the mean over its windows

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

from asd import audio
from asd.detector import Detector
from asd.errors import InputError
from asd.exposure import doubt
from asd.files import written

TOLERANCE = 1e-4
"""How far, relative to torch's score, that of the graph may be."""


class Graph(nn.Module):
    """A detector as one module: (batch, mels, frames) -> (batch, sections)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        description = detector.description
        self.network = detector.network
        self.sections = description.sections
        self.gaussians = detector.gaussians.gaussians if detector.gaussians else None
        if self.gaussians:
            self.register_buffer("columns", torch.from_numpy(detector.columns))
            for number, section in enumerate(self.sections):
                self.register_buffer(f"mean{number}", torch.from_numpy(self.gaussians[section].mean))
                self.register_buffer(f"factor{number}", torch.from_numpy(self.gaussians[section].factor))
        else:
            known = self.network.description
            labels = [known.section_label(description.machine, section) for section in self.sections]
            self.own = [known.section_labels.index(label) for label in labels]

    def forward(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return the scores of log-mels as each section."""
        standardised = self.network.standardise(logmel)
        if self.gaussians:
            rows = self.network.features(standardised)[:, self.columns].double()
            scores = [self._distance(rows, number) for number in range(len(self.sections))]
        else:
            logits = self.network.section(self.network.embed(standardised))
            scores = [doubt(logits, torch.full_like(logits[:, 0], own, dtype=torch.int64)).double() for own in self.own]
        return torch.stack(scores, 1)

    def _distance(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The Mahalanobis distance, as `asd.gaussian.Gaussian.distance` has it, in double precision."""
        centred = rows - getattr(self, f"mean{number}")
        form = (centred @ getattr(self, f"factor{number}").T).square().sum(1)
        isotropic = self.gaussians[self.sections[number]].isotropic
        if isotropic:
            form = isotropic * centred.square().sum(1) - form
        return form.clamp(min=0).sqrt()


def export(detector: Detector, path: Path) -> dict[str, float]:
    """Write a detector as an ONNX graph, and check it against torch on log-mels of noise, in several batch sizes.

    Returns:
        difference: the largest, relative to torch's score; latency and torch: median seconds of one row.

    Raises:
        InputError: the packages of the extra `onnx` are not there.
        RuntimeError: the graph's scores are not torch's.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; install asd with the extra onnx: asd[onnx]") from None
    description = detector.description
    frames = description.windows.window or audio.frames(description.samples, description.logmel)
    graph = Graph(detector).eval()
    generator = torch.Generator().manual_seed(0)
    noise = detector.network.mean + detector.network.deviation * torch.randn(
        5, description.logmel.mels, frames, generator=generator
    )
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with written(path) as aside:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = {"logmel": {0: torch.export.Dim("batch")}}
            names = {"input_names": ["logmel"], "output_names": ["score"]}
            program = torch.onnx.export(graph, (noise[:2],), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        model = program.model_proto
        said = description.model_dump(mode="json")
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
