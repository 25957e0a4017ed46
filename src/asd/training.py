"""Training a network on one machine's training clips.

The training set lives on the device as tensors; an epoch is a loop over index tensors, and everything done to a batch
(equaliser, crop, mixup, masks) is done to the whole batch at once.
"""

import csv
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from asd import augment
from asd.audio import log_mel
from asd.cache import Cache
from asd.corpus import attribute_label
from asd.errors import InputError
from asd.files import written
from asd.losses import mixed_focal
from asd.network import Description, Network
from asd.settings import LogMel, Training

log = logging.getLogger(__name__)

EQUALISED = " equalised"
"""What the section label of an equalised clip ends with."""


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a machine, on the device."""

    logmel: torch.Tensor
    """(clips, mels, frames), float32, in dB."""
    waveform: torch.Tensor | None
    """(clips, samples), int16; only where the equaliser needs it."""
    section: torch.Tensor
    """(clips,), index into the section labels."""
    attribute: torch.Tensor
    """(clips,), index into the attribute labels."""


@dataclass(frozen=True)
class Epoch:
    """A row of the training curve. NaN where a head does not exist."""

    epoch: int
    rate: float
    """Learning rate of the epoch's last step."""
    loss: float
    section_accuracy: float
    """Share of the clips whose (dominant) section is recognised, augmented as they are."""
    attribute_accuracy: float
    section_scale: float
    attribute_scale: float


def labels(sections: list[str], attributes: list[str], equalised: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of the section head and of the attribute head of a machine's training clips.

    Equalised clips are new sections (the paper, 2.2.3): the labels double, and equalised section i of S is label S + i.
    """
    section_labels = tuple(sorted(set(sections)))
    if equalised:
        section_labels += tuple(label + EQUALISED for label in section_labels)
    return section_labels, tuple(sorted({attribute_label(one) for one in attributes}))


def begin(
    start: tuple[dict[str, torch.Tensor], dict[str, str]], cache: Cache, settings: Training, path: Path
) -> Network:
    """Build the network that training starts with.

    Args:
        start: tensors and metadata of a file of pre-trained weights, or of another network of the machine (two-step
            training: its backbone and attribute head are kept, its section head is new).
        cache: an open log-mel cache; its training clips give the labels.
        path: where `start` was read, for messages.

    Raises:
        InputError: no training clips, or a network of other attributes.
    """
    tensors, metadata = start
    clips = cache.clips[cache.clips["split"] == "train"]
    if clips.empty:
        raise InputError(f"{cache.path}: no training clips; a network needs normal recordings in the train folder")
    sections, attributes = labels(list(clips["section"]), list(clips["attributes"]), settings.equaliser.probability > 0)
    weights = metadata["content"] == "weights"
    description = Description(
        backbone=metadata["backbone"] if weights else json.loads(metadata["backbone"]),
        machine=clips["machine"].iloc[0],
        bins=1 if settings.standardise == "all" else cache.settings.mels,
        section_labels=sections,
        attribute_labels=attributes,
        settings=settings.model_dump_json(),
    )
    if not weights and tuple(json.loads(metadata["attribute_labels"])) != attributes:
        raise InputError(f"{path}: a network of other attributes than the clips of {cache.path}; train it again")
    network = Network(description, torch.Generator().manual_seed(settings.seed))
    prefix = "backbone." if weights else ""
    new = ("section.", "mean", "deviation")
    kept = {prefix + key: value for key, value in tensors.items() if not key.startswith(new)}
    state = network.state_dict()
    strange = [key for key, value in kept.items() if key not in state or state[key].shape != value.shape]
    if strange:
        raise InputError(f"{path}: {len(strange)} tensors do not fit {description.backbone}: {', '.join(strange[:3])}")
    network.load_state_dict({**state, **kept})
    return network


def training_set(cache: Cache, description: Description, settings: Training, device: torch.device) -> TrainingSet:
    """Read the training clips of a log-mel cache onto the device.

    Args:
        cache: an open `asd.cache` of the machine.
        description: whose labels number the sections and attributes.
    """
    rows = np.flatnonzero((cache.clips["split"] == "train").to_numpy())
    clips = cache.clips.iloc[rows]
    section = {label: index for index, label in enumerate(description.section_labels)}
    attribute = {label: index for index, label in enumerate(description.attribute_labels)}
    equalised = settings.equaliser.probability > 0
    return TrainingSet(
        logmel=torch.from_numpy(cache.read_logmel(rows)).to(device),
        waveform=torch.from_numpy(cache.read_waveform(rows)).to(device) if equalised else None,
        section=torch.tensor([section[label] for label in clips["section"]], device=device),
        attribute=torch.tensor([attribute[attribute_label(one)] for one in clips["attributes"]], device=device),
    )


def measure(network: Network, logmel: torch.Tensor) -> None:
    """Set the network's input statistics from log-mels (clips, mels, frames): one pair, or one for each mel bin."""
    axes = (0, 1, 2) if network.description.bins == 1 else (0, 2)
    count = logmel.numel() // network.description.bins
    # In float64 and by parts: one float32 sum over hours of sound loses digits, a whole float64 copy would not fit.
    parts = logmel.split(64)
    mean = sum(part.double().sum(axes, keepdim=True) for part in parts) / count
    variance = sum(((part.double() - mean) ** 2).sum(axes, keepdim=True) for part in parts) / count
    network.mean.copy_(mean[0])
    network.deviation.copy_(variance[0].sqrt().clamp_min(1e-6))


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Factor of the peak rate at a step: linear up to it over `warmup` steps, then down to 0 along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    network: Network,
    data: TrainingSet,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train a network in place and return its curve, a row an epoch.

    The loss is the paper's equation (1), FL(AdaCos_section(z)) + FL(AdaCos_attribute(z)), averaged over the batch;
    under mixup each term is weight * FL(first label) + (1 - weight) * FL(second label), and the AdaCos statistics
    use the label of the larger weight. A head with one class is not there, and its term neither; without any head
    the network stays as it is.
    """
    if network.section is None and network.attribute is None:
        log.warning(
            "machine %s: one section and one attribute only, so there is nothing to tell apart: the network is used as "
            "it is, with the input statistics of the training clips",
            network.description.machine,
        )
        return []
    for head in ("section", "attribute"):
        if getattr(network, head) is None:
            log.warning("machine %s: a single %s: no %s head in the loss", network.description.machine, head, head)
    clips, device = len(data.logmel), data.logmel.device
    batch = min(settings.batch, clips)
    steps = clips // batch  # the rest of an epoch's order is left out: a batch of a few clips has no statistics
    random = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.Adam(network.parameters(), settings.rate, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate(step, settings.epochs * steps, settings.warmup * steps)
    )
    curve = []
    network.train()
    for epoch in range(settings.epochs):
        sums = torch.zeros(3, device=device)
        for rows in torch.randperm(clips, generator=random).to(device).split(batch)[:steps]:
            rate = schedule.get_last_lr()[0]
            loss, correct = _step(network, _augmented(network, data, rows, settings, logmel, random), settings.gamma)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            sums += torch.stack([loss.detach(), *correct])
        means = (sums / steps).tolist()
        curve.append(Epoch(epoch + 1, rate, *means, _scale(network.section), _scale(network.attribute)))
        if not math.isfinite(means[0]):
            machine = network.description.machine
            raise InputError(f"machine {machine}: the loss is {means[0]} in epoch {epoch + 1}; lower train.rate")
        report(curve[-1])
    network.eval()
    return curve


def _scale(head: nn.Module | None) -> float:
    return float(head.scale) if head is not None else math.nan


@dataclass(frozen=True)
class Batch:
    """A batch as the network sees it: each input is `weight` of a first clip and 1 - `weight` of a second."""

    standardised: torch.Tensor
    section: tuple[torch.Tensor, torch.Tensor]
    attribute: tuple[torch.Tensor, torch.Tensor]
    weight: torch.Tensor


def _augmented(
    network: Network, data: TrainingSet, rows: torch.Tensor, settings: Training, logmel: LogMel, random: torch.Generator
) -> Batch:
    """Take the rows' clips and do to them, in this order: equaliser, crop, standardisation, mixup, masks."""
    x, section, attribute = data.logmel[rows], data.section[rows], data.attribute[rows]
    if settings.equaliser.probability > 0:
        x, chosen = _equalised(x, data.waveform[rows], settings, logmel, random)
        section = section + chosen * (len(network.description.section_labels) // 2)
    if settings.window:
        x = augment.crop(x, settings.window, random)
    x = network.standardise(x)
    weight = torch.ones(len(rows), device=x.device)
    partner = torch.arange(len(rows), device=x.device)
    if settings.mixup.alpha > 0:
        x, partner, weight = augment.mixup(x, settings.mixup.alpha, random)
    for masks, axis in ((settings.frequency_masks, 1), (settings.time_masks, 2)):
        if masks.count and masks.width:
            x = augment.mask(x, masks.count, masks.width, axis, random)
    return Batch(x, (section, section[partner]), (attribute, attribute[partner]), weight)


def _equalised(
    x: torch.Tensor, waveform: torch.Tensor, settings: Training, logmel: LogMel, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-mels, those of randomly chosen clips made anew from their equalised waveforms, and which ones."""
    seed = int(torch.randint(2**31 - 1, (), generator=random))
    chosen, bands = augment.draw_equalisers(len(x), settings.equaliser, logmel.rate, seed)
    # By numbers, not by a mask: a mask on the device would make the host wait to learn how many there are.
    index = chosen.nonzero().flatten().to(x.device, non_blocking=True)
    equalised = augment.equalise(waveform[index], bands[chosen], logmel.rate)
    return x.index_copy(0, index, log_mel(equalised, logmel)), chosen.to(x.device, non_blocking=True)


def _step(network: Network, batch: Batch, gamma: float) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of a batch, and the share of the dominant labels that each head recognised."""
    cuda = batch.standardised.device.type == "cuda"
    with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
        embedding = network.embed(batch.standardised)
    losses, correct = [], []
    for head, (first, second) in ((network.section, batch.section), (network.attribute, batch.attribute)):
        if head is None:
            correct.append(embedding.new_tensor(math.nan))
            continue
        dominant = torch.where(batch.weight >= 0.5, first, second)
        logits = head(embedding, dominant)
        losses.append(mixed_focal(logits, first, second, batch.weight, gamma))
        correct.append((logits.argmax(1) == dominant).float().mean())
    return sum(losses).mean(), correct


def write_curve(path: Path, curve: list[Epoch]) -> None:
    """Write a training curve as CSV, a row an epoch."""
    with written(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(Epoch)]
        writer.writerow(names)
        writer.writerows([getattr(epoch, name) for name in names] for epoch in curve)
