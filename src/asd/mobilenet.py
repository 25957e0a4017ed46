"""MobileNetV2 of half width as a classifier of sections: the second official baseline of 2021 and 2022.

    64 frames of the log-mel, in three equal channels -> MobileNetV2 -> 1280 values: the features -> sections

It learns from random weights by the cross-entropy. With the detector `exposure` its score is the baseline's: log(1 - p)
- log(p), p the probability of the clip's own section, averaged over windows. The architecture is timm's, which pads
both sides alike where Keras pads the end.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint
from asd.features import cut
from asd.loop import Epoch, Recipe, run, seeded, training_clips
from asd.network import class_name, fold
from asd.settings import LogMel, Training, Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again, except for its tensors."""

    machine: str
    """The machine that it learns from, or `asd.network.ALL`."""
    section_labels: tuple[str, ...]
    """Classes, in order."""
    settings: str
    """The settings that the network was trained with, as flags."""
    momentum: float
    """Share of a batch in the running statistics of the batch norms."""
    kind: str = "mobilenet"
    """Its name in `asd.kinds`."""

    def section_label(self, machine: str, section: str) -> str:
        """Return the class of a clip, as `asd.network.class_name` does."""
        return class_name(self.machine, machine, section)


class Network(nn.Module):
    """The network; with a single section it has no classifier."""

    hears = "logmel"
    attribute = None

    def __init__(self, description: Description) -> None:
        super().__init__()
        import timm

        self.description = description
        norms = {"bn_eps": 1e-3, "bn_momentum": description.momentum}
        self.backbone = timm.create_model("mobilenetv2_050", pretrained=False, num_classes=0, **norms)
        self.widths = [self.backbone.num_features]
        """The number of features."""
        labels = len(description.section_labels)
        self.section = nn.Linear(self.widths[0], labels) if labels > 1 else None

    def standardise(self, logmel: Tensor) -> Tensor:
        """Return log-mels (batch, mels, frames) as they are: the baseline does not standardise."""
        return logmel

    def embed(self, logmel: Tensor) -> Tensor:
        """Return the features of log-mels (batch, mels, frames) in dB: (batch, 1280) float32."""
        return self.backbone(logmel.transpose(1, 2)[:, None].expand(-1, 3, -1, -1))

    vectors = embed

    def for_scoring(self) -> "Network":
        """Return the network with its batch norms folded, in place."""
        return fold(self)


@dataclass(frozen=True)
class TrainingSet:
    """The training windows of a network, on the device."""

    spectrograms: Tensor
    """(clips, mels, frames) float32, in dB."""
    clip: Tensor
    """(windows,), the clip of each."""
    start: Tensor
    """(windows,), its first frame."""
    section: Tensor
    """(clips,), index into the section labels."""


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
        InputError: there are no training clips, or they are shorter than a window.
    """
    clips, machine = training_clips(cache, settings.scope)
    labels = [class_name(machine, *one) for one in zip(clips["machine"], clips["section"], strict=True)]
    own = settings.mobilenet
    windows = cut(np.ones(len(clips), bool), cache.frames, Windows(window=own.window, hop=own.hop))
    description = Description(machine, tuple(sorted(set(labels))), settings.flags, own.momentum)
    network = seeded(lambda: Network(description), settings.seed, device)
    index = {label: number for number, label in enumerate(description.section_labels)}
    data = TrainingSet(
        torch.from_numpy(cache.read_logmel(clips.index.to_numpy())).to(device),
        torch.from_numpy(windows.clip).to(device),
        torch.from_numpy(windows.start).to(device),
        torch.tensor([index[label] for label in labels], device=device),
    )
    return network, data


def train(
    network: Network,
    data: TrainingSet,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a network in place and return its curve, one row per epoch.

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
    if network.section is None:
        machine = network.description.machine
        log.warning("machine %s: a single section, so there is nothing to tell apart: the weights stay random", machine)
        return []
    return run(network.train(), recipe(network, data, settings), report, checkpoint)


def recipe(network: Network, data: TrainingSet, settings: Training) -> Recipe:
    """Return how a network learns: by the cross-entropy of sections, with Adam at a constant rate.

    Args:
        network: as `prepared` returns it.
        data: the training set, on the same device.
        settings: of the training.
    """
    own = settings.mobilenet

    def step(rows: Tensor, random: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        clip = data.clip[rows]
        windows = data.spectrograms.unfold(2, own.window, 1)[clip, :, data.start[rows]]
        logits = network.section(network.embed(windows))
        correct = (logits.argmax(1) == data.section[clip]).float().mean()
        return functional.cross_entropy(logits, data.section[clip]), [correct, torch.full_like(correct, math.nan)]

    return Recipe(
        examples=len(data.clip),
        batch=min(own.batch, len(data.clip)),
        epochs=own.epochs,
        seed=settings.seed,
        optimiser=torch.optim.Adam(network.parameters(), own.rate, fused=data.spectrograms.device.type == "cuda"),
        rate=lambda step, steps: own.rate,
        step=step,
    )
