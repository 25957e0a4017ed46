"""Training: labels, statistics, the rate, what is done to a batch, and that it learns the same thing twice."""

import copy
import csv
import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from conftest import manifest, manifest_row

from asd import augment, loop, training, weights
from asd import network as networks
from asd.audio import as_float, log_mels
from asd.cache import open_cache
from asd.device import memory
from asd.errors import InputError
from asd.network import Description, Network
from asd.settings import Backbone, Equaliser, Faults, LogMel, Masks, Mixup, Training

LITE1 = Backbone(weights="none")
METADATA = {"content": "weights", "backbone": LITE1.name}


@pytest.fixture(scope="module")
def start():
    return weights.fetch(LITE1), METADATA


def test_labels_are_machine_wide_and_double_when_equalised():
    sections, attributes = training.labels(["01", "00", "01"], ["v_2", "v_1", ""], False)
    assert sections == ("00", "01")
    assert attributes == ("", "v_1", "v_2")
    assert training.labels(["00", "01"], ["", ""], True)[0] == ("00", "01", "00 altered", "01 altered")


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    rates = [training.learning_rate(step, steps=50, warmup=10) for step in range(50)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert rates[10:] == pytest.approx([(1 + math.cos(math.pi * k / 40)) / 2 for k in range(40)])
    assert training.learning_rate(0, steps=5, warmup=0) == 1
    assert training.learning_rate(3, steps=3, warmup=10) == 0.4  # a run that is shorter than its warm-up


@pytest.mark.parametrize(("bins", "axes"), [(1, (0, 1, 2)), (8, (0, 2))])
def test_input_statistics_are_those_of_numpy(bins, axes):
    network = Network(Description(LITE1.name, "fan", bins, ("a",), ("b",), "{}"))
    logmel = torch.randn(130, 8, 5) * 20 - 60
    training.measure(network, logmel)
    standardised = network.standardise(logmel).numpy().astype(np.float64)
    np.testing.assert_allclose(standardised.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axes), 1, rtol=1e-5)


def test_silence_does_not_divide_by_zero():
    network = Network(Description(LITE1.name, "fan", 1, ("a",), ("b",), "{}"))
    training.measure(network, torch.full((2, 8, 5), -100.0))
    assert network.standardise(torch.full((1, 8, 5), -100.0)).abs().max() == 0


@pytest.fixture
def begun(cache_path, start):
    def begin(**settings):
        chosen = Training(seed=3, **settings)
        with open_cache(cache_path) as cache:
            network = training.begin(start, cache, chosen, cache_path)
            data = training.training_set(cache, network.description, chosen, torch.device("cpu"))
            logmel = cache.settings
        training.measure(network, data.spectrograms)
        return network, data, chosen, logmel

    return begin


def batch_of(begun, **settings):
    network, data, chosen, logmel = begun(**settings)
    rows = torch.arange(len(data.spectrograms))
    return network, data, training._augmented(network, data, rows, chosen, logmel, torch.Generator().manual_seed(0))


def test_without_augmentation_a_batch_is_the_standardised_clips(begun):
    network, data, batch = batch_of(begun)
    assert torch.equal(batch.standardised, network.standardise(data.spectrograms))
    assert torch.equal(batch.section[0], data.section)
    assert (batch.weight == 1).all()


def test_mixup_mixes_inputs_and_both_labels_alike(begun):
    network, data, batch = batch_of(begun, mixup=Mixup(alpha=0.4))
    clean = network.standardise(data.spectrograms)
    # Which clip a second label belongs to is not kept, but the mixture must fit one with those labels.
    for i, weight in enumerate(batch.weight):
        mixtures = weight * clean[i] + (1 - weight) * clean
        fits = (mixtures - batch.standardised[i]).abs().amax((1, 2)) < 1e-3
        assert fits.any()
        assert batch.section[1][i] in data.section[fits]
        assert batch.attribute[1][i] in data.attribute[fits]


def test_equalised_clips_are_sections_of_their_own_with_their_attributes(begun):
    network, data, batch = batch_of(begun, equaliser=Equaliser(probability=0.5))
    assert network.description.section_labels == ("00", "01", "00 altered", "01 altered")
    equalised = batch.section[0] >= 2
    assert 0 < equalised.sum() < len(equalised)
    assert torch.equal(batch.section[0] % 2, data.section)
    assert torch.equal(batch.attribute[0], data.attribute)
    same = (batch.standardised - network.standardise(data.spectrograms)).abs().amax((1, 2)) == 0
    assert torch.equal(same, ~equalised)


def test_clips_with_a_generated_fault_are_sections_of_their_own(begun):
    network, data, batch = batch_of(begun, faults=Faults(probability=0.5), window=16)
    assert network.description.section_labels == ("00", "01", "00 altered", "01 altered")
    faulty = batch.section[0] >= 2
    assert 0 < faulty.sum() < len(faulty)
    assert torch.equal(batch.section[0] % 2, data.section)
    # The same random numbers, in order: the crops, then the faults.
    random = torch.Generator().manual_seed(0)
    cropped = augment.crop(data.spectrograms, 16, random)
    changed, chosen = augment.faults(cropped, Faults(probability=0.5), random)
    assert torch.equal(chosen, faulty)
    assert torch.equal(batch.standardised, network.standardise(changed))
    assert torch.equal(batch.standardised[~faulty], network.standardise(cropped)[~faulty])


def test_a_single_section_learns_to_tell_generated_faults(cache_path, start):
    chosen = Training(seed=3, epochs=1, batch=4, faults=Faults(probability=0.5), attributes=0)
    with open_cache(cache_path) as cache:
        single = dataclasses.replace(cache, clips=cache.clips.assign(section="00", attributes="{}"))
        network = training.begin(start, single, chosen, cache_path)
        data = training.training_set(single, network.description, chosen, torch.device("cpu"))
        training.measure(network, data.spectrograms)
        (epoch,) = training.train(network, data, chosen, cache.settings)
    assert network.description.section_labels == ("00", "00 altered")
    assert math.isfinite(epoch.loss)


def test_the_centre_is_the_mean_embedding_of_the_training_clips(begun):
    network, data, _, _ = begun(last_stage=4, bands=3, centre=True)
    assert network.centre.abs().max() == 0
    training.measure(network, data.spectrograms, centre=True)
    centre = network.centre.clone()
    training.measure(network, data.spectrograms, centre=True)
    torch.testing.assert_close(network.centre, centre)
    network.eval()
    with torch.inference_mode():
        pooled = network.features(network.standardise(data.spectrograms))[:, -network.widths[-1] :]
        torch.testing.assert_close(centre, pooled.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            network.embed(network.standardise(data.spectrograms)), pooled - centre, rtol=1e-4, atol=1e-5
        )


def test_a_network_of_the_first_stages_begins_with_their_pre_trained_weights(begun, start):
    network, *_ = begun(last_stage=6, bands=14)
    (tensors, _), state = start, network.state_dict()
    of_backbone = {name.removeprefix("backbone."): value for name, value in state.items() if "backbone." in name}
    left_out = ("blocks.5", "blocks.6", "conv_head", "bn2")
    assert set(of_backbone) == {name for name in tensors if not name.startswith(left_out)}
    assert all(torch.equal(tensors[name], value) for name, value in of_backbone.items())


def test_an_equaliser_without_gain_gives_the_log_mel_of_the_cache(begun):
    network, data, batch = batch_of(begun, equaliser=Equaliser(probability=1, gain=0))
    decibels = batch.standardised * network.deviation
    # A filter that passes everything still rounds, which shows in the quietest bins only.
    difference = (decibels - network.standardise(data.spectrograms) * network.deviation).abs()
    assert difference.mean() < 0.01
    expected = log_mels(torch.from_numpy(as_float(data.waveform.numpy())), LogMel(mels=64))
    torch.testing.assert_close(data.spectrograms, expected)


def test_windows_are_cropped_and_masked_in_frequency_only(begun):
    _, _, batch = batch_of(begun, window=16, frequency_masks=Masks(count=2, width=32))
    assert batch.standardised.shape[1:] == (64, 16)
    zero = batch.standardised == 0
    assert zero.any()
    assert (zero.all(2) == zero.any(2)).all()  # whole mel bins


def test_training_learns_to_tell_sections_apart(begun):
    network, data, settings, logmel = begun(epochs=8, batch=6, warmup=1, rate=3e-3, norm="batch")
    curve = training.train(network, data, settings, logmel)
    assert [epoch.epoch for epoch in curve] == list(range(1, 9))
    assert curve[-1].loss < curve[0].loss / 2
    assert curve[-1].section_accuracy > 0.85  # of 12 clips; half of them by chance
    assert curve[1].rate > curve[-1].rate > 0
    assert not network.training


FULL = {
    "epochs": 2,
    "batch": 5,
    "mixup": Mixup(alpha=0.4),
    "time_masks": Masks(count=2, width=8),
    "frequency_masks": Masks(count=2, width=8),
    "equaliser": Equaliser(probability=0.5),
}


def test_the_same_seed_gives_the_same_network_to_the_bit(begun):
    states = []
    for disturbance in range(2):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)
        network, data, settings, logmel = begun(**FULL)
        training.train(network, data, settings, logmel)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(value.isfinite().all() for value in states[0].values())


def norms(network):
    """The batch norms of a network: the running statistics, and what is learned."""
    layers = [layer for layer in network.backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    buffers = [buffer.clone() for layer in layers for buffer in layer.buffers()]
    return buffers, [value.detach().clone() for layer in layers for value in layer.parameters()]


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_frozen_norms_keep_their_statistics_and_learn_scale_and_shift(begun, norm):
    network, data, settings, logmel = begun(epochs=2, batch=6, norm=norm)
    statistics, learned = norms(network)
    training.train(network, data, settings, logmel)
    after, then = norms(network)
    same = [torch.equal(one, other) for one, other in zip(statistics, after, strict=True)]
    assert all(same) if norm == "frozen" else not any(same)
    # Each moves: by how little depends on its gradient, but Adam's steps do not.
    assert not any(torch.equal(one, other) for one, other in zip(learned, then, strict=True))
    assert not any(layer.training for layer in network.modules())


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_stages_before_the_first_one_that_learns_stay_as_they_are(begun, norm):
    network, data, settings, logmel = begun(epochs=1, batch=6, norm=norm, first_stage=8)
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    training.train(network, data, settings, logmel)
    after = network.backbone.state_dict()
    changed = {name.rsplit(".", 1)[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"conv_head", "bn2"} < changed  # stage nine; stage eight is the seventh block
    assert any(name.startswith("blocks.6.") for name in changed)
    assert all(name.startswith(("blocks.6.", "conv_head", "bn2")) for name in changed)


def test_the_weight_of_the_attributes_scales_their_term_of_the_loss(begun):
    losses = []
    for attributes in (0.0, 1.0, 0.5):
        network, data, settings, logmel = begun(epochs=1, batch=6, attributes=attributes)
        batch = training._augmented(network, data, torch.arange(6), settings, logmel, torch.Generator().manual_seed(0))
        losses.append(training._step(network, batch, settings.gamma, settings.attributes)[0].item())
    without, paper, half = losses
    assert half == pytest.approx((without + paper) / 2)
    assert paper > without


def test_without_attributes_there_is_no_attribute_head_nor_a_warning(begun, cache_path, tmp_path, caplog):
    network, data, settings, logmel = begun(epochs=1, batch=6, attributes=0.0)
    assert network.attribute is None
    (epoch,) = training.train(network, data, settings, logmel)
    assert math.isnan(epoch.attribute_accuracy)
    assert "attribute" not in caplog.text
    both, *_ = begun()
    networks.save(tmp_path / "both.safetensors", both)
    with open_cache(cache_path) as cache:  # a warm start from a network that has the head
        warm = training.begin(networks.read(tmp_path / "both.safetensors"), cache, Training(attributes=0.0), tmp_path)
    assert warm.attribute is None


def test_a_single_section_is_learned_by_its_attributes_whatever_their_weight(begun):
    network, data, settings, logmel = begun(epochs=1, batch=6, attributes=0.5)
    network.section = None
    batch = training._augmented(network, data, torch.arange(6), settings, logmel, torch.Generator().manual_seed(0))
    losses = [training._step(network, batch, settings.gamma, attributes)[0].item() for attributes in (0.0, 0.5, 1.0)]
    assert losses[0] > 0
    assert losses == pytest.approx([losses[0]] * 3)


@pytest.mark.parametrize("faults", [0.0, 0.5])
def test_a_single_section_keeps_its_attribute_head(cache_path, start, faults):
    with open_cache(cache_path) as cache:
        pass
    clips = manifest(manifest_row("a.wav", v="1"), manifest_row("b.wav", v="2"))
    cache = type(cache)(cache.path, cache.file, clips, cache.settings)
    settings = Training(attributes=0.0, faults=Faults(probability=faults))
    network = training.begin(start, cache, settings, cache_path)
    assert network.attribute is not None
    assert (network.section is None) == (faults == 0)
    labels = torch.tensor([0, 1]), torch.tensor([0, 1])
    batch = training.Batch(torch.randn(2, 64, 32), (torch.zeros(2).long(),) * 2, labels, torch.ones(2))
    # The heads' scales follow each batch, so each loss is that of a copy.
    losses = [training._step(copy.deepcopy(network), batch, 2.0, weight)[0].item() for weight in (0.0, 0.5)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("source", "warned"), [("none", True), ("package", False)])
def test_frozen_norms_without_pre_trained_weights_are_warned_of(cache_path, start, caplog, source, warned):
    with open_cache(cache_path) as cache:
        training.begin((start[0], {**METADATA, "source": source}), cache, Training(), cache_path)
        assert ("set train.norm to batch" in caplog.text) == warned
        caplog.clear()
        training.begin((start[0], {**METADATA, "source": source}), cache, Training(norm="batch"), cache_path)
        assert caplog.text == ""


def one_section(cache_path, **clips):
    """An open cache's stand-in with one section and one attribute."""
    with open_cache(cache_path) as cache:
        pass
    return type(cache)(cache.path, cache.file, manifest(manifest_row("a.wav", **clips)), cache.settings)


def test_with_nothing_to_tell_apart_the_network_stays_as_it_is(cache_path, start, caplog):
    settings = Training(epochs=3)
    network = training.begin(start, one_section(cache_path), settings, cache_path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    data = training.TrainingSet(torch.randn(2, 64, 32), None, torch.zeros(2).long(), torch.zeros(2).long())
    assert training.train(network, data, settings, LogMel()) == []
    assert "used as it is" in caplog.text
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_single_head_is_trained_alone(cache_path, start, caplog):
    settings = Training(epochs=1, batch=2, equaliser=Equaliser(probability=0.5))
    network = training.begin(start, one_section(cache_path), settings, cache_path)
    waveform = torch.randint(-999, 999, (4, 16000), dtype=torch.int16)
    data = training.TrainingSet(torch.randn(4, 64, 32), waveform, torch.zeros(4).long(), torch.zeros(4).long())
    (epoch,) = training.train(network, data, settings, LogMel(mels=64))
    assert "no attribute head" in caplog.text
    assert math.isfinite(epoch.loss)
    assert math.isnan(epoch.attribute_accuracy)


def test_a_warm_start_keeps_backbone_and_attributes_and_renews_the_sections(begun, cache_path, tmp_path):
    network, data, settings, logmel = begun(epochs=1, batch=6)
    training.train(network, data, settings, logmel)
    path = tmp_path / "global.safetensors"
    networks.save(path, network)
    with open_cache(cache_path) as cache:
        warm = training.begin(networks.read(path), cache, Training(equaliser=Equaliser(probability=0.5)), path)
    assert torch.equal(warm.backbone.conv_head.weight, network.backbone.conv_head.weight)
    assert torch.equal(warm.attribute.weight, network.attribute.weight)
    assert torch.equal(warm.attribute.scale, network.attribute.scale)
    assert warm.section.weight.shape[0] == 2 * network.section.weight.shape[0]


def test_a_warm_start_from_other_attributes_is_refused(begun, cache_path, tmp_path):
    network, *_ = begun()
    networks.save(tmp_path / "other.safetensors", network)
    other = one_section(cache_path, v="1")
    with pytest.raises(InputError, match=r"other\.safetensors: a network of other attributes"):
        training.begin(networks.read(tmp_path / "other.safetensors"), other, Training(), tmp_path / "other.safetensors")


def test_a_machine_without_training_clips_is_refused(cache_path, start):
    with pytest.raises(InputError, match="no training clips"):
        training.begin(start, one_section(cache_path, split="test"), Training(), cache_path)


def test_a_loss_that_is_not_finite_ends_training(begun):
    network, data, settings, logmel = begun(epochs=2, batch=6)
    data.spectrograms[0] = math.nan
    with pytest.raises(InputError, match=r"the loss is nan in epoch 1"):
        training.train(network, data, settings, logmel)


def test_the_curve_is_a_table(tmp_path):
    curve = [loop.Epoch(1, 0.1, 2.5, 0.5, math.nan, 1.0, math.nan)]
    loop.write_curve(tmp_path / "curve.csv", curve)
    with (tmp_path / "curve.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["loss"] == "2.5"
    assert row["attribute_accuracy"] == "nan"


@pytest.mark.parametrize(
    ("backbone", "precision", "tolerance", "norm"),
    [
        ("efficientnet_b1", torch.float32, 1e-3, "batch"),
        ("tf_efficientnet_lite1", torch.float64, 1e-4, "batch"),
        ("tf_efficientnet_lite1", torch.float64, 1e-4, "frozen"),
    ],
)
def test_a_step_has_the_loss_and_the_gradients_of_the_plain_recipe(backbone, precision, tolerance, norm):
    """Against timm's network on three equal channels, in the default layout and in double precision.

    Rounding in float32 turns some of Lite1's ReLU6 on or off, whose gradients jump; so it is compared in double.
    Frozen batch norms are those of evaluation, of other statistics than a new network's.
    """
    torch.manual_seed(0)
    network = Network(Description(backbone, "fan", 1, ("00", "01", "02"), ("a", "b"), "{}")).train()
    if norm == "frozen":
        networks.freeze_norms(network)
        for layer in network.backbone.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.1, 0.1)
                layer.running_var.uniform_(0.5, 2)
    network.backbone.to(precision)
    plain = timm.create_model(backbone, num_classes=0).train(norm == "batch")
    plain.load_state_dict(network.backbone.state_dict())
    plain.double()
    heads = [head.weight.detach().double().requires_grad_() for head in (network.section, network.attribute)]
    section = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([2, 0, 2, 1, 1, 0])
    attribute = torch.tensor([0, 1, 1, 0, 0, 1]), torch.tensor([1, 1, 0, 0, 1, 0])
    weight = torch.tensor([1.0, 0.9, 0.6, 0.3, 0.5, 0.0])
    batch = training.Batch(torch.randn(6, 224, 64, dtype=precision), section, attribute, weight)
    loss, _ = training._step(network, batch, gamma=2.0)
    loss.backward()

    embedding = plain(batch.standardised.double()[:, None].expand(-1, 3, -1, -1))
    expected = 0
    for head, scale, labels in zip(
        heads, (network.section.scale, network.attribute.scale), (section, attribute), strict=True
    ):
        cosine = embedding @ head.T / embedding.norm(dim=1, keepdim=True) / head.norm(dim=1)
        p = (scale.double() * cosine).softmax(1)  # the scale as the step left it: test_losses holds it to the paper
        for label, share in zip(labels, (weight, 1 - weight), strict=True):
            own = p[torch.arange(6), label]
            expected = expected - (share * (1 - own) ** 2 * own.log()).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = [*plain.parameters(), *heads]
    ours = [*network.backbone.parameters(), network.section.weight, network.attribute.weight]
    assert [one.shape for one in ours] == [one.shape for one in theirs]
    whole = torch.stack([other.grad.norm() for other in theirs]).norm()
    for one, other in zip(ours, theirs, strict=True):  # a bias before a batch norm has no gradient but rounding
        assert (one.grad - other.grad).norm() < tolerance * other.grad.norm() + 1e-6 * whole, tuple(one.shape)


def test_a_batch_that_no_memory_holds_is_refused_before_anything_is_computed():
    settings = Training(batch=12)
    with pytest.raises(InputError, match=r"some 101 GB for a batch of 12 clips of 18751 frames.* has 16 GB\. Cut long"):
        training.check_memory(100, 224, 18751, settings, 16e9)
    training.check_memory(100, 224, 18751, settings.model_copy(update={"window": 64}), 16e9)
    training.check_memory(1, 224, 18751, settings, 16e9)  # a batch has no more clips than there are


def test_the_memory_of_this_machine_and_its_limit():
    total = memory(torch.device("cpu"))
    assert 1e8 < total <= 2**50
    code = "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (9 * 10**9,) * 2)"
    code += "; from asd.device import memory; print(memory(torch.device('cpu')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(said) == min(9e9, total)
