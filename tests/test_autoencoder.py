"""The autoencoder of the official baselines, against values computed clip by clip and frame by frame."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from asd import kinds
from asd.autoencoder import CONTEXT, Description, Network, TrainingSet, in_context, measure, prepared, train
from asd.cache import open_cache
from asd.errors import InputError
from asd.network import save
from asd.settings import Autoencoder, LogMel, Training

CPU = torch.device("cpu")
FAST = Training(kind="autoencoder", seed=1, autoencoder=Autoencoder(epochs=8, batch=32, rate=2e-2))


def test_it_has_the_parameters_of_the_baseline():
    network = Network(Description("fan", 128, 2, ""))
    assert sum(parameter.numel() for parameter in network.parameters()) == 267_928
    assert [layer.out_features for layer in network.layers if isinstance(layer, torch.nn.Linear)] == [
        *(128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    ]


def test_an_input_is_five_frames_one_after_another():
    logmel = torch.arange(2 * 3 * 7.0).reshape(2, 3, 7)  # (clips, mels, frames)
    inputs = in_context(logmel)
    assert inputs.shape == (2, 3, 15)
    for clip in range(2):
        for start in range(3):
            expected = np.concatenate([logmel[clip, :, start + frame] for frame in range(CONTEXT)])
            np.testing.assert_array_equal(inputs[clip, start], expected)
    data = TrainingSet(logmel, torch.zeros(2, dtype=bool), torch.arange(6))
    chosen, clip = data.inputs(torch.tensor([4, 0]))
    np.testing.assert_array_equal(chosen, inputs.flatten(0, 1)[[4, 0]])
    assert clip.tolist() == [1, 0]


def small(domains: int = 2, clips: int = 6, mels: int = 4, frames: int = 30) -> tuple[Network, TrainingSet]:
    torch.manual_seed(0)
    spectrograms = torch.randn(clips, mels, frames)
    target = torch.arange(clips) >= (clips - 2 if domains == 2 else clips)
    network = Network(Description("fan", mels, domains, "")).eval()
    return network, TrainingSet(spectrograms, target, torch.arange(clips * (frames - CONTEXT + 1)))


def frames_of(network: Network, clip: torch.Tensor) -> np.ndarray:
    """The residuals of the single frames of a clip (mels, frames), input by input, (5 · inputs, mels)."""
    rows = []
    for start in range(clip.shape[1] - CONTEXT + 1):
        x = clip[:, start : start + CONTEXT].T.reshape(1, -1)
        with torch.no_grad():
            rows.append((x - network.layers(x)).double().numpy().reshape(CONTEXT, -1))
    return np.concatenate(rows)


@pytest.mark.parametrize("domains", [1, 2])
def test_the_scores_are_those_computed_by_hand(domains):
    network, data = small(domains)
    measure(network, data, batch=10_000, random=torch.Generator().manual_seed(0))  # a single batch
    residuals = [frames_of(network, clip) for clip in data.spectrograms]
    groups = [range(4), range(4, 6)] if domains == 2 else [range(6)]
    coded, proper = [], []
    for group in groups:
        rows = np.concatenate([residuals[clip] for clip in group])
        centred = rows - rows.mean(0)
        coded.append(np.linalg.inv(centred.T @ centred / (len(rows) / CONTEXT - 1)))
        proper.append(np.linalg.inv(np.cov(rows.T)))
    new = torch.randn(3, 4, 30)
    with torch.no_grad():
        found = network.vectors(new).numpy()
    assert found.shape == (3, sum(network.widths))
    for clip, scores in zip(new, found, strict=True):
        rows = frames_of(network, clip)
        mean = rows.mean(0)
        expected = [
            np.mean(rows**2),
            min(mean @ one @ mean for one in coded),
            min(np.mean([row @ one @ row for row in rows]) for one in proper),
        ]
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_the_coded_covariance_is_about_the_mean_of_each_batch():
    network, data = small(domains=1)
    measure(network, data, batch=16, random=torch.Generator().manual_seed(3))
    order = torch.randperm(len(data.kept), generator=torch.Generator().manual_seed(3))
    total = np.zeros((4, 4))
    for part in order.split(16):
        with torch.no_grad():
            rows = network.residuals(data.inputs(part)[0]).double().numpy().reshape(-1, 4)
        total += (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    np.testing.assert_allclose(network.as_coded[0], np.linalg.inv(total / (len(order) - 1)), rtol=1e-6)


def test_a_tenth_is_not_learned_from(cache_path):
    with open_cache(cache_path) as opened:
        each = opened.frames - CONTEXT + 1
        clips = (opened.clips["split"] == "train").sum()
        _, last = prepared(None, opened, FAST, None, CPU)
        random = Training(kind="autoencoder", autoencoder=Autoencoder(validation="random"))
        _, drawn = prepared(None, opened, random, None, CPU)
    count = clips * each
    assert last.kept.tolist() == list(range(count - count // 10))
    assert len(set(drawn.kept.tolist())) == len(drawn.kept) == count - count // 10
    assert drawn.kept.max() > last.kept.max()


def test_training_lowers_the_error_and_is_the_same_each_time(cache_path, tmp_path):
    with open_cache(cache_path) as opened:
        runs = []
        for _ in range(2):
            network, data = prepared(None, opened, FAST, None, CPU)
            curve = train(network, data, FAST, LogMel())
            runs.append(network)
        logmel = data.spectrograms[:3]
    assert curve[-1].loss < 0.7 * curve[0].loss
    assert np.isnan(curve[0].section_accuracy)
    for first, again in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        np.testing.assert_array_equal(first, again)
    save(tmp_path / "fan.safetensors", runs[0])
    read = kinds.load(tmp_path / "fan.safetensors")
    with torch.no_grad():
        np.testing.assert_array_equal(read.vectors(logmel), runs[0].vectors(logmel))
        noise = logmel + 20 * torch.randn(logmel.shape, generator=torch.Generator().manual_seed(0))
        assert (read.vectors(noise) > read.vectors(logmel)).all()


def test_bad_input(cache_path):
    with open_cache(cache_path) as opened:
        whole = opened.clips
        object.__setattr__(opened, "clips", whole[whole["split"] == "test"])
        with pytest.raises(InputError, match="no training clips; a network needs normal recordings"):
            prepared(None, opened, FAST, None, CPU)
    with pytest.raises(ValidationError, match=r"autoencoder\.validation"):
        Training(kind="autoencoder", autoencoder={"validation": "first"})
