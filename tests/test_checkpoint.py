"""Checkpoints: an interrupted training ends as an undisturbed one, and what is not its own is not used."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors
import torch

from asd import checkpoint as checkpoints
from asd import loop, training, weights
from asd.cache import open_cache
from asd.checkpoint import Checkpoint, Stopped
from asd.kinds import load
from asd.settings import Backbone, Compute, Equaliser, Masks, Mixup, Training

LITE1 = Backbone(weights="none")
METADATA = {"content": "weights", "backbone": LITE1.name}
SETTINGS = Training(
    epochs=3,
    batch=5,
    warmup=1,
    mixup=Mixup(alpha=0.4),
    time_masks=Masks(count=2, width=8),
    equaliser=Equaliser(probability=0.5),
)
CPU = torch.device("cpu")
TRAIN = Path(__file__).parents[1] / "workflow/scripts/train.py"


@pytest.fixture(scope="module")
def start():
    return weights.fetch(LITE1), METADATA


@pytest.fixture
def begin(cache_path, start):
    """A training that has not begun: network, training set and settings of the log-mels."""

    def begin(settings=SETTINGS):
        with open_cache(cache_path) as cache:
            network = training.begin(start, cache, settings, cache_path)
            data = training.training_set(cache, network.description, settings, CPU)
        training.measure(network, data.spectrograms)
        return network, data, cache.settings

    return begin


class Interrupting(Checkpoint):
    """A checkpoint that is asked to stop after so many steps."""

    steps = 0

    def due(self):
        self.steps -= 1
        if self.steps == 0:
            self.stop.set()
        return self.stop.is_set()


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_an_interrupted_training_gives_the_very_weights_of_an_undisturbed_one(begin, norm, tmp_path, caplog):
    settings = SETTINGS.model_copy(update={"norm": norm})
    network, data, logmel = begin(settings)
    curve = training.train(network, data, settings, logmel)
    expected = network.state_dict()
    caplog.set_level("INFO")
    # Two steps an epoch: stopped within the first, at the end of the second, and within the third.
    for steps in (1, 3, 1):
        network, data, logmel = begin(settings)
        interrupting = Interrupting(tmp_path / "c.safetensors", {"data": "1"})
        interrupting.steps = steps
        with pytest.raises(Stopped, match="the same command continues from there"):
            training.train(network, data, settings, logmel, checkpoint=interrupting)
        torch.rand(3)  # other random numbers drawn in between do not matter
    network, data, logmel = begin(settings)
    again = training.train(
        network, data, settings, logmel, checkpoint=Checkpoint(tmp_path / "c.safetensors", {"data": "1"})
    )
    assert "continuing after epoch 2, step 1" in caplog.text
    assert again == curve
    assert all(torch.equal(network.state_dict()[key], value) for key, value in expected.items())


def test_the_memory_layout_survives(begin, tmp_path):
    """Moments in another layout than their weights would make every later step slower."""
    network, data, logmel = begin()
    run = loop.begin(network, training.recipe(network, data, SETTINGS, logmel))
    run.order = torch.randperm(len(data.spectrograms), generator=run.random)
    interrupting = Interrupting(tmp_path / "c.safetensors", {})
    interrupting.steps = 1
    with pytest.raises(Stopped):
        loop._epoch(run, interrupting)
    network, data, logmel = begin()
    restored = loop.begin(network, training.recipe(network, data, SETTINGS, logmel))
    loop._restore(restored, *Checkpoint(tmp_path / "c.safetensors", {}).load())
    first, second = (
        {index: values["exp_avg"].stride() for index, values in one.recipe.optimiser.state_dict()["state"].items()}
        for one in (run, restored)
    )
    assert len(first) > 100
    assert first == second


@pytest.fixture
def saved(tmp_path):
    """A checkpoint on disk."""
    one = Checkpoint(tmp_path / "c.safetensors", {"data": "1", "settings": "2"})
    one.save({"x": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, {"epoch": 4, "curve": [float("nan"), 0.1]})
    return one


def test_a_checkpoint_comes_back_as_it_was_saved(saved):
    tensors, notes = saved.load()
    assert torch.equal(tensors["x"], torch.arange(6.0).reshape(2, 3))
    assert tensors["n"].shape == ()
    assert notes["epoch"] == 4
    assert notes["curve"][1] == 0.1
    assert [path.name for path in saved.path.parent.iterdir()] == ["c.safetensors"]
    saved.remove()
    assert saved.load() is None


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"data": "9", "settings": "2"}, "made with other data;"),
        ({"data": "9", "settings": "9"}, "made with other data and settings;"),
        ({"data": "1", "settings": "2", "code": "3"}, "made with other code;"),
    ],
)
def test_a_checkpoint_of_another_training_is_not_used(saved, caplog, of, said):
    assert Checkpoint(saved.path, of).load() is None
    assert said in caplog.text
    assert "training starts again" in caplog.text


def test_every_flipped_byte_is_found(saved, caplog):
    whole = saved.path.read_bytes()
    for position in range(len(whole)):
        saved.path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert saved.load() is None, position
    assert "damaged checkpoint" in caplog.text


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_not_used(saved, size):
    saved.path.write_bytes(saved.path.read_bytes()[:size])
    assert saved.load() is None


def test_a_pickle_is_no_checkpoint(saved):
    torch.save({"x": torch.zeros(1)}, saved.path)
    assert saved.load() is None


def test_a_checkpoint_that_cannot_be_written_costs_nothing(saved, caplog):
    """A full disk, here as a limit on the size of a file: the one before stays, and the training goes on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        saved.save({"x": torch.zeros(10_000)}, {"epoch": 5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "no checkpoint could be written" in caplog.text
    assert saved.load()[1]["epoch"] == 4
    assert [path.name for path in saved.path.parent.iterdir()] == ["c.safetensors"]


def test_saving_is_due_at_first_and_then_when_it_is_cheap(saved):
    one = Checkpoint(saved.path, {})
    assert one.due()
    one.save({"x": torch.zeros(1)}, {})
    assert one.pause > 0
    one.pause = 1e9
    assert not one.due()
    one.stop.set()
    assert one.due()


CHANGES = {
    "data": lambda network, data, arguments: data.spectrograms[0, 0].add_(1e-3),
    "start": lambda network, data, arguments: network.backbone.conv_stem.weight.data[0].add_(1e-6),
    "code": lambda network, data, arguments: arguments.update(code="other"),
    "computation": lambda network, data, arguments: arguments.update(compute=Compute(threads=7)),
    "settings": lambda network, data, arguments: arguments.update(
        logmel=arguments["logmel"].model_copy(update={"hop": 9})
    ),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_what_a_training_depends_on_is_told_apart(begin, changed):
    network, data, logmel = begin()
    arguments = {"logmel": logmel, "compute": Compute(), "device": CPU, "code": "this"}
    before = loop.identity(network, data, **arguments)
    assert before == loop.identity(network, data, **arguments)
    CHANGES[changed](network, data, arguments)
    after = loop.identity(network, data, **arguments)
    assert [name for name in before if before[name] != after[name]] == [changed]


def test_other_settings_are_another_training(begin):
    arguments = {"compute": Compute(), "device": CPU, "code": "this"}
    network, data, logmel = begin()
    other, other_data, _ = begin(SETTINGS.model_copy(update={"rate": 2e-3}))
    first = loop.identity(network, data, logmel, **arguments)
    second = loop.identity(other, other_data, logmel, **arguments)
    assert [name for name in first if first[name] != second[name]] == ["settings"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with checkpoints.stopping() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(number) is before


@pytest.mark.slow
def test_the_script_saves_on_sigterm_and_goes_on(cache_path, start, tmp_path):
    begin, kept = tmp_path / "start.safetensors", tmp_path / "kept/fan.safetensors"
    weights.save(begin, start[0], LITE1)
    out, curve, log = tmp_path / "fan.safetensors", tmp_path / "fan.csv", tmp_path / "log"
    flags = ["--cache", cache_path, "--start", begin, "--epochs", 8, "--batch", 5, "--warmup", 1, "--threads", 1]
    command = [sys.executable, TRAIN, *flags, "--out", out, "--curve", curve, "--checkpoint", kept]

    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), stderr=file)
        while "epoch 2 of 8" not in log.read_text() and process.poll() is None:
            time.sleep(0.02)
        process.terminate()
        assert process.wait() == 143, log.read_text()
    assert "the same command continues from there" in log.read_text()
    assert not out.exists()
    with safetensors.safe_open(kept, "pt") as file:
        assert json.loads(file.metadata()["notes"])["epoch"] >= 2
    with log.open("w") as file:
        subprocess.run(list(map(str, command)), stderr=file, check=True)
    assert f"{kept}: continuing after epoch" in log.read_text()
    assert not kept.exists()

    settings = Training(epochs=8, batch=5, warmup=1)
    with open_cache(cache_path) as cache:
        network = training.begin(start, cache, settings, cache_path)
        data = training.training_set(cache, network.description, settings, CPU)
        training.measure(network, data.spectrograms)
        expected = training.train(network, data, settings, cache.settings)
    loop.write_curve(tmp_path / "expected.csv", expected)
    assert curve.read_bytes() == (tmp_path / "expected.csv").read_bytes()
    state = load(out).state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
