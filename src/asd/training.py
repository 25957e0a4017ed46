"""Training an EfficientNet on the training clips of one machine, or of all machines.

The training set is on the device as tensors, or is streamed if it is large (`asd.streaming`). Every augmentation
(equaliser, crop, mixup, masks) works on a whole batch at once. The loop over batches and epochs is that of `asd.loop`.
"""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from asd import augment
from asd.audio import log_mels
from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint
from asd.corpus import attribute_label
from asd.device import double, memory, with_double
from asd.errors import InputError
from asd.loop import Epoch, Recipe, run, training_clips
from asd.losses import mixed_focal
from asd.network import Description, Network, class_name, freeze_norms, hold_stages, left_out
from asd.settings import LogMel, Training
from asd.streaming import Clips, read_clips

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

BYTES_PER_PIXEL = 2000
"""The least memory of a training step per mel bin and frame of its batch: that of EfficientNet-Lite1 with gradients."""

ALTERED = " altered"
"""The suffix of the section label of a clip that was altered, by the equaliser or by a generated fault."""


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a network, on the device or streamed."""

    spectrograms: Clips
    """(clips, mels, frames), float32, in dB."""
    waveform: Clips | None
    """(clips, samples), int16, on the device of the equaliser; None without an equaliser."""
    section: torch.Tensor
    """(clips,), index into the section labels."""
    attribute: torch.Tensor
    """(clips,), index into the attribute labels; 0 if there are none."""


def labels(sections: list[str], attributes: list[str], altered: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of the section head and of the attribute head.

    Equalised clips have section labels of their own (section 2.2.3 of the paper), and so have clips with a generated
    fault: the number of labels doubles, and section i of S becomes label S + i if a clip is altered.

    Args:
        sections: section labels of the training clips.
        attributes: attribute labels of the training clips.
        altered: whether clips are altered.
    """
    section_labels = tuple(sorted(set(sections)))
    if altered:
        section_labels += tuple(label + ALTERED for label in section_labels)
    return section_labels, tuple(sorted(set(attributes)))


def classes(clips: "pd.DataFrame", scope: str) -> tuple[list[str], list[str]]:
    """Return the section labels and the attribute labels of clips, for a network of one machine or of `ALL`.

    Args:
        clips: the manifest's columns, one row per clip.
        scope: the machine, or `ALL`.
    """
    attributes = map(attribute_label, clips["attributes"])
    return tuple(
        [class_name(scope, machine, label) for machine, label in zip(clips["machine"], labels, strict=True)]
        for labels in (clips["section"], attributes)
    )


def begin(
    start: tuple[dict[str, torch.Tensor], dict[str, str]], cache: Cache | Joined, settings: Training, path: Path
) -> Network:
    """Build the network that training starts with.

    Args:
        start: tensors and metadata of a file of pre-trained weights, or of another network of the machine (two-step
            training: its backbone and attribute head are kept, its section head is new).
        cache: an open log-mel cache, or with scope `all` those of all machines; its training clips give the labels.
        settings: of the training.
        path: the file from which `start` was read, for messages.

    Raises:
        InputError: there are no training clips, or `start` is of another backbone or was trained on other attributes.
    """
    tensors, metadata = start
    clips, machine = training_clips(cache, settings.scope)
    of_clips = classes(clips, machine)
    sections, attributes = labels(*of_clips, settings.alters)
    if settings.attributes == 0 and len(set(of_clips[0])) > 1:
        attributes = ()
    weights = metadata["content"] == "weights"
    if settings.norm == "frozen" and metadata.get("source") == "none":
        log.warning(
            "%s: these weights are not pre-trained, and train.norm: frozen keeps the means 0 and variances 1 with "
            "which the batch norms begin; set train.norm to batch",
            path,
        )
    description = Description(
        backbone=metadata["backbone"] if weights else json.loads(metadata["backbone"]),
        machine=machine,
        bins=1 if settings.standardise == "all" else cache.settings.mels,
        section_labels=sections,
        attribute_labels=attributes,
        settings=settings.model_dump_json(),
        mels=cache.settings.mels,
        last_stage=settings.last_stage,
        bands=settings.bands,
    )
    if attributes and not weights and tuple(json.loads(metadata["attribute_labels"])) != attributes:
        raise InputError(f"{path}: a network of other attributes than the clips of {cache.path}; train it again")
    network = Network(description, torch.Generator().manual_seed(settings.seed))
    prefix = "backbone." if weights else ""
    new = ("section.", "mean", "deviation", "centre", *([] if attributes else ["attribute."]))
    new += left_out(description.backbone, settings.last_stage) if weights else ()
    kept = {prefix + key: value for key, value in tensors.items() if not key.startswith(new)}
    state = network.state_dict()
    strange = [key for key, value in kept.items() if key not in state or state[key].shape != value.shape]
    if strange:
        raise InputError(f"{path}: {len(strange)} tensors do not fit {description.backbone}: {', '.join(strange[:3])}")
    network.load_state_dict({**state, **kept})
    return network


def prepared(
    start: tuple[dict[str, torch.Tensor], dict[str, str]],
    cache: Cache | Joined,
    settings: Training,
    path: Path,
    device: torch.device,
) -> tuple[Network, TrainingSet]:
    """Return the network that training starts with and its training set, both on the device: what `train` takes.

    Args:
        start: tensors and metadata of the file from which training starts, see `begin`.
        cache: an open log-mel cache, or with scope `all` those of all machines. It stays open during the training.
        settings: of the training.
        path: the file from which `start` was read, for messages.
        device: where the network computes.

    Raises:
        InputError: as `begin` and `check_memory` raise it.
    """
    clips = int((cache.clips["split"] == "train").sum())
    check_memory(clips, cache.settings.mels, cache.frames, settings, memory(device))
    network = begin(start, cache, settings, path).to(device)
    data = training_set(cache, network.description, settings, device)
    measure(network, data.spectrograms, settings.centre)
    return network, data


def check_memory(clips: int, mels: int, frames: int, settings: Training, available: float) -> None:
    """Refuse a training whose batches do not fit into the memory of this machine, before anything is computed.

    Args:
        clips: training clips.
        mels: mel bins of a log-mel.
        frames: frames of a log-mel.
        settings: of the training.
        available: bytes, from `asd.device.memory`.

    Raises:
        InputError: they do not fit; the message says what can be done.
    """
    batch, window = min(settings.batch, clips), settings.window or frames
    needed = BYTES_PER_PIXEL * batch * mels * window
    if settings.epochs and needed > available:
        raise InputError(
            f"training would take some {needed / 1e9:.0f} GB for a batch of {batch} clips of {window} frames; this "
            f"machine has {available / 1e9:.0f} GB. Cut long recordings into clips of ten seconds, let the network "
            "see windows (train.window), or lower train.batch"
        )


def training_set(
    cache: Cache | Joined, description: Description, settings: Training, device: torch.device
) -> TrainingSet:
    """Read the training clips of a log-mel cache onto the device, or, if they are too many, prepare to stream them.

    Args:
        cache: an open `asd.cache` of the machine, or of all machines. It stays open as long as the set is used.
        description: of the network, whose labels number the sections and attributes.
        settings: of the training.
        device: where the tensors are put.
    """
    rows = np.flatnonzero((cache.clips["split"] == "train").to_numpy())
    sections, attributes = classes(cache.clips.iloc[rows], description.machine)
    section = {label: index for index, label in enumerate(description.section_labels)}
    attribute = {label: index for index, label in enumerate(description.attribute_labels)}
    equalised = settings.equaliser.probability > 0
    parts = [(cache.read_logmel, device), (cache.read_waveform, with_double(device))]
    spectrograms, *waveform = read_clips(parts if equalised else parts[:1], rows)
    return TrainingSet(
        spectrograms=spectrograms,
        waveform=waveform[0] if equalised else None,
        section=torch.tensor([section[label] for label in sections], device=device),
        attribute=torch.tensor([attribute[label] if attribute else 0 for label in attributes], device=device),
    )


@torch.no_grad()
def measure(network: Network, spectrograms: Clips, centre: bool = False) -> None:
    """Set a network's statistics of the training clips, before it learns.

    Args:
        network: as `begin` returns it. Its input statistics are set, one pair or one pair per mel bin; and its centre.
        spectrograms: (clips, mels, frames) of the training clips.
        centre: whether the centre is the mean embedding of the clips; otherwise it is 0.
    """
    axes = (0, 1, 2) if network.description.bins == 1 else (0, 2)
    count = math.prod(spectrograms.shape) // network.description.bins
    # In float64 and in parts: a float32 sum over hours of sound loses digits, and a float64 copy of all may not fit.
    mean = sum(double(part).sum(axes, keepdim=True) for part in spectrograms.split(64)) / count
    variance = sum(((double(part) - mean) ** 2).sum(axes, keepdim=True) for part in spectrograms.split(64)) / count
    network.mean.copy_(mean[0])
    network.deviation.copy_(variance[0].sqrt().clamp_min(1e-6))
    if centre:
        network.eval()
        sums = sum(double(network.embed(network.standardise(part))).sum(0) for part in spectrograms.split(16))
        network.centre.copy_(double(network.centre) + sums / len(spectrograms))
        network.train()


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate at a step relative to its peak.

    It rises linearly over the first `warmup` of all `steps`, then falls to 0 along a cosine (Loshchilov and Hutter,
    "SGDR", ICLR 2017, equation (5), without restarts).

    Args:
        step: from 0.
        steps: of the whole training.
        warmup: steps until the peak.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    network: Network,
    data: TrainingSet,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a network in place and return its curve, one row per epoch.

    The loss is the paper's equation (1), FL(AdaCos_section(z)) + FL(AdaCos_attribute(z)), averaged over the batch. With
    mixup each term is weight * FL(first label) + (1 - weight) * FL(second label), and the AdaCos statistics use the
    label with the larger weight. `settings.attributes` is a factor of the second term. If there is only one class,
    there is no head and no term; without any head the network stays as it is.

    With norm `frozen` the batch norms keep their running statistics. Log-mels differ much from the images of the
    pre-training, and replacing the statistics alone, before anything is learned, makes the features of a small corpus
    worse.

    Args:
        network: as `begin` returns it, on the device.
        data: the training set, on the same device.
        settings: of the training.
        logmel: as `recipe` takes it.
        report: as `asd.loop.run` takes it.
        checkpoint: to continue from and to keep up to date; None for none.

    Raises:
        Stopped, InputError: as `asd.loop.run` raises them.
    """
    if network.section is None and network.attribute is None:
        log.warning(
            "machine %s: one section and one attribute only, so there is nothing to tell apart: the network is used as "
            "it is, with the input statistics of the training clips",
            network.description.machine,
        )
        return []
    for head in ("section", "attribute"):
        if getattr(network, head) is None and (head == "section" or settings.attributes):
            log.warning("machine %s: a single %s: no %s head in the loss", network.description.machine, head, head)
    network.train()
    if settings.norm == "frozen":
        freeze_norms(network)
    hold_stages(network, settings.first_stage)
    return run(network, recipe(network, data, settings, logmel), report, checkpoint)


def recipe(network: Network, data: TrainingSet, settings: Training, logmel: LogMel) -> Recipe:
    """Return how a network learns.

    Args:
        network: as `begin` returns it, on the device.
        data: the training set, on the same device.
        settings: of the training.
        logmel: settings of the log-mels, for equalised clips.
    """

    def step(rows: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, list[torch.Tensor]]:
        batch = _augmented(network, data, rows, settings, logmel, random)
        return _step(network, batch, settings.gamma, settings.attributes)

    def rate(step: int, steps: int) -> float:
        return settings.rate * learning_rate(step, settings.epochs * steps, settings.warmup * steps)

    clips = len(data.spectrograms)
    return Recipe(
        examples=clips,
        batch=min(settings.batch, clips),
        epochs=settings.epochs,
        seed=settings.seed,
        optimiser=torch.optim.Adam(learning(network), settings.rate, fused=data.spectrograms.device.type == "cuda"),
        rate=rate,
        step=step,
        scales=lambda: (_scale(network.section), _scale(network.attribute)),
    )


def learning(network: Network) -> list[nn.Parameter]:
    """The parameters that the optimiser changes."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _scale(head: nn.Module | None) -> float:
    return float(head.scale) if head is not None else math.nan


@dataclass(frozen=True)
class Batch:
    """A batch for the network: each input is `weight` times a first clip plus 1 - `weight` times a second clip."""

    standardised: torch.Tensor
    section: tuple[torch.Tensor, torch.Tensor]
    attribute: tuple[torch.Tensor, torch.Tensor]
    weight: torch.Tensor


def _augmented(
    network: Network, data: TrainingSet, rows: torch.Tensor, settings: Training, logmel: LogMel, random: torch.Generator
) -> Batch:
    """Take the clips of some rows and apply, in this order: equaliser, crop, faults, standardisation, mixup, masks."""
    x, section, attribute = data.spectrograms[rows], data.section[rows], data.attribute[rows]
    altered = torch.zeros(len(rows), dtype=torch.bool, device=x.device)
    if settings.equaliser.probability > 0:
        x, altered = _equalised(x, data.waveform[rows.to(data.waveform.device)], settings, logmel, random)
    if settings.window:
        x = augment.crop(x, settings.window, random)
    if settings.faults.probability > 0:
        x, faulty = augment.faults(x, settings.faults, random)
        altered = altered | faulty
    if settings.alters:
        section = section + altered * (len(network.description.section_labels) // 2)
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
    """The log-mels, some of them computed from equalised waveforms, and which clips were equalised."""
    seed = int(torch.randint(2**31 - 1, (), generator=random))
    chosen, bands = augment.draw_equalisers(len(x), settings.equaliser, logmel.rate, seed)
    # By indices, not by a mask: with a mask on the device the host would have to wait for the number of clips.
    index = chosen.nonzero().flatten().to(waveform.device, non_blocking=x.is_cuda)
    equalised = log_mels(augment.equalise(waveform[index], bands[chosen], logmel.rate), logmel)
    return x.index_copy(0, index.to(x.device), equalised.to(x.device)), chosen.to(x.device, non_blocking=x.is_cuda)


def _step(
    network: Network, batch: Batch, gamma: float, attributes: float = 1.0
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of a batch, and the share of the dominant labels that each head recognised.

    If there are several sections, the loss of the attribute head is weighted by `attributes`.
    """
    cuda = batch.standardised.device.type == "cuda"
    with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
        embedding = network.embed(batch.standardised)
    unaltered = [label for label in network.description.section_labels if not label.endswith(ALTERED)]
    several = network.section is not None and len(unaltered) > 1
    losses, correct = [], []
    for head, (first, second), weight in (
        (network.section, batch.section, 1.0),
        (network.attribute, batch.attribute, attributes if several else 1.0),
    ):
        if head is None:
            correct.append(embedding.new_tensor(math.nan))
            continue
        dominant = torch.where(batch.weight >= 0.5, first, second)
        logits = head(embedding, dominant)
        losses.append(weight * mixed_focal(logits, first, second, batch.weight, gamma))
        correct.append((logits.argmax(1) == dominant).float().mean())
    return sum(losses).mean(), correct
