"""The device on which the networks run, and the number of threads."""

import ctypes
import itertools
import logging
import os
import tempfile
from pathlib import Path

import torch

from asd import host
from asd.errors import InputError
from asd.settings import Compute

log = logging.getLogger(__name__)

WITHOUT_DOUBLE = {"mps"}
"""The kinds of devices that have no double precision: Apple's GPUs."""

MALLOC = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}
"""The parameters of glibc's malloc that `keep_memory` sets (malloc.h): name, number, value."""


def prepare(settings: Compute) -> torch.device:
    """Set threads, memory and determinism of this process, and return the device.

    Raises:
        InputError: the settings ask for a CUDA or MPS device and there is none.
    """
    torch.set_num_threads(settings.threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = settings.device
    if chosen == "auto":
        chosen = next(kind for kind, there in available.items() if there)
    device = torch.device(chosen)
    if not available[device.type]:
        kind = device.type.upper()
        raise InputError(f"compute.device: found {chosen!r}, but torch sees no {kind} device; set it to auto or cpu")
    if device.type == "cuda" and device.index is None and (count := torch.cuda.device_count()) > 1:
        device = torch.device("cuda", free_device(count))
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_memory()
    if settings.deterministic and device.type == "cuda":
        # torch.use_deterministic_algorithms needs this; cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    log.info("device %s, %d threads", device, settings.threads)
    return device


def free_device(count: int) -> int:
    """Return the index of the CUDA device on which the fewest processes of this user compute, and take a place on it.

    A place is a locked file in the folder for temporary files. The kernel releases the lock when the process ends,
    however it ends. Nobody waits: if each device has a process, the next one takes a second place on the first device.

    Args:
        count: CUDA devices that this process sees.
    """
    import fcntl

    folder = Path(tempfile.gettempdir(), f"asd-{os.getuid()}")
    # The devices' names for this process, so that a process that sees others (CUDA_VISIBLE_DEVICES) takes other places.
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = names if len(names) == count else [str(index) for index in range(count)]
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for place, index in ((place, index) for place in itertools.count() for index in range(count)):
            lock = os.open(folder / f"cuda-{names[index]}-{place}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return index  # with the file open, and thus locked, until the process ends
    except OSError as error:
        log.warning("%s: no locks (%s), so the jobs of one machine may all use its first CUDA device", folder, error)
    return 0


def with_double(device: torch.device) -> torch.device:
    """Return where to compute in double precision: on the device, or on the processor if the device has none."""
    return torch.device("cpu") if device.type in WITHOUT_DOUBLE else device


def double(values: torch.Tensor) -> torch.Tensor:
    """Return values in double precision, on their device or, if that has none, on the processor."""
    return values.to(with_double(values.device)).double()


def memory(device: torch.device) -> float:
    """Return how many bytes a process can have: a GPU's memory; on a CPU memory and swap, or less if a limit is set."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return host.memory()


def keep_memory() -> None:
    """Make the C library keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the kernel at once, and the kernel clears the pages of the next block. This
    takes a third of the time of a training step on a CPU. Only glibc has this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or not all(mallopt(number, value) for number, value in MALLOC.values()):
        log.info("this C library cannot keep the memory of freed tensors; training steps may take longer")
