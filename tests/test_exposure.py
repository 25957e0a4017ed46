"""The classifier's doubt: exact where p is near 1 or 0, the mean over windows, and refused where there is none."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asd import exposure
from asd.cache import open_cache
from asd.errors import InputError
from asd.network import Description, Network
from asd.settings import Windows


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8), st.integers(0, 7))
@settings(deadline=None, max_examples=50)
def test_doubt_is_the_formula_of_the_baseline(logits, section):
    section %= len(logits)
    z = np.array(logits, dtype=np.float64)
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    others = np.delete(p, section).sum()  # 1 - p without its cancellation
    found = exposure.doubt(torch.tensor(z)[None], torch.tensor([section]))
    assert float(found) == pytest.approx(math.log(others) - math.log(p[section]), abs=1e-9)


def test_doubt_never_overflows():
    logits = torch.tensor([[1e4, 0.0, 0.0], [-1e4, 0.0, 0.0]])
    found = exposure.doubt(logits, torch.tensor([0, 0]))
    assert found.tolist() == pytest.approx([math.log(2) - 1e4, math.log(2) + 1e4])


def network_of(sections, attributes=("a", "b")):
    return Network(Description("tf_efficientnet_lite1", "fan", 1, sections, attributes, "{}")).eval()


def test_a_clip_is_the_mean_of_its_windows(cache_path):
    network = network_of(("00", "01", "00 equalised", "01 equalised"))
    network.section.scale.fill_(5)
    cut = Windows(window=24, hop=8, test_hop=4)
    with open_cache(cache_path) as cache, torch.inference_mode():
        found = exposure.scores(network, cache, cut, torch.device("cpu"))
        for clip in (0, len(found) - 1):
            hop = 8 if cache.clips["split"][clip] == "train" else 4
            logmel = torch.from_numpy(cache.read_logmel([clip]))
            section = torch.tensor([("00", "01").index(cache.clips["section"][clip])])
            each = [
                exposure.doubt(network.section(network.embed(network.standardise(logmel[..., s : s + 24]))), section)
                for s in range(0, cache.frames - 23, hop)
            ]
            assert found[clip] == pytest.approx(float(torch.cat(each).mean()), abs=1e-4)


def test_a_single_section_label_is_refused(cache_path):
    with open_cache(cache_path) as cache, pytest.raises(InputError, match="fan: the network knows a single section"):
        exposure.scores(network_of(("00",)), cache, Windows(), torch.device("cpu"))


def test_a_section_without_training_clips_is_named(cache_path):
    with open_cache(cache_path) as cache, pytest.raises(InputError, match="section 01 has test clips, but"):
        exposure.scores(network_of(("00", "02")), cache, Windows(), torch.device("cpu"))
