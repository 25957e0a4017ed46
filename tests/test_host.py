"""What this computer has, without the import of torch."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from asd import host


@pytest.mark.parametrize(("device", "found"), [("cpu", False), ("cuda", True), ("cuda:1", True), ("mps", True)])
def test_a_device_that_is_named_is_believed(device, found):
    assert host.has_gpu(device) is found


@pytest.mark.parametrize(("answer", "found"), [(0, True), (100, False), (None, False)])
def test_otherwise_the_driver_is_asked(monkeypatch, answer, found):
    """0 is CUDA_SUCCESS, 100 CUDA_ERROR_NO_DEVICE; without a driver its library cannot be opened."""

    def opened(name):
        if answer is None:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuInit=lambda flags: answer)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(host, "Path", lambda path: SimpleNamespace(exists=lambda: False))
    monkeypatch.setattr(ctypes, "CDLL", opened)
    assert host.has_gpu("auto") is found


def test_apple_s_and_amd_s_gpus_are_found(monkeypatch):
    monkeypatch.setattr(host, "Path", lambda path: SimpleNamespace(exists=lambda: path == "/dev/kfd"))
    assert host.has_gpu("auto")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host.has_gpu("auto")


def test_torch_is_not_needed():
    code = "import sys; from asd.host import has_gpu, memory, processors; memory(), processors(), has_gpu('auto')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
    assert host.processors() >= 1
