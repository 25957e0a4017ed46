"""What this computer has, without the import of torch."""

import ctypes
import os
import resource
import sys
from pathlib import Path


def memory() -> int:
    """Return how many bytes a process can have: memory and swap, or less if a limit is set."""
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


def processors() -> int:
    """Return how many processor cores a process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu(device: str) -> bool:
    """Return whether networks run on a GPU of this computer.

    Args:
        device: `compute.device`.
    """
    if device != "auto":
        return device != "cpu"
    if sys.platform == "darwin" or Path("/dev/kfd").exists():  # Apple's; AMD's
        return True
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:  # no driver
        return False
