"""The training loop that all kinds of networks share: epochs, the curve, and checkpoints to continue from.

A `Recipe` says from what a network learns, and with which loss.
"""

import csv
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint, Stopped, tensors_digest, text_digest
from asd.errors import InputError
from asd.files import written
from asd.network import ALL
from asd.progress import progress
from asd.settings import Compute, LogMel, canonical

if TYPE_CHECKING:
    import pandas as pd

Built = TypeVar("Built", bound=nn.Module)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """A row of the training curve. The values of a head that does not exist are NaN."""

    epoch: int
    rate: float
    """Learning rate of the epoch's last step."""
    loss: float
    section_accuracy: float
    """Share of the (augmented) clips whose dominant section is recognised."""
    attribute_accuracy: float
    section_scale: float
    attribute_scale: float


@dataclass(frozen=True)
class Recipe:
    """How a network learns."""

    examples: int
    """Number of clips, or of windows, in an epoch."""
    batch: int
    """Examples per step, at most `examples`. The examples that remain at the end of an epoch are left out: a batch of a
    few examples has no useful statistics."""
    epochs: int
    seed: int
    """Seed of the order of the examples and of every augmentation."""
    optimiser: torch.optim.Optimizer
    rate: Callable[[int, int], float]
    """(step of the whole training, from 0; steps per epoch) -> learning rate."""
    step: Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, list[torch.Tensor]]]
    """(rows (batch,) of examples, on the device; generator) -> loss, and section and attribute accuracy."""
    scales: Callable[[], tuple[float, float]] = lambda: (math.nan, math.nan)
    """The scales of the section head and of the attribute head."""


@dataclass
class Run:
    """The state of a training between two steps: everything it depends on except settings and training set."""

    network: nn.Module
    recipe: Recipe
    random: torch.Generator
    """Draws the order of the examples and every augmentation."""
    order: torch.Tensor
    """(examples,), their order in the current epoch."""
    sums: torch.Tensor
    """(3,), loss and accuracies summed over the epoch's steps."""
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished steps of the current epoch."""
    curve: list[Epoch] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return self.recipe.examples // self.recipe.batch

    def rate(self, step: int) -> float:
        """The learning rate of a step of the current epoch."""
        return self.recipe.rate(self.epoch * self.steps + step, self.steps)


def training_clips(cache: Cache | Joined, scope: str) -> tuple["pd.DataFrame", str]:
    """Return the training clips of a cache, with their rows in it as index, and the machine that a network learns from.

    Args:
        cache: an open log-mel cache, or with scope `all` those of all machines.
        scope: of the training.

    Raises:
        InputError: there are none.
    """
    clips = cache.clips[cache.clips["split"] == "train"]
    if clips.empty:
        raise InputError(f"{cache.path}: no training clips; a network needs normal recordings in the train folder")
    return clips, ALL if scope == "all" else clips["machine"].iloc[0]


def seeded(make: Callable[[], Built], seed: int, device: torch.device) -> Built:
    """Return what `make` builds, with random weights.

    Args:
        make: builds a network on the processor.
        seed: of the weights.
        device: where it is put.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device)


def begin(network: nn.Module, recipe: Recipe) -> Run:
    """Return the state of a training before its first step."""
    return Run(
        network,
        recipe,
        torch.Generator().manual_seed(recipe.seed),
        order=torch.empty(0, dtype=torch.int64),
        sums=torch.zeros(3, device=next(network.parameters()).device),
    )


def run(
    network: nn.Module,
    recipe: Recipe,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a network in place, leave it in evaluation mode, and return its curve, one row per epoch.

    With a checkpoint, training continues from it if it belongs to this training, and updates it. The weights are then
    bit for bit those of a training without interruption.

    Args:
        network: in training mode, on its device.
        recipe: how it learns.
        report: called after each epoch with its row and the number of all epochs.
        checkpoint: to continue from and to keep up to date; None for none.

    Raises:
        Stopped: the checkpoint's `stop` was set; a checkpoint was saved.
        InputError: the loss is not finite.
    """
    state = begin(network, recipe)
    if checkpoint and (saved := checkpoint.load()):
        _restore(state, *saved)
        log.info("%s: continuing after epoch %d, step %d", checkpoint.path, state.epoch, state.step)
    while state.epoch < recipe.epochs:
        if state.step == 0:
            state.order = torch.randperm(recipe.examples, generator=state.random)
            state.sums = torch.zeros_like(state.sums)
        _epoch(state, checkpoint)
        means, rate = (state.sums / state.steps).tolist(), state.rate(state.steps - 1)
        state.epoch, state.step = state.epoch + 1, 0
        state.curve.append(Epoch(state.epoch, rate, *means, *recipe.scales()))
        if not math.isfinite(means[0]):
            machine = network.description.machine
            raise InputError(f"machine {machine}: the loss is {means[0]} in epoch {state.epoch}; lower its rate")
        report(state.curve[-1], recipe.epochs)
    network.eval()
    return state.curve


def _epoch(state: Run, checkpoint: Checkpoint | None) -> None:
    """Do the remaining steps of an epoch."""
    recipe, order = state.recipe, state.order.to(state.sums.device)
    title = f"epoch {state.epoch + 1} of {recipe.epochs}"
    for _ in progress(range(state.step, state.steps), title, "steps"):
        recipe.optimiser.param_groups[0]["lr"] = state.rate(state.step)
        rows = order[state.step * recipe.batch : (state.step + 1) * recipe.batch]
        loss, correct = recipe.step(rows, state.random)
        recipe.optimiser.zero_grad()
        loss.backward()
        recipe.optimiser.step()
        state.sums += torch.stack([loss.detach(), *correct])
        state.step += 1
        if checkpoint and checkpoint.due():
            checkpoint.save(*_state(state))
            if checkpoint.stop.is_set():
                raise Stopped(
                    f"stopped in epoch {state.epoch + 1}, step {state.step} of {state.steps}; saved in "
                    f"{checkpoint.path}: the same command continues from there"
                )


def identity(
    network: nn.Module, data: Any, logmel: LogMel, compute: Compute, device: torch.device, code: str
) -> dict[str, str]:
    """Return what a training depends on, name -> digest, for its checkpoint. If all are equal, so are the weights.

    Args:
        network: the network with which training starts.
        data: the training set, a dataclass of tensors or streamed clips; None for those that it does not have.
        logmel: settings of the log-mels.
        compute: device, threads and determinism.
        device: the device that was chosen.
        code: digest of the code that trains.
    """
    state = network.state_dict()
    tensors = [value for value in vars(data).values() if value is not None]
    return {
        "code": code,
        "computation": text_digest(canonical(compute), device.type, torch.__version__),
        "data": tensors_digest(tensors),
        "settings": text_digest(json.dumps(asdict(network.description)), canonical(logmel)),
        "start": tensors_digest(state[name] for name in sorted(state)),
    }


def _state(state: Run) -> tuple[dict[str, torch.Tensor], dict]:
    """A run as the tensors and notes of a checkpoint."""
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    for index, values in state.recipe.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    tensors |= {"random": state.random.get_state(), "order": state.order, "sums": state.sums}
    return tensors, {"epoch": state.epoch, "step": state.step, "curve": [asdict(epoch) for epoch in state.curve]}


def _restore(state: Run, tensors: dict[str, torch.Tensor], notes: dict) -> None:
    """Set a run to the state of its checkpoint."""
    network = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    state.network.load_state_dict(network)
    optimiser = state.recipe.optimiser
    parameters = optimiser.param_groups[0]["params"]
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for name in (name for name in tensors if name.startswith("optimiser.")):
        _, index, key = name.split(".")
        # In the memory layout of the parameter (channels last), which is not stored in the file.
        like = tensors[name] if key == "step" else torch.empty_like(parameters[int(index)])
        kept.setdefault(int(index), {})[key] = like.copy_(tensors[name])
    optimiser.load_state_dict({"state": kept, "param_groups": optimiser.state_dict()["param_groups"]})
    state.random.set_state(tensors["random"])
    state.order, state.sums = tensors["order"], tensors["sums"].to(state.sums.device)
    state.epoch, state.step = notes["epoch"], notes["step"]
    state.curve = [Epoch(**epoch) for epoch in notes["curve"]]


def write_curve(path: Path, curve: list[Epoch]) -> None:
    """Write a training curve as CSV, one row per epoch."""
    with written(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(Epoch)]
        writer.writerow(names)
        writer.writerows([getattr(epoch, name) for name in names] for epoch in curve)
