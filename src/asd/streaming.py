"""The clips of a training set as a tensor: on the device, or, if they are too many, read batch by batch."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asd.cache import HELD
from asd.device import memory

log = logging.getLogger(__name__)

PART = 256
"""Clips that are read at once onto the device."""


@dataclass(frozen=True)
class Streamed:
    """Clips that are read when they are needed; with the methods of a tensor that training uses.

    A batch of it has the same values as a batch of the tensor that holds all clips.
    """

    read: Callable[[Sequence[int]], np.ndarray]
    """(row numbers of the cache) -> these clips, in this order: `Cache.read_logmel` of an open cache."""
    rows: np.ndarray
    """(clips,), the row numbers of all clips."""
    device: torch.device
    """Where the batches are put."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, clips: torch.Tensor | slice) -> torch.Tensor:
        """The clips of some indices, on the device."""
        chosen = clips if isinstance(clips, slice) else clips.cpu().numpy()
        return torch.from_numpy(self.read(self.rows[chosen])).to(self.device)

    @property
    def shape(self) -> torch.Size:
        """(clips, …), as of a tensor."""
        return torch.Size((len(self.rows), *self.read([]).shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return torch.from_numpy(self.read([])).dtype

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """All clips in order, in parts of `size`."""
        return (self[begin : begin + size] for begin in range(0, len(self), size))


Clips = torch.Tensor | Streamed


def read_clips(
    parts: list[tuple[Callable[[Sequence[int]], np.ndarray], torch.device]], rows: np.ndarray
) -> list[Clips]:
    """Return the log-mels or waveforms of clips in an open cache: on the device, or streamed if they are too large.

    On the device they take at most half of its memory; in the memory of a processor also at most `HELD` bytes.

    Args:
        parts: for each result how it is read (as `Streamed.read`) and where it is put.
            The memory of the first device counts.
        rows: (clips,), the row numbers of the clips in the cache.
    """
    streamed = [Streamed(read, rows, device) for read, device in parts]
    size, device = sum(math.prod(one.shape) * one.dtype.itemsize for one in streamed), streamed[0].device
    limit = memory(device) / 2
    if size > (limit if device.type == "cuda" else min(limit, HELD)):
        log.info("%d training clips of %.1f GB in all are read batch by batch", len(rows), size / 1e9)
        return streamed
    held = [torch.empty(one.shape, dtype=one.dtype, device=one.device) for one in streamed]
    for whole, one in zip(held, streamed, strict=True):
        for place, part in zip(whole.split(PART), one.split(PART), strict=True):
            place.copy_(part)
    return held
