"""The autoencoder of the challenge's official baselines, and its scores.

    five frames of the log-mel, side by side -> 128 four times -> 8 -> 128 four times -> the five frames

A dense layer has batch norm and rectifier after it, except for the last one. The features of a clip are three scores,
as three stages of one value each. With the residuals δ of its frames (what is put in minus what comes out):

    1  the mean of δ², over all: the baseline of 2020 to 2022, and the first one of 2023 to 2026
    2  selective Mahalanobis as the code of 2023 to 2026 computes it: d'Σ⁻¹d with d the mean of δ over the clip, for the
       Σ of the source's and of the target's training clips, of which the smaller one counts. Each Σ is the sum over
       single frames, about the mean of each batch, divided by the number of inputs of five frames minus 1
    3  with the covariances Σ of the frames about their mean over all, and a clip's mean over its frames of δ'Σ⁻¹δ, the
       smaller one of the two domains

Koizumi et al. 2020, arXiv:2006.05822; Harada et al. 2023, arXiv:2303.00455. The data are learned from by which the
covariances are estimated, so the scores of training clips are lower than those of new ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint
from asd.errors import InputError
from asd.loop import Epoch, Recipe, run, seeded, training_clips
from asd.settings import LogMel, Training

CONTEXT = 5
"""Frames that are put in together."""

HIDDEN, CODE = 128, 8
"""Values of a layer, and of the one in the middle."""

VALIDATION = 0.1
"""Share of the inputs that the baselines leave out of the training, to watch the loss on them."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again, except for its tensors."""

    machine: str
    """The machine that it learns from, or `asd.network.ALL`."""
    mels: int
    """Mel bins of the log-mels."""
    domains: int
    """2 if there are training clips of the source and of the target domain, else 1."""
    settings: str
    """The settings that the network was trained with, as flags."""
    kind: str = "autoencoder"
    """Its name in `asd.kinds`."""


class Network(nn.Module):
    """The autoencoder with the inverse covariances of its residuals."""

    hears = "logmel"

    def __init__(self, description: Description) -> None:
        super().__init__()
        self.description = description
        size = CONTEXT * description.mels
        sizes = [size, *[HIDDEN] * 4, CODE, *[HIDDEN] * 4]
        layers = [part for pair in pairwise(sizes) for part in dense(*pair)]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN, size))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):  # as Keras begins
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        shape = (description.domains, description.mels, description.mels)
        self.register_buffer("as_coded", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("precision", torch.zeros(shape, dtype=torch.float64))
        self.widths = [1, 1, 1]
        """The numbers of values of the stages."""

    def residuals(self, inputs: Tensor) -> Tensor:
        """Return what is put in minus what comes out, of inputs (n, 5 · mels), the same shape."""
        return inputs - self.layers(inputs)

    def vectors(self, logmel: Tensor) -> Tensor:
        """Return the scores of log-mels (batch, mels, frames) in dB: (batch, 3) float32."""
        inputs = in_context(logmel)
        residuals = self.residuals(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        frames = residuals.double().unflatten(2, (CONTEXT, -1)).flatten(1, 2)  # (batch, all frames, mels)
        mean = frames.mean(1)
        coded = torch.einsum("bi,dij,bj->bd", mean, self.as_coded, mean)
        proper = torch.stack([((frames @ one) * frames).sum(2).mean(1) for one in self.precision], 1)
        scores = [frames.square().mean((1, 2)), coded.amin(1), proper.amin(1)]
        return torch.stack(scores, 1).float()

    def for_scoring(self) -> "Network":
        """Return the network itself."""
        return self


def dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Return a dense layer with batch norm and rectifier, with the numbers of the baselines."""
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01), nn.ReLU()


def in_context(logmel: Tensor) -> Tensor:
    """Return each five frames in a row of log-mels (batch, mels, frames), frame by frame: (batch, inputs, 5 · mels)."""
    return logmel.unfold(2, CONTEXT, 1).permute(0, 2, 3, 1).flatten(2)


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a network, on the device."""

    spectrograms: Tensor
    """(clips, mels, frames) float32, in dB."""
    target: Tensor
    """(clips,) bool, whether a clip is of the target domain."""
    kept: Tensor
    """(inputs,) int64, what is learned from: the number of a clip times the inputs of a clip, plus that of an input."""

    def inputs(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs (n, 5 · mels), chosen by their numbers (n,), and the clip (n,) of each."""
        each = self.spectrograms.shape[2] - CONTEXT + 1
        clip, start = chosen // each, chosen % each
        frames = self.spectrograms.unfold(2, CONTEXT, 1)[clip, :, start]  # (n, mels, 5)
        return frames.transpose(1, 2).flatten(1), clip


def prepared(
    start: None, cache: Cache | Joined, settings: Training, path: Path | None, device: torch.device
) -> tuple[Network, TrainingSet]:
    """Return the network that training starts with, with random weights, and its training set, both on the device.

    Args:
        start: None.
        cache: an open log-mel cache, or with scope `all` those of all machines.
        settings: of the training.
        path: None.
        device: where the network computes.

    Raises:
        InputError: there are no training clips, or they are too short.
    """
    clips, machine = training_clips(cache, settings.scope)
    spectrograms = torch.from_numpy(cache.read_logmel(clips.index.to_numpy())).to(device)
    each = spectrograms.shape[2] - CONTEXT + 1
    if each < 1:
        raise InputError(f"{cache.path}: found clips of {spectrograms.shape[2]} frames; an autoencoder needs {CONTEXT}")
    target = (clips["domain"] == "target").to_numpy()
    description = Description(
        machine=machine,
        mels=cache.settings.mels,
        domains=len(np.unique(target)),
        settings=settings.flags,
    )
    count = len(clips) * each
    kept = torch.arange(count)
    if settings.autoencoder.validation == "random":
        kept = torch.randperm(count, generator=torch.Generator().manual_seed(settings.seed))
    kept = kept[: count - int(VALIDATION * count)]
    network = seeded(lambda: Network(description), settings.seed, device)
    return network, TrainingSet(spectrograms, torch.tensor(target, device=device), kept.to(device))


def train(
    network: Network,
    data: TrainingSet,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a network in place, measure the covariances of its residuals, and return its curve, one row per epoch.

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
    curve = run(network.train(), recipe(network, data, settings), report, checkpoint)
    measure(network, data, settings.autoencoder.batch, torch.Generator().manual_seed(settings.seed))
    return curve


def recipe(network: Network, data: TrainingSet, settings: Training) -> Recipe:
    """Return how a network learns: by the mean squared error, with Adam at a constant rate.

    Args:
        network: as `prepared` returns it.
        data: the training set, on the same device.
        settings: of the training.
    """
    own = settings.autoencoder

    def step(rows: Tensor, random: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        loss = network.residuals(data.inputs(data.kept[rows])[0]).square().mean()
        nothing = torch.full_like(loss, math.nan, requires_grad=False)
        return loss, [nothing, nothing]

    return Recipe(
        examples=len(data.kept),
        batch=min(own.batch, len(data.kept)),
        epochs=own.epochs,
        seed=settings.seed,
        optimiser=torch.optim.Adam(network.parameters(), own.rate),
        rate=lambda step, steps: own.rate,
        step=step,
    )


@torch.no_grad()
def measure(network: Network, data: TrainingSet, batch: int, random: torch.Generator) -> None:
    """Set the inverse covariances of a network's residuals, of what it learned from, in evaluation mode.

    Args:
        network: trained; its buffers are set.
        data: the training set.
        batch: inputs per batch, about whose mean `as_coded` is.
        random: draws the order of the inputs.
    """
    network.eval()
    order = data.kept[torch.randperm(len(data.kept), generator=random).to(data.kept.device)]
    domains = [data.target == one for one in ((False, True) if network.description.domains == 2 else (data.target[0],))]
    for number, of_domain in enumerate(domains):
        mels = network.description.mels
        coded, square = torch.zeros(2, mels, mels, dtype=torch.float64, device=order.device)
        total, inputs = torch.zeros(mels, dtype=torch.float64, device=order.device), 0
        for part in order.split(batch):
            rows, clip = data.inputs(part)
            rows = network.residuals(rows)[of_domain[clip]].double()
            frames = rows.unflatten(1, (CONTEXT, -1)).flatten(0, 1)
            if not len(frames):
                continue
            centred = frames - frames.mean(0)
            coded += centred.T @ centred
            square += frames.T @ frames
            total += frames.sum(0)
            inputs += len(rows)
        count = max(CONTEXT * inputs, 2)
        covariance = (square - torch.outer(total, total) / count) / (count - 1)
        network.as_coded[number] = torch.linalg.pinv(coded / max(inputs - 1, 1), hermitian=True)
        network.precision[number] = torch.linalg.pinv(covariance, hermitian=True)
