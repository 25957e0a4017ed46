"""What the hardware allows: rates measured on the spot, and how long a job must take at least by them.

A limit is the larger of two times: the job's operations divided by the arithmetic rate, and its bytes divided by the
bandwidth of memory or disk. Networks are summed layer by layer, each with the larger of its two times: a layer reads
its input and its weights and writes its output once, and the rest (norms, activations, pooling) costs nothing. Training
is three times that, for the gradients of inputs and of weights. No program can be much faster by the same method; other
methods (a coarser number format, windows that share work) can.
"""

import math
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path


def best(work: Callable[[], object], seconds: float = 0.5) -> float:
    """The shortest duration of a call, which is repeated for some seconds."""
    shortest, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end or shortest == math.inf:
        begin = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest


def rates(folder: Path, device: str = "cpu", seconds: float = 0.5) -> dict[str, float]:
    """Return operations per second in float32, float64, bfloat16 (matrix products), bytes per second of memory and
    disk.

    Each is the best of some seconds, with as many threads as torch has. A multiplication and an addition are two
    operations; memory is read twice and written once; the disk is written and synchronised, and read from the system's
    cache.
    """
    import torch

    size, found = 2048 if device == "cpu" else 8192, {}

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    for name in ("float32", "float64", "bfloat16"):
        a, b = (torch.randn(size, size, device=device).to(getattr(torch, name)) for _ in range(2))
        out = a @ b
        found[name] = 2 * size**3 / best(lambda a=a, b=b, out=out: (torch.mm(a, b, out=out), wait()), seconds)
    a, b = (torch.ones(2**26, device=device) for _ in range(2))
    out = a + b
    found["memory"] = 3 * 4 * len(a) / best(lambda: (torch.add(a, b, out=out), wait()), seconds)
    if device == "cpu":
        block, file = os.urandom(2**26), folder / "disk"

        def write() -> None:
            with file.open("wb") as out:
                out.write(block)
                out.flush()
                os.fsync(out.fileno())

        found["write"] = len(block) / best(write, 2 * seconds)
        found["read"] = len(block) / best(file.read_bytes, seconds)
        file.unlink()
    return found


@cache
def layers(frames: int, batch: int) -> list[tuple[float, float, float]]:
    """The convolutions of EfficientNet-B1 on a batch of (224, frames): operations, values read and written, weights."""
    import timm
    import torch

    net = timm.create_model("efficientnet_b1", num_classes=0, in_chans=1).eval()
    return counted(net, torch.zeros(1, 1, 224, frames), batch)


@cache
def waveform_layers(samples: int, batch: int) -> list[tuple[float, float, float]]:
    """The convolutions and dense layers of the network of the waveform, as of `layers`; its transforms cost nothing."""
    import torch

    from asd.waveform import Description, Network

    net = Network(Description("fan", 16000, samples, (1024,), ("a", "b"), "")).eval()
    return counted(net, torch.zeros(1, samples), batch)


def counted(net, x, batch: int) -> list[tuple[float, float, float]]:
    """Operations, values read and written, and weights of the layers of a network on a batch of inputs such as `x`."""
    import torch

    found = []

    def note(module, inputs, output) -> None:
        operations = 2 * output.numel() * module.weight[0].numel()
        found.append((operations * batch, (inputs[0].numel() + output.numel()) * batch, module.weight.numel()))

    for module in net.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        getattr(net, "embed", net)(x)
    return found


def network(rate: dict[str, float], frames: int, batch: int, passes: int = 1, kind: str = "float32") -> float:
    """The least seconds of a batch through B1; passes: 1 forwards, 3 with both gradients."""
    return passes * _through(rate, layers(frames, batch), kind)


def waveform(rate: dict[str, float], samples: int, batch: int, passes: int = 1) -> float:
    """The least seconds of a batch through the network of the waveform; passes as of `network`."""
    return passes * _through(rate, waveform_layers(samples, batch), "float32")


def _through(rate: dict[str, float], through: list[tuple[float, float, float]], kind: str) -> float:
    width = {"float32": 4, "bfloat16": 2}[kind]
    return sum(
        max(operations / rate[kind], width * (values + weights) / rate["memory"])
        for operations, values, weights in through
    )


def log_mel(rate: dict[str, float], clips: int, samples: int = 160000, disk: bool = True) -> float:
    """The least seconds of log-mels: per frame a real FFT of 1024 points (2.5 N log2 N operations), its power (3 per
    bin), the mel product (two filters per bin) and a logarithm (about 20). A clip's samples and log-mels are written to
    the disk or, if `disk` is False, samples are read from memory and log-mels are written there."""
    frames = 1 + samples // 512
    operations = frames * (2.5 * 1024 * 10 + 3 * 513 + 4 * 513 + 20 * 224 + 1024)
    size = 2 * samples + 4 * 224 * frames
    written = size / rate["write"] + 2 * samples / rate["read"] if disk else size / rate["memory"]
    return clips * max(operations / rate["float32"], written)


def gaussian(rate: dict[str, float], rows: int, features: int, new: int, disk: bool = False) -> float:
    """The least seconds of a fit and `new` distances in float64: a symmetric product over the longer side, a Cholesky
    factor and a triangular solution over the shorter one, one product per distance. `disk`: rows are read from a
    file."""
    small = min(rows, features)
    operations = rows * features * small + small**3 / 3 + small * small * (features if rows < features else small / 3)
    operations += 2 * new * small * features
    return max(operations / rate["float64"], disk * 4 * rows * features / rate["read"])


def bootstrap(rate: dict[str, float], sections: int, clips: int, resamples: int) -> float:
    """The least seconds of resampled figures: one weight per clip is drawn, read and summed up for nine curves and six
    counts, with eight operations each; the weights (float64) are moved through memory once."""
    weights = sections * clips * resamples
    return max(15 * 8 * weights / rate["float64"], 8 * weights / rate["memory"])
