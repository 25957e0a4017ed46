"""A network that hears the waveform: spectrogram branches and a branch of the whole clip's spectrum.

The network of Fujimura et al. 2025 (asdkit, arXiv:2507.10264), after Wilkinghoff 2023 ("Design Choices for Learning
Embeddings from Auxiliary Tasks for Domain Generalization in Anomalous Sound Detection", ICASSP):

    waveform -> magnitude of the whole clip's spectrum -> convolutions, dense layers -> 128 values
    waveform -> magnitude spectrogram, from 200 Hz     -> residual network           -> 128 values, for each resolution
    side by side: the embedding -> classes, by a loss of cosines

It classifies machine, section, attributes and domain of the training clips, and begins with random weights. No layer
has a bias, and the batch norms have neither scale nor shift: a bias would make it possible to map all clips to one
point. Clips that are too short for the kernels of the spectrum branch (`SHORTEST`) are repeated for it.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint
from asd.corpus import attribute_label
from asd.device import memory
from asd.errors import InputError
from asd.loop import Epoch, Recipe, run, seeded, training_clips
from asd.losses import make_loss
from asd.network import class_name
from asd.settings import LogMel, Training
from asd.settings import Waveform as Settings
from asd.soundfiles import FULL_SCALE
from asd.streaming import Clips, read_clips

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

LOWEST = 200
"""Hz. The spectrograms begin with the first bin at this frequency or above."""

VALUES = 128
"""Values of a branch."""

KERNELS = ((256, 64), (64, 32), (16, 4))
"""Kernel and stride of the convolutions over the spectrum."""

SHORTEST = 70_014
"""Samples of a clip of which the last of `KERNELS` sees one value: 4.4 s at 16 kHz."""

BYTES_PER_SAMPLE = 120
"""Memory of a training step for each sample of its batch and each resolution, at least."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again, except for its tensors."""

    machine: str
    """The machine that it learns from, or `asd.network.ALL`."""
    rate: int
    """Sample rate in Hz."""
    samples: int
    """Samples of a clip; shorter ones are repeated, longer ones cut off."""
    resolutions: tuple[int, ...]
    """Samples of a window of each spectrogram."""
    labels: tuple[str, ...]
    """Classes, in order."""
    settings: str
    """The settings that the network was trained with, as flags."""
    kind: str = "waveform"
    """Its name in `asd.kinds`."""


class Network(nn.Module):
    """The branches. The centres of the classes belong to the loss, and scoring does not need them."""

    hears = "waveform"

    def __init__(self, description: Description) -> None:
        super().__init__()
        self.description = description
        self.spectrum = SpectrumBranch(max(description.samples, SHORTEST))
        self.spectrograms = nn.ModuleList(SpectrogramBranch(size, description.rate) for size in description.resolutions)
        self.widths = [VALUES * (1 + len(self.spectrograms))]
        """The number of values of the embedding."""

    def embed(self, waveform: Tensor) -> Tensor:
        """Return the embedding of waveforms (batch, samples) of full scale 1: (batch, `widths`) float32."""
        repeated = of_length(waveform, max(self.description.samples, SHORTEST))
        return torch.cat([self.spectrum(repeated), *(branch(waveform) for branch in self.spectrograms)], 1)

    def vectors(self, waveform: Tensor) -> Tensor:
        """Return the embedding of waveforms (batch, any number of samples) int16: (batch, `widths`) float32."""
        return self.embed(of_length(waveform, self.description.samples).float() / FULL_SCALE)

    def for_scoring(self) -> "Network":
        """Return the network itself."""
        return self


def of_length(waveform: Tensor, samples: int) -> Tensor:
    """Return waveforms (batch, any number of samples), repeated or cut off to a number of samples."""
    times = -(-samples // waveform.shape[1])
    return (waveform.repeat(1, times) if times > 1 else waveform)[:, :samples]


def pieces(length: int, samples: int) -> np.ndarray:
    """Return where pieces of a number of samples begin that cover a recording, (pieces,), the last one at its end."""
    starts = np.arange(0, max(length - samples, 0) + 1, samples)
    return starts if starts[-1] + samples >= length else np.append(starts, length - samples)


def of_recording(waveform: Tensor, samples: int) -> Tensor:
    """Return a recording (any number of samples,) as its `pieces`, (pieces, samples); a shorter one is repeated."""
    if len(waveform) < samples:
        return of_length(waveform[None], samples)
    return torch.stack([waveform[begin : begin + samples] for begin in pieces(len(waveform), samples)])


# --- the branches -------------------------------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """Weights of channels from their means (Hu et al. 2018), for inputs (batch, channels, …)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16, bias=False)
        self.excite = nn.Linear(channels // 16, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input times the weight of each channel."""
        weight = self.excite(self.squeeze(x.flatten(2).mean(2)).relu()).sigmoid()
        return x * weight.unflatten(1, (-1, *[1] * (x.dim() - 2)))


def dense(inputs: int) -> nn.Sequential:
    """A dense layer with batch norm and rectifier."""
    return nn.Sequential(nn.Linear(inputs, VALUES, bias=False), nn.BatchNorm1d(VALUES, affine=False), nn.ReLU())


class SpectrumBranch(nn.Module):
    """The branch of the whole clip's spectrum."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        length, layers, channels = samples // 2 + 1, [], 1
        for kernel, stride in KERNELS:
            layers += [nn.Conv1d(channels, VALUES, kernel, stride, bias=False), nn.ReLU(), SqueezeExcitation(VALUES)]
            length, channels = (length - kernel) // stride + 1, VALUES
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(dense(VALUES * length), *(dense(VALUES) for _ in range(4)))
        self.last = nn.Linear(VALUES, VALUES, bias=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the values (batch, 128) of waveforms (batch, samples)."""
        return self.last(self.dense(self.convolutions(torch.fft.rfft(waveform).abs()[:, None]).flatten(1)))


class Block(nn.Module):
    """A residual block: two convolutions and a squeeze-excitation beside a skip."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        strided = inputs != channels
        self.norm = nn.BatchNorm2d(inputs, affine=False)
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inputs, channels, 3, 1 + strided, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            SqueezeExcitation(channels),
        )
        skip = (nn.MaxPool2d(3, 2, 1), nn.Conv2d(inputs, channels, 1, bias=False)) if strided else ()
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels, height, width), half as high and wide if the channels change."""
        x = self.norm(x)
        return self.body(x) + self.skip(x)


class SpectrogramBranch(nn.Module):
    """The branch of a spectrogram of one resolution, with a hop of half a window."""

    def __init__(self, window: int, rate: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.first = math.ceil(LOWEST * window / rate)
        """The first bin."""
        bins = window // 2 + 1 - self.first
        self.norm = nn.BatchNorm1d(bins, affine=False)
        layers = [nn.Conv2d(1, 16, 7, 2, bias=False), nn.BatchNorm2d(16, affine=False), nn.ReLU(), nn.MaxPool2d(3, 2)]
        height, inputs = ((bins - 7) // 2 + 1 - 3) // 2 + 1, 16
        for channels in (16, 32, 64, 128):
            height = height if channels == inputs else (height + 1) // 2
            layers += [Block(inputs, channels), Block(channels, channels)]
            inputs = channels
        self.layers = nn.Sequential(*layers)
        self.last = nn.Sequential(
            nn.BatchNorm1d(VALUES * height, affine=False), nn.Linear(VALUES * height, VALUES, bias=False)
        )

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Return magnitudes (batch, bins, frames) of waveforms (batch, samples)."""
        size = len(self.window)
        found = torch.stft(
            waveform, size, size // 2, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return found[:, self.first :].abs() / self.window.square().sum().sqrt()

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the values (batch, 128) of waveforms (batch, samples)."""
        x = self.layers(self.norm(self.spectrogram(waveform))[:, None])
        return self.last(x.amax(3).flatten(1))


# --- training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a network, on the device or streamed."""

    waveform: Clips
    """(clips, samples) int16."""
    label: Tensor
    """(clips,), index into the labels."""


def labels_of(clips: "pd.DataFrame", scope: str) -> list[str]:
    """Return the label of each clip: section, attributes and domain, and in a network of all machines the machine.

    Args:
        clips: the manifest's columns, one row per clip.
        scope: the machine, or `asd.network.ALL`.
    """
    found = []
    for machine, section, attributes, domain in zip(
        *(clips[column] for column in ("machine", "section", "attributes", "domain")), strict=True
    ):
        own = " ".join(part for part in (section, attribute_label(attributes), domain) if part)
        found.append(class_name(scope, machine, own))
    return found


def prepared(
    start: None, cache: Cache | Joined, settings: Training, path: Path | None, device: torch.device
) -> tuple[Network, TrainingSet]:
    """Return the network that training starts with, with random weights, and its training set, both on the device.

    The batch norms have the statistics of the training clips, so that the network can also be used as it is.

    Args:
        start: None.
        cache: an open log-mel cache, or with scope `all` those of all machines. It stays open during the training.
        settings: of the training.
        path: None.
        device: where the network computes.

    Raises:
        InputError: there are no training clips, a single one, or clips too long for this machine's memory.
    """
    clips, machine = training_clips(cache, settings.scope)
    if len(clips) < 2:  # a single clip has no variance, which the batch norms need
        raise InputError(f"{cache.path}: found a single training clip; this network needs two normal recordings")
    own, samples = settings.waveform, cache.samples
    if samples < SHORTEST:
        seconds, enough = (count / cache.settings.rate for count in (samples, SHORTEST))
        log.info("for the spectrum, clips of %.2f s are repeated to %.2f s, which its kernels need", seconds, enough)
    needed = BYTES_PER_SAMPLE * min(own.batch, len(clips)) * samples * len(own.resolutions)
    if settings.learns and needed > (available := memory(device)):
        raise InputError(
            f"training would take some {needed / 1e9:.0f} GB for a batch of {min(own.batch, len(clips))} clips of "
            f"{samples / cache.settings.rate:.0f} s; this machine has {available / 1e9:.0f} GB. Cut long recordings "
            "into clips of ten seconds, or lower waveform.batch"
        )
    of_clips = labels_of(clips, machine)
    labels = tuple(sorted(set(of_clips)))
    description = Description(
        machine=machine,
        rate=cache.settings.rate,
        samples=samples,
        resolutions=tuple(own.resolutions),
        labels=labels,
        settings=settings.flags,
    )
    network = seeded(lambda: Network(description), settings.seed, device)
    index = {label: number for number, label in enumerate(labels)}
    data = TrainingSet(
        read_clips([(cache.read_waveform, device)], clips.index.to_numpy())[0],
        torch.tensor([index[label] for label in of_clips], device=device),
    )
    measure(network, data)
    return network, data


@torch.no_grad()
def measure(network: Network, data: TrainingSet) -> None:
    """Set the statistics of a network's batch norms to the means over batches of the training clips."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    momentum = [layer.momentum for layer in norms]
    network.train()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's word for the mean over all batches
    # In parts of similar size: a single clip would have no variance.
    for rows in torch.arange(len(data.waveform)).tensor_split(-(-len(data.waveform) // 16)):
        network.embed(data.waveform[rows].float() / FULL_SCALE)
    for layer, before in zip(norms, momentum, strict=True):
        layer.momentum = before
    network.eval()


class Classifier(nn.Module):
    """What learns: the network and the centres of its classes."""

    def __init__(self, network: Network, settings: Training) -> None:
        super().__init__()
        self.network, self.description = network, network.description
        own, width, classes = settings.waveform, network.widths[0], len(network.description.labels)
        device = next(network.parameters()).device
        self.loss = seeded(lambda: make_loss(width, classes, own.loss), settings.seed, device)
        self.exchanged = None
        """The loss of embeddings with exchanged values, whose centres always learn; None without it."""
        if own.exchange:
            learning = own.loss.model_copy(update={"trainable": True})
            self.exchanged = seeded(lambda: make_loss(width, 3 * classes, learning), settings.seed + 1, device)

    def exchange(
        self, embedding: Tensor, first: Tensor, second: Tensor, weight: Tensor, draw: Tensor, partner: Tensor
    ) -> Tensor:
        """Return the loss of embeddings of which some have the values of a partner's spectrogram branches, (batch,).

        FeatEx: Wilkinghoff 2024, "Self-Supervised Learning for Anomalous Sound Detection", ICASSP. There are three
        classes for each one: of clips as they are, of the clip whose spectrum was kept, and of the clip whose
        spectrograms were taken, which share the label in halves.

        Args:
            embedding: (batch, features), the spectrum's values first.
            first: (batch,) labels of the clips, int64.
            second: (batch,) labels of those that they were mixed with, int64.
            weight: (batch,) weight of the first, from 0 to 1.
            draw: (batch,) bool, whose values are exchanged.
            partner: (batch,) int64, the clip whose values are taken.
        """
        classes = len(self.description.labels)
        of_spectrogram = torch.arange(embedding.shape[1], device=embedding.device) >= VALUES
        taken = torch.where(draw[:, None] & of_spectrogram, embedding[partner], embedding)
        kept, _ = self.exchanged(taken, first + classes * draw, second + classes * draw, weight)
        first, second, weight = (torch.where(draw, one[partner], one) for one in (first, second, weight))
        other, _ = self.exchanged(taken, first + 2 * classes * draw, second + 2 * classes * draw, weight)
        return (kept + other) / 2


def train(
    network: Network,
    data: TrainingSet,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a network in place and return its curve, one row per epoch; the accuracy is in the section's column.

    Args:
        network: as `prepared` returns it.
        data: the training set, on the same device.
        settings: of the training.
        logmel: not used.
        report: as `asd.loop.run` takes it.
        checkpoint: to continue from and to keep up to date; None for none.

    Raises:
        Stopped, InputError: as `asd.loop.run` raises them.
    """
    if len(network.description.labels) < 2:
        log.warning(
            "machine %s: one section, attribute and domain only, so there is nothing to tell apart: the network is "
            "used with random weights",
            network.description.machine,
        )
        return []
    classifier = Classifier(network, settings).train()
    return run(classifier, recipe(classifier, data, settings.waveform, settings.seed), report, checkpoint)


def recipe(classifier: Classifier, data: TrainingSet, settings: Settings, seed: int) -> Recipe:
    """Return how a network learns.

    Args:
        classifier: the network, as `prepared` returns it, with its loss.
        data: the training set, on the same device.
        settings: of the training.
        seed: of the order of the clips, and of the mixup.
    """
    batch, epochs = settings.plan(clips := len(data.waveform))
    learning = [parameter for parameter in classifier.parameters() if parameter.requires_grad]

    def step(rows: Tensor, random: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        x, label = data.waveform[rows].float() / FULL_SCALE, data.label[rows]
        mixed, weight = torch.rand(2, len(rows), generator=random).to(x.device)
        weight = torch.where(mixed < settings.mixup, weight, 1.0)
        partner = torch.randperm(len(rows), generator=random).to(x.device)
        x = weight[:, None] * x + (1 - weight[:, None]) * x[partner]
        embedding, labels = classifier.network.embed(x), (label, label[partner], weight)
        loss, logits = classifier.loss(embedding, *labels)
        if classifier.exchanged is not None:
            draw = torch.rand(len(rows), generator=random) < settings.exchange
            other = torch.randperm(len(rows), generator=random)
            loss = loss + classifier.exchange(embedding, *labels, draw.to(x.device), other.to(x.device))
        dominant = torch.where(weight >= 0.5, label, label[partner])
        correct = (logits.argmax(1) == dominant).float().mean()
        return loss.mean(), [correct, torch.full_like(correct, math.nan)]

    return Recipe(
        examples=clips,
        batch=batch,
        epochs=epochs,
        seed=seed,
        optimiser=torch.optim.AdamW(learning, settings.rate, fused=data.waveform.device.type == "cuda"),
        rate=lambda step, steps: settings.rate,
        step=step,
        scales=lambda: (float(classifier.loss.scale), math.nan),
    )
