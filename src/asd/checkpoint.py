"""A checkpoint of training, from which a job that was killed, preempted or out of time continues.

A checkpoint is safetensors: the tensors of the training and, as metadata, JSON texts: `of` (digests of what the
training depends on, by name), `notes` (its numbers and its curve) and `checksum` (SHA-256 of everything else).
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
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from asd.errors import InputError
from asd.files import written

if TYPE_CHECKING:
    from asd.streaming import Streamed

log = logging.getLogger(__name__)

SHARE = 50
"""Saving takes at most this fraction of the time: 1 / SHARE."""


class Stopped(Exception):
    """Training was asked to stop, and a checkpoint was saved."""


@dataclass
class Checkpoint:
    """The checkpoint of one training."""

    path: Path
    of: dict[str, str]
    """What the training depends on: name -> digest. A checkpoint with another digest belongs to another training."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to stop (see `stopping`)."""
    pause: float = 0.0
    """Seconds until the next checkpoint is due: the first is due at once, the others as often as `SHARE` permits."""
    saved: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time to save."""
        return self.stop.is_set() or time.monotonic() - self.saved >= self.pause

    def save(self, tensors: dict[str, torch.Tensor], notes: dict[str, Any]) -> None:
        """Write the checkpoint, completely or not at all.

        If this fails (for example, because the disk is full), the log says so and training continues.

        Args:
            tensors: the state of the training, by name.
            notes: its numbers and its curve; must be JSON.
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
        """Return the tensors and notes of the checkpoint; None if it cannot be used, and the log says why."""
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
            log.warning("%s: a damaged checkpoint; it is not used, and training starts again", self.path)
            return None
        of = json.loads(metadata["of"])
        others = sorted(name for name in of.keys() | self.of.keys() if of.get(name) != self.of.get(name))
        if others:
            what = " and ".join(others)
            log.warning("%s: made with other %s; it is not used, and training starts again", self.path, what)
            return None
        return tensors, json.loads(metadata["notes"])

    def remove(self) -> None:
        """Remove the checkpoint of a training that is complete."""
        self.path.unlink(missing_ok=True)


def _checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    texts = [text for pair in sorted(metadata.items()) for text in pair]
    return text_digest(tensors_digest(tensors[name] for name in sorted(tensors)), *sorted(tensors), *texts)


def tensors_digest(tensors: "Iterable[torch.Tensor | Streamed]") -> str:
    """Return the SHA-256 of the shapes, types and values of tensors on any device, or of clips that are streamed."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        for part in tensor.split(256) if tensor.shape else [tensor]:  # in parts: a training set may be large
            sha.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def text_digest(*texts: str) -> str:
    """Return the SHA-256 of some texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM (preemption, a time limit) and SIGINT set instead of ending the process."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
