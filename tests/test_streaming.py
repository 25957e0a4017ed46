"""Training sets that are read batch by batch: the same network as from memory, in little memory."""

import logging
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from asd import loop, streaming, training, weights
from asd.cache import Joined, open_cache
from asd.checkpoint import tensors_digest
from asd.settings import Backbone, Compute, Equaliser, Mixup, Training

CPU = torch.device("cpu")
LITE1 = Backbone(weights="none")
START = weights.fetch(LITE1), {"content": "weights", "backbone": LITE1.name}


@pytest.mark.parametrize("scope", ["machine", "all"])
def test_a_streamed_training_gives_the_same_network_to_the_bit(cache_path, monkeypatch, caplog, scope):
    equaliser, mixup = Equaliser(probability=0.5), Mixup(alpha=0.4)
    settings = Training(scope=scope, epochs=2, batch=5, warmup=1, centre=True, equaliser=equaliser, mixup=mixup)
    caplog.set_level(logging.INFO)
    found = []
    for held in (10**9, 100_000):
        monkeypatch.setattr(streaming, "HELD", held)
        with ExitStack() as stack:
            caches = [stack.enter_context(open_cache(cache_path)) for _ in range(2)]
            cache = Joined(caches) if scope == "all" else caches[0]
            network, data = training.prepared(START, cache, settings, cache_path, CPU)
            streams = [isinstance(one, streaming.Streamed) for one in (data.spectrograms, data.waveform)]
            assert streams == [held < 10**9] * 2
            of = loop.identity(network, data, cache.settings, Compute(), CPU, "code")
            curve = training.train(network, data, settings, cache.settings)
        found.append((of, curve, tensors_digest(network.state_dict().values())))
    assert found[0] == found[1]
    assert caplog.text.count("read batch by batch") == 1


def test_streamed_clips_are_those_of_the_tensor():
    values = np.random.default_rng(0).standard_normal((9, 3, 4), np.float32)
    rows = np.array([8, 1, 2, 5, 7])
    streamed, whole = streaming.Streamed(lambda some: values[some], rows, CPU), torch.from_numpy(values[rows])
    assert (len(streamed), streamed.shape, streamed.dtype) == (5, whole.shape, whole.dtype)
    chosen = torch.tensor([4, 0, 4])
    assert torch.equal(streamed[chosen], whole[chosen])
    for part, same in zip(streamed.split(2), whole.split(2), strict=True):
        assert torch.equal(part, same)
    (held,) = streaming.read_clips([(lambda some: values[some], CPU)], rows)
    assert torch.equal(held, whole)


@pytest.mark.parametrize(
    ("device", "memory", "held"), [("cpu", 1e12, False), ("cpu", 2400, False), ("cpu", 2500, True), ("meta", 0, False)]
)
def test_how_much_is_held(monkeypatch, device, memory, held):
    size = 10 * 3 * 10 * 4
    monkeypatch.setattr(streaming, "HELD", size - 1 if memory == 1e12 else size)
    monkeypatch.setattr(streaming, "memory", lambda device: memory - 1)
    (clips,) = streaming.read_clips(
        [(lambda rows: np.zeros((len(rows), 3, 10), np.float32), torch.device(device))], np.arange(10)
    )
    assert isinstance(clips, torch.Tensor) == held


PRETENDED = """
import sys
import numpy as np, psutil, torch
from asd import streaming

streaming.HELD = int(sys.argv[1])
read = lambda rows: np.full((len(rows), 128, 313), -60, np.float32)
before = psutil.Process().memory_info().rss
(clips,) = streaming.read_clips([(read, torch.device("cpu"))], np.arange(3000))
most = 0
for part in clips.split(64):
    part.double().sum()
    most = max(most, psutil.Process().memory_info().rss - before)
print(most)
"""


def test_a_corpus_that_is_larger_than_the_limit_takes_little_memory():
    size = 3000 * 128 * 313 * 4
    words = [sys.executable, "-c", PRETENDED]
    streamed, held = (int(subprocess.check_output([*words, str(limit)], text=True)) for limit in (10**8, 10**9))
    print(f"memory for {size / 1e6:.0f} MB of clips: {streamed / 1e6:.0f} MB streamed, {held / 1e6:.0f} MB held")
    assert streamed < size / 2 < 0.9 * size < held
