"""The device: which one a process takes, and what it keeps of the memory that its tensors free."""

import os
import platform
import subprocess
import sys
import tempfile
from subprocess import PIPE

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asd import device, streaming, training
from asd.device import free_device, prepare, with_double
from asd.errors import InputError
from asd.network import Description, Network
from asd.settings import Compute, Faults, LogMel, Masks, Mixup, Training

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


def test_apple_s_gpu_is_taken_if_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"compute\.device: found 'mps', but torch sees no MPS device"):
        prepare(Compute(threads=1, device="mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert prepare(Compute(threads=1)) == prepare(Compute(threads=1, device="mps")) == torch.device("mps")
    assert with_double(torch.device("mps")) == torch.device("cpu")
    with pytest.raises(InputError, match="no CUDA device"):
        prepare(Compute(threads=1, device="cuda"))


class NoDouble(TorchDispatchMode):
    """Refuses what is computed in double precision on CUDA."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.device.type == "cuda" and one.dtype == torch.float64:
                raise TypeError(f"double precision: {function}")
        return result


def moved(network, there):
    """`network.to(there)`, which refuses fake tensors."""
    for module in network.modules():
        for name, value in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(value.detach().to(there), value.requires_grad))
        for name, value in module.named_buffers(recurse=False):
            setattr(module, name, value.to(there))
    return network


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("known", [True, False])
def test_a_device_without_double_precision_need_not_compute_in_it(monkeypatch, known):
    """PyTorch's fake CUDA stands for MPS, since its fake MPS takes no tensors over from the processor."""
    monkeypatch.setattr(device, "WITHOUT_DOUBLE", {"cuda"} if known else set())
    monkeypatch.setattr(streaming, "memory", lambda device: 1e9)
    masks = Masks(count=2, width=4)
    settings = Training(window=16, mixup=Mixup(alpha=0.4), frequency_masks=masks, time_masks=masks)
    settings = settings.model_copy(update={"faults": Faults(probability=0.5)})
    sections = ("00", "01", "00 altered", "01 altered")
    described = Description("tf_efficientnet_lite1", "fan", 1, sections, ("a", "b"), "{}", mels=64, last_stage=4)
    network = Network(described, torch.Generator().manual_seed(0))
    with FakeTensorMode(allow_non_fake_inputs=True), NoDouble():
        cuda, rows = torch.device("cuda"), np.arange(8)
        network = moved(network, cuda)
        (logmel,) = streaming.read_clips([(lambda rows: np.zeros((len(rows), 64, 32), np.float32), cuda)], rows)
        labels = torch.zeros(8, dtype=torch.int64, device=cuda)
        if not known:
            with pytest.raises(TypeError, match="double precision"):
                training.measure(network, logmel, centre=True)
            return
        training.measure(network, logmel, centre=True)
        data, random = training.TrainingSet(logmel, None, labels, labels), torch.Generator().manual_seed(0)
        batch = training._augmented(network, data, torch.arange(4).to(cuda), settings, LogMel(mels=64), random)
        loss, _ = training._step(network.train(), batch, settings.gamma)
        assert loss.device.type == "cuda"
