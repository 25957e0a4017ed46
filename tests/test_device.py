"""The device: what a process keeps of the memory that its tensors free."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from asd.device import prepare
from asd.settings import Compute
if {prepared}:
    prepare(Compute(device="cpu", threads=1))
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25_000_000)  # 100 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(20)))  # the least: small things may settle where the large one was
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("prepared", [False, True])
def test_freed_memory_is_used_again(prepared):
    """The kernel clears 24,000 pages of 4 KiB for 100 MB that come anew, fewer where it has larger pages."""
    program = PROGRAM.format(prepared=prepared)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 20) == prepared
