"""The device on which the networks run, and the number of threads."""

import ctypes
import logging
import os
import resource
from pathlib import Path

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


def memory(device: torch.device) -> float:
    """Return how many bytes a process can have: a GPU's memory; on a CPU memory and swap, or less if a limit is set."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [resource.getrlimit(resource.RLIMIT_AS)[0]]
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in lines}
        limits.append(sizes["MemTotal:"] + sizes["SwapTotal:"])
    except (OSError, KeyError, ValueError, IndexError):  # not Linux
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:  # of a container, or of a job on a cluster
        group = Path("/sys/fs/cgroup", Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip())
        for folder in (group, *group.parents):
            if (limit := folder / "memory.max").exists() and (text := limit.read_text().strip()).isdecimal():
                limits.append(int(text))
    except OSError:
        pass
    return min(limit for limit in limits if limit > 0)


def keep_memory() -> None:
    """Make the C library keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the kernel at once, and the kernel clears the pages of the next block. This
    takes a third of the time of a training step on a CPU. Only glibc has this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or not all(mallopt(number, value) for number, value in MALLOC.values()):
        log.info("this C library cannot keep the memory of freed tensors; training steps may take longer")
