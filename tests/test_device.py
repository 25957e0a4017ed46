"""The device: which one a process takes, and what it keeps of the memory that its tensors free."""

import os
import platform
import subprocess
import sys
import tempfile
from subprocess import PIPE

import pytest
import torch

from asd.device import free_device, prepare
from asd.settings import Compute

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


TAKE = "from asd.device import free_device; print(free_device(2), flush=True); input()"


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Two CUDA devices that do not exist, and the devices that were set."""
    chosen = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_the_processes_of_a_machine_share_its_devices_evenly(pretended, monkeypatch):
    devices = [prepare(Compute(threads=1, device=device)) for device in ("auto", "cuda", "auto", "cuda:1", "auto")]
    assert devices == [torch.device("cuda", index) for index in (0, 1, 0, 1, 1)]
    assert pretended == [torch.device("cuda", index) for index in (0, 1, 0, 1)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")  # of other devices all places are free
    assert [prepare(Compute(threads=1)).index for _ in range(3)] == [0, 1, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as in a Slurm job: nothing to choose
    assert prepare(Compute(threads=1)) == torch.device("cuda")


def test_the_device_of_a_killed_process_is_free_again(pretended):
    with subprocess.Popen([sys.executable, "-c", TAKE], stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout.readline() == "0\n"
        assert free_device(2) == 1
        other.kill()
        other.wait()
    assert free_device(2) == 0


def test_without_locks_all_use_the_first_device(pretended, tmp_path, caplog):
    (tmp_path / f"asd-{os.getuid()}").touch()
    assert [free_device(2), free_device(2)] == [0, 0]
    assert "no locks" in caplog.text
