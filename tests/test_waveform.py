"""The network of the waveform: its shapes, what it computes, how it learns, and that detectors score by it."""

import copy
import json
import math

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from conftest import call, manifest, manifest_row
from torch import nn

from asd import fitting, loop, waveform
from asd import network as networks
from asd.cache import open_cache
from asd.checkpoint import Checkpoint, Stopped
from asd.detector import Detector
from asd.errors import InputError
from asd.export import exportable
from asd.features import open_features
from asd.kinds import load
from asd.network import ALL
from asd.settings import Compute, CosineLoss, LogMel, Training, Windows
from asd.settings import Waveform as Settings
from asd.soundfiles import FULL_SCALE
from asd.waveform import SHORTEST, Description, Network, of_length, of_recording, pieces

CPU = torch.device("cpu")
FIXED = CosineLoss(trainable=False)


def describe(samples=16000, resolutions=(1024,), labels=("a", "b")):
    return Description("fan", 16000, samples, tuple(resolutions), tuple(labels), "")


def make(**description) -> Network:
    torch.manual_seed(0)
    return Network(describe(**description))


# The recipe's table for 10 s at 16 kHz: window -> bins and frames, and channels, height and width after the last block.
BRANCHES = {
    1024: ((500, 313), (128, 16, 10)),
    256: ((125, 1251), (128, 4, 39)),
    4096: ((1997, 79), (128, 63, 3)),
}


@pytest.mark.parametrize(("resolutions", "millions"), [((1024,), 2.50), ((256, 1024, 4096), 5.00)])
def test_shapes_and_parameters_are_those_of_the_recipe(resolutions, millions):
    network = make(samples=160000, resolutions=resolutions).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    sound = torch.randn(1, 160000)
    with torch.inference_mode():
        for branch, window in zip(network.spectrograms, resolutions, strict=True):
            found = branch.spectrogram(sound)
            assert (found.shape[1:], branch.layers(branch.norm(found)[:, None]).shape[1:]) == BRANCHES[window]
        spectrum = torch.fft.rfft(sound).abs()
        assert spectrum.shape == (1, 80001)
        assert network.spectrum.convolutions(spectrum[:, None]).shape == (1, 128, 6)
        assert network.embed(sound).shape == (1, 128 * (1 + len(resolutions)))
    assert network.widths == [128 * (1 + len(resolutions))]


def test_no_layer_has_a_bias_and_norms_have_no_scale():
    names = [name for name, _ in make(resolutions=(256, 1024)).named_parameters()]
    assert not [name for name in names if name.endswith("bias")]
    norms = [layer for layer in make().modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 5 + 1 + 1 + 2 * 8 + 1  # spectrum, bins, first convolution, blocks, before the last layer
    assert not [layer for layer in norms if layer.affine]


def test_the_shortest_clip_is_one_value_of_the_last_kernel():
    assert waveform.SpectrumBranch(SHORTEST).dense[0][0].in_features == 128
    with pytest.warns(UserWarning, match="zero-element"):
        assert waveform.SpectrumBranch(SHORTEST - 2).dense[0][0].in_features == 0


def test_the_spectrogram_is_that_of_scipy():
    sound = np.random.default_rng(0).normal(size=8000)
    branch = waveform.SpectrogramBranch(256, 16000)
    found = branch.spectrogram(torch.from_numpy(sound)[None].float())[0].numpy()
    window = scipy.signal.get_window("hann", 256)
    padded = np.pad(sound, 128)
    frames = np.stack([padded[begin : begin + 256] * window for begin in range(0, len(padded) - 255, 128)], 1)
    expected = np.abs(np.fft.rfft(frames, axis=0))[4:] / np.linalg.norm(window)  # bin 4 is at 250 Hz, bin 3 at 187.5
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_squeeze_excitation_by_hand():
    layer = waveform.SqueezeExcitation(32)
    x = torch.randn(3, 32, 4, 5)
    with torch.inference_mode():
        found = layer(x).numpy()
    squeeze, excite = (one.weight.detach().numpy() for one in (layer.squeeze, layer.excite))
    assert squeeze.shape == (2, 32)  # a sixteenth
    hidden = np.maximum(x.numpy().mean((2, 3)) @ squeeze.T, 0)
    weight = 1 / (1 + np.exp(-hidden @ excite.T))
    np.testing.assert_allclose(found, x.numpy() * weight[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_the_skip_of_a_block_is_taken_after_its_norm():
    block = waveform.Block(16, 16).eval()
    block.norm.running_mean.normal_()
    for convolution in (layer for layer in block.body if isinstance(layer, nn.Conv2d)):
        nn.init.zeros_(convolution.weight)
    x = torch.randn(2, 16, 6, 7)
    expected = (x - block.norm.running_mean[:, None, None]) / math.sqrt(1 + block.norm.eps)
    torch.testing.assert_close(block(x), expected)
    assert waveform.Block(16, 32)(x).shape == (2, 32, 3, 4)


def test_the_embedding_is_the_maximum_over_time():
    """A click somewhere gives what a click elsewhere gives, as far as frames lie alike."""
    branch = waveform.SpectrogramBranch(1024, 16000).eval()
    first, second = torch.zeros(1, 160000), torch.zeros(1, 160000)
    first[0, 32768], second[0, 32768 + 32 * 512] = 1, 1  # 32 frames: the product of all strides
    with torch.inference_mode():
        values, shifted = branch(first), branch(second)
    assert (values - shifted).abs().max() < 0.02 * values.abs().max()  # nearly: the ends of the clip are a little seen


def test_sound_is_repeated_or_cut_to_a_length():
    sound = torch.arange(5)[None]
    assert of_length(sound, 12).tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]]
    assert of_length(sound, 3).tolist() == [[0, 1, 2]]
    assert pieces(5, 5).tolist() == [0]
    assert pieces(3, 5).tolist() == [0]
    assert pieces(10, 5).tolist() == [0, 5]
    assert pieces(12, 5).tolist() == [0, 5, 7]
    assert of_recording(torch.arange(12), 5).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [7, 8, 9, 10, 11]]
    assert of_recording(torch.arange(2), 5).tolist() == [[0, 1, 0, 1, 0]]


def test_labels_are_machine_section_attributes_and_domain():
    rows = [manifest_row("a.wav", v="1"), manifest_row("b.wav", section="01") | {"domain": "target"}]
    clips = manifest(*rows, manifest_row("c.wav") | {"domain": ""})
    assert waveform.labels_of(clips, "fan") == ["00 v_1 source", "01 target", "00"]
    assert waveform.labels_of(clips, ALL) == ["fan 00 v_1 source", "fan 01 target", "fan 00"]


@pytest.fixture
def begun(cache_path):
    def begin(seed=3, **settings):
        chosen = Training(kind="waveform", seed=seed, waveform=Settings(**settings))
        with open_cache(cache_path) as cache:
            return *waveform.prepared(None, cache, chosen, None, CPU), chosen

    return begin


def test_clips_that_are_streamed_give_the_same_network(cache_path, monkeypatch):
    chosen = Training(kind="waveform", waveform=Settings(epochs=1, batch=6))
    states = []
    for held in (1e9, 0):
        monkeypatch.setattr("asd.streaming.HELD", held)
        with open_cache(cache_path) as cache:
            network, data = waveform.prepared(None, cache, chosen, None, CPU)
            assert isinstance(data.waveform, torch.Tensor) == (held > 0)
            waveform.train(network, data, chosen, LogMel())
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_classes_are_those_of_the_training_clips_only(begun, cache_path):
    network, data, _ = begun()
    with open_cache(cache_path) as cache:
        training = cache.clips[cache.clips["split"] == "train"]
        assert set(waveform.labels_of(cache.clips, "fan")) > set(network.description.labels)
    assert [network.description.labels[one] for one in data.label] == waveform.labels_of(training, "fan")


def test_norms_begin_with_the_statistics_of_the_training_clips(begun):
    network, data, _ = begun()
    assert not network.training
    sound = data.waveform[:12].float() / FULL_SCALE
    assert len(data.waveform) == 12
    with torch.inference_mode():
        found = network.spectrograms[0].spectrogram(sound)
        norm = network.spectrograms[0].norm
        torch.testing.assert_close(norm.running_mean, found.mean((0, 2)), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(norm.running_var, found.var((0, 2)), rtol=1e-3, atol=1e-9)
        known = network.embed(sound)
        of_batch = copy.deepcopy(network).train().embed(sound)
    # Nearly: the running variances are divided by n - 1, and those of the batch by n.
    assert (known - of_batch).norm() < 0.3 * of_batch.norm()


def test_short_clips_are_said_to_be_repeated(begun, caplog):
    with caplog.at_level("INFO"):
        begun()
    assert "for the spectrum, clips of 1.00 s are repeated to 4.38 s" in caplog.text


def test_training_learns_the_classes_and_repeats_itself(begun):
    states = []
    for disturbance in range(2):
        torch.manual_seed(disturbance)
        network, data, settings = begun(epochs=0, steps=9, batch=6, mixup=0.5)
        curve = waveform.train(network, data, settings, LogMel())
        assert [epoch.epoch for epoch in curve] == [1, 2, 3, 4, 5]  # two steps each
        assert curve[-1].loss < curve[0].loss
        assert math.isnan(curve[0].attribute_accuracy)
        assert not network.training
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("settings", "clips", "epochs"),
    [
        (Settings(epochs=3, steps=0), 640, 3),
        (Settings(epochs=0, steps=100), 640, 10),
        (Settings(epochs=16, steps=100), 36, 100),  # one step each
        (Settings(epochs=16, steps=100), 64000, 1),  # a thousand steps each
        (Settings(epochs=0, steps=0), 36, 0),
    ],
)
def test_steps_are_the_same_for_few_clips_and_for_many(settings, clips, epochs):
    assert settings.plan(clips) == (min(64, clips), epochs)
    assert Training(kind="waveform", waveform=settings).learns == (epochs > 0)


def test_a_step_has_the_loss_and_the_gradients_of_the_plain_recipe(begun):
    """Mixed by hand: waveforms and one-hot labels, then a cross-entropy."""
    network, data, settings = begun(mixup=0.5, batch=6)
    classifier = waveform.Classifier(network, settings).train()
    plain = copy.deepcopy(classifier)
    recipe = waveform.recipe(classifier, data, settings.waveform, 0)
    rows = torch.tensor([3, 1, 4, 0, 5, 9])
    loss, _ = recipe.step(rows, torch.Generator().manual_seed(7))
    loss.backward()

    random = torch.Generator().manual_seed(7)
    chance, share = torch.rand(2, 6, generator=random)
    share[chance >= 0.5] = 1
    partner = torch.randperm(6, generator=random)
    assert 0 < (share < 1).sum() < 6
    sound, one_hot = data.waveform[rows] / 32768, nn.functional.one_hot(data.label[rows], 4).float()
    sound, one_hot = (share[:, None] * one + (1 - share[:, None]) * one[partner] for one in (sound, one_hot))
    embedding = plain.network.embed(sound)
    centres = plain.loss.weight
    cosine = embedding @ centres.T / embedding.norm(dim=1)[:, None] / centres.norm(dim=1)
    p = (math.sqrt(2) * math.log(63) * cosine).softmax(1).reshape(6, 4, 16).sum(2)
    expected = -(one_hot * p.log()).sum(1).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    whole = torch.stack([one.grad.norm() for one in plain.parameters()]).norm()
    for (name, one), other in zip(classifier.named_parameters(), plain.parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 1e-3 * other.grad.norm() + 1e-5 * whole, name


def test_the_loss_of_exchanged_values_is_that_of_soft_labels(begun):
    """FeatEx, clip by clip: the values of the other clip's spectrograms, and its label in a third group of classes."""
    network, data, settings = begun(mixup=0.5, exchange=0.5, batch=6, resolutions=[256, 1024], loss=FIXED)
    classifier = waveform.Classifier(network, settings).train()
    plain = copy.deepcopy(classifier)
    rows = torch.tensor([3, 1, 4, 0, 5, 9])
    loss, _ = waveform.recipe(classifier, data, settings.waveform, 0).step(rows, torch.Generator().manual_seed(7))
    loss.backward()

    random = torch.Generator().manual_seed(7)
    chance, share = torch.rand(2, 6, generator=random)
    share[chance >= 0.5] = 1
    partner = torch.randperm(6, generator=random)
    exchanged = torch.rand(6, generator=random) < 0.5
    other = torch.randperm(6, generator=random)
    assert 0 < exchanged.sum() < 6
    sound, one_hot = data.waveform[rows] / 32768, nn.functional.one_hot(data.label[rows], 4).float()
    sound, label = (share[:, None] * one + (1 - share[:, None]) * one[partner] for one in (sound, one_hot))
    embedding = plain.network.embed(sound)
    values, labels = [], []
    for clip, taken in enumerate(other.tolist()):
        if exchanged[clip]:
            values.append(torch.cat([embedding[clip, :128], embedding[taken, 128:]]))
            labels.append(torch.cat([torch.zeros(4), label[clip] / 2, label[taken] / 2]))
        else:
            values.append(embedding[clip])
            labels.append(torch.cat([label[clip], torch.zeros(8)]))
    expected = 0
    for x, y, centres in ((embedding, label, plain.loss), (values, labels, plain.exchanged)):
        x, y, classes = torch.stack(list(x)), torch.stack(list(y)), len(y[0])
        cosine = nn.functional.normalize(x) @ nn.functional.normalize(centres.weight).T
        p = (math.sqrt(2) * math.log(classes * 16 - 1) * cosine).softmax(1).reshape(6, classes, 16).sum(2)
        expected = expected - (y * p.log()).sum(1).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert classifier.loss.weight.grad is None  # fixed, while the centres of the second loss always learn
    whole = torch.stack([one.grad.norm() for one in plain.parameters() if one.requires_grad]).norm()
    for (name, one), same in zip(classifier.named_parameters(), plain.parameters(), strict=True):
        if one.requires_grad:
            assert (one.grad - same.grad).norm() < 1e-3 * same.grad.norm() + 1e-5 * whole, name


def test_fixed_centres_stay_as_they_are_drawn(begun):
    network, data, settings = begun(epochs=1, batch=6, loss=FIXED)
    classifier = waveform.Classifier(network, settings)
    before = classifier.loss.weight.clone()
    loop.run(classifier.train(), waveform.recipe(classifier, data, settings.waveform, 3))
    assert torch.equal(classifier.loss.weight, before)


def test_an_interrupted_training_ends_as_an_undisturbed_one(begun, tmp_path):
    network, data, settings = begun(epochs=2, batch=6, exchange=0.5)
    expected = waveform.train(network, data, settings, LogMel())
    state = network.state_dict()
    network, data, _ = begun(epochs=2, batch=6, exchange=0.5)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", {})
    checkpoint.stop.set()  # after the first step
    with pytest.raises(Stopped):
        waveform.train(network, data, settings, LogMel(), checkpoint=checkpoint)
    network, data, _ = begun(epochs=2, batch=6, exchange=0.5)
    again = waveform.train(network, data, settings, LogMel(), checkpoint=Checkpoint(tmp_path / "c.safetensors", {}))
    assert str(again) == str(expected)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def without(cache_path, clips):
    with open_cache(cache_path) as cache:
        pass
    return type(cache)(cache.path, cache.file, clips, cache.settings)


def test_what_cannot_be_learned_from_is_refused(cache_path):
    with pytest.raises(InputError, match=r"fan\.h5: found a single training clip; this network needs two"):
        waveform.prepared(None, without(cache_path, manifest(manifest_row("a.wav"))), Training(), None, CPU)


def test_a_batch_that_no_memory_holds_is_refused(cache_path, monkeypatch):
    monkeypatch.setattr(waveform, "memory", lambda device: 1e6)
    settings = Training(kind="waveform")
    with open_cache(cache_path) as cache:
        with pytest.raises(InputError, match=r"for a batch of 12 clips of 1 s; this machine has 0 GB.*waveform\.batch"):
            waveform.prepared(None, cache, settings, None, CPU)
        waveform.prepared(None, cache, settings.untrained, None, CPU)


def test_a_single_class_leaves_the_random_weights(begun, caplog):
    _network, data, settings = begun(epochs=1)
    single = Network(describe(labels=("00",)))
    assert waveform.train(single, data, settings, LogMel()) == []
    assert "nothing to tell apart" in caplog.text


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache_path):
    """A network by the scripts train.py and features.py."""
    folder = tmp_path_factory.mktemp("made")
    settings = Training(kind="waveform", waveform=Settings(epochs=1, batch=6, resolutions=[256, 1024]))
    compute = Compute(device="cpu", threads=1)
    network, curve = folder / "network.safetensors", folder / "curve.csv"
    call("train", cache=[cache_path], settings=settings, compute=compute, out=network, curve=curve)
    call("features", cache=cache_path, network=network, settings=Windows(), compute=compute, out=folder / "f.h5")
    return folder


def test_features_are_the_embeddings_of_the_clips(made, cache_path):
    network = load(made / "network.safetensors").for_scoring()
    assert network.description.resolutions == (256, 1024)
    with open_features(made / "f.h5") as features, open_cache(cache_path) as cache:
        assert features.widths.tolist() == [384]
        for row in (0, 17):
            sound = torch.from_numpy(cache.read_waveform([row]))
            with torch.inference_mode():
                expected = network.embed(sound.float() / 32768)
            np.testing.assert_allclose(features.rows(row, row + 1), expected, rtol=1e-3, atol=1e-4)


def test_a_network_survives_its_file(tmp_path):
    before = make(resolutions=(256,)).eval()
    before.spectrograms[0].norm.running_mean.normal_()
    networks.save(tmp_path / "network.safetensors", before)
    after = load(tmp_path / "network.safetensors")
    assert after.description == before.description
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())


@pytest.fixture(scope="module", params=["knn", "gaussian"])
def detector(request, cache_path, tmp_path_factory):
    """A detector of the waveform, by the functions of the stages, with the scores of its clips."""
    folder = tmp_path_factory.mktemp("fit")
    corpus = cache_path.parent
    overlay = folder / "overlay.yaml"
    model = {"title": "Waveform", "network": "waveform", "detector": request.param}
    model |= {"knn": {"metric": "cosine", "smote": 0.2}} if request.param == "knn" else {"domains": "nearest"}
    overlay.write_text(
        json.dumps(
            {
                "networks": {"waveform": {"kind": "waveform", "waveform": {"epochs": 1, "steps": 0, "batch": 6}}},
                "models": {"waveform": model},
                "check": {"refuse": []},
            }
        )
    )
    settings = fitting.configured((overlay,), corpus, "fan")
    with open_cache(cache_path) as cache:
        clips = cache.clips.assign(path=[str(corpus / path) for path in cache.clips["path"]])
    made = fitting.fit(clips, "waveform", settings, folder / "fan.zip", CPU, folder)
    return Detector.load(folder / "fan.zip"), made.scores, clips


def test_a_detector_scores_recordings_as_the_workflow_scored_them(detector):
    loaded, scores, clips = detector
    test = scores[scores["split"] == "test"]
    paths = dict(zip(clips["file"], clips["path"], strict=True))
    for row in test.itertuples():
        sound, rate = soundfile.read(paths[row.file], dtype="int16")
        found = loaded.score(sound, rate, row.section)
        assert found.score == pytest.approx(row.score, rel=1e-3, abs=1e-6)
        assert found.worst is None


def test_a_long_recording_is_scored_piece_by_piece(detector):
    loaded, _, clips = detector
    first, second = (soundfile.read(path, dtype="int16")[0] for path in clips["path"][:2])
    own = [loaded.score(sound, 16000, "00").score for sound in (first, second)]
    both = loaded.score(np.concatenate([first, second]), 16000, "00")
    assert both.times.tolist() == [0.5, 1.5]
    np.testing.assert_allclose(both.windows.mean(), both.score, rtol=1e-6)
    if both.windows == pytest.approx(own, rel=1e-3):  # as the same domain
        assert both.score == pytest.approx(np.mean(own), rel=1e-3)
    assert both.worst == both.times[both.windows.argmax()]


def test_a_detector_of_the_waveform_is_no_graph(detector):
    with pytest.raises(InputError, match="Waveform: cannot be a graph: found"):
        exportable(detector[0])
