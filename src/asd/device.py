"""The device on which the networks run, and the number of threads."""

import ctypes
import logging
import os

import torch

from asd.errors import InputError
from asd.settings import Compute

log = logging.getLogger(__name__)

MALLOC = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}
"""The parameters of glibc's malloc that `keep_memory` sets (malloc.h): name, number, value."""


def prepare(settings: Compute) -> torch.device:
    """Set threads, memory and determinism of this process, and return the device.

    Raises:
        InputError: the settings ask for a CUDA device and there is none.
    """
    torch.set_num_threads(settings.threads)
    chosen = settings.device
    if chosen == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(chosen)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"compute.device: found {chosen!r}, but torch sees no CUDA device; set it to auto or cpu")
    if device.type == "cpu":
        keep_memory()
    if settings.deterministic and device.type == "cuda":
        # torch.use_deterministic_algorithms needs this; cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    log.info("device %s, %d threads", device, settings.threads)
    return device


def keep_memory() -> None:
    """Make the C library keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the kernel at once, and the kernel clears the pages of the next block. This
    takes a third of the time of a training step on a CPU. Only glibc has this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or not all(mallopt(number, value) for number, value in MALLOC.values()):
        log.info("this C library cannot keep the memory of freed tensors; training steps may take longer")
