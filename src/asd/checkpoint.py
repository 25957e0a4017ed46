"""A checkpoint of training: what a job that is killed, preempted or out of time goes on from.

A checkpoint is safetensors: the tensors that training hands over and, as metadata, JSON texts: `of` (digests of what
the training depends on, by name), `notes` (its numbers and its curve) and `checksum` (SHA-256 of all else).
"""

import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from asd.errors import InputError
from asd.files import written

log = logging.getLogger(__name__)

SHARE = 50
"""Saving takes at most one part in this many of the time."""


class Stopped(Exception):
    """Training was asked to stop, and what it had done is saved."""


@dataclass
class Checkpoint:
    """The checkpoint of one training."""

    path: Path
    of: dict[str, str]
    """What the training depends on: name -> digest. A checkpoint with another digest is of another training."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to stop (see `stopping`)."""
    pause: float = 0.0
    """Seconds until the next one is due: the first comes at once, the others as often as is cheap."""
    saved: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time to save."""
        return self.stop.is_set() or time.monotonic() - self.saved >= self.pause

    def save(self, tensors: dict[str, torch.Tensor], notes: dict[str, Any]) -> None:
        """Write the checkpoint, whole or not at all.

        Where that fails (a full disk), the log says so and the training goes on: only a later interruption costs more.
        """
        start = time.monotonic()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"content": "checkpoint", "of": json.dumps(self.of), "notes": json.dumps(notes)}
        metadata["checksum"] = _checksum(tensors, metadata)
        try:
            with written(self.path) as aside:
                safetensors.torch.save_file(tensors, aside, metadata)
        except (InputError, OSError, safetensors.SafetensorError) as error:
            log.warning("%s: no checkpoint could be written (%s)", self.path, error)
        self.saved = time.monotonic()
        self.pause = SHARE * (self.saved - start)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the tensors and notes of the checkpoint; None, and the log says why, where it cannot be used."""
        if not self.path.exists():
            return None
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            intact = metadata.pop("checksum", "") == _checksum(tensors, metadata)
        except (OSError, safetensors.SafetensorError):
            intact = False
        if not intact:
            log.warning("%s: a damaged checkpoint; it is not used, and training starts anew", self.path)
            return None
        of = json.loads(metadata["of"])
        others = sorted(name for name in of.keys() | self.of.keys() if of.get(name) != self.of.get(name))
        if others:
            what = " and ".join(others)
            log.warning("%s: a checkpoint of other %s; it is not used, and training starts anew", self.path, what)
            return None
        return tensors, json.loads(metadata["notes"])

    def remove(self) -> None:
        """Remove the checkpoint of a training that is done."""
        self.path.unlink(missing_ok=True)


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    texts = [text for pair in sorted(metadata.items()) for text in pair]
    return text_digest(tensors_digest(tensors[name] for name in sorted(tensors)), *sorted(tensors), *texts)


def tensors_digest(tensors: Iterable[torch.Tensor]) -> str:
    """The SHA-256 of tensors' shapes, types and values, wherever they live."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        for part in tensor.detach().split(256) if tensor.dim() else [tensor]:  # in parts: a training set may be large
            sha.update(part.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def text_digest(*texts: str) -> str:
    """The SHA-256 of some texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM (preemption, a time limit) and SIGINT set, instead of ending the process at once."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
