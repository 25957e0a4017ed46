"""MobileNetV2 of the official baseline: its size, its windows, its training and its scores."""

import numpy as np
import pytest
import torch

from asd import exposure, kinds
from asd.cache import open_cache
from asd.errors import InputError
from asd.features import write_features
from asd.mobilenet import Description, Network, prepared, train
from asd.network import save
from asd.settings import LogMel, Mobilenet, Training, Windows

CPU = torch.device("cpu")
FAST = Training(
    kind="mobilenet",
    seed=1,
    mobilenet=Mobilenet(epochs=4, batch=8, rate=3e-3, momentum=0.3, window=32, hop=8),
)


def test_it_has_the_parameters_of_keras():
    """MobileNetV2(alpha=0.5, weights=None) of Keras has 1,987,224 parameters, with the statistics of its norms."""
    network = Network(Description("fan", tuple(map(str, range(1000))), "", 0.001))
    statistics = [value for name, value in network.named_buffers() if "running" in name]
    count = sum(value.numel() for value in (*network.parameters(), *statistics))
    assert count == 1_987_224
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.001)}


def test_it_sees_frames_by_mels_in_three_equal_channels():
    network = Network(Description("fan", ("00", "01"), "", 0.1)).eval()
    logmel = torch.randn(2, 128, 64)
    image = torch.stack([logmel.transpose(1, 2)] * 3, 1)
    assert image.shape == (2, 3, 64, 128)
    with torch.no_grad():
        np.testing.assert_array_equal(network.vectors(logmel), network.backbone(image))
        assert network.vectors(logmel).shape == (2, 1280)


@pytest.fixture(scope="module")
def trained(cache_path):
    with open_cache(cache_path) as opened:
        network, data = prepared(None, opened, FAST, None, CPU)
        return network, data, train(network, data, FAST, LogMel())


def test_it_learns_the_sections_from_all_windows(trained, cache_path):
    network, data, curve = trained
    assert network.description.section_labels == ("00", "01")
    with open_cache(cache_path) as opened:
        frames = opened.frames
        clips = opened.clips[opened.clips["split"] == "train"]
    assert data.start.tolist() == list(range(0, frames - 31, 8)) * len(clips)
    assert [str(network.description.section_labels[one]) for one in data.section] == clips["section"].tolist()
    assert curve[-1].section_accuracy > 0.9
    assert np.isnan(curve[-1].attribute_accuracy)


def test_its_score_is_the_mean_over_windows_of_the_log_odds(trained, cache_path, tmp_path):
    network, _, _ = trained
    save(tmp_path / "fan.safetensors", network)
    read = kinds.load(tmp_path / "fan.safetensors").for_scoring()
    windows = Windows(window=32, hop=8, test_hop=1)
    with open_cache(cache_path) as opened:
        found = exposure.scores(read, opened, windows, CPU)
        write_features(tmp_path / "fan.h5", read, opened, windows, CPU)
        for clip in (0, len(opened.clips) - 1):
            hop = 8 if opened.clips["split"].iloc[clip] == "train" else 1
            logmel = torch.from_numpy(opened.read_logmel(np.array([clip])))[0]
            own = int(opened.clips["section"].iloc[clip])
            scores = []
            for start in range(0, opened.frames - 31, hop):
                with torch.no_grad():
                    logits = network.section(network.embed(logmel[None, :, start : start + 32]))
                p = logits.double().softmax(1)[0, own]
                scores.append(float(torch.log(1 - p) - torch.log(p)))
            assert found[clip] == pytest.approx(np.mean(scores), rel=1e-3, abs=1e-3)


def test_windows_longer_than_the_clips_are_refused(cache_path):
    settings = Training(kind="mobilenet", mobilenet=Mobilenet(window=4000))
    with open_cache(cache_path) as opened, pytest.raises(InputError, match=r"window: found 4000 frames, but the clips"):
        prepared(None, opened, settings, None, CPU)
