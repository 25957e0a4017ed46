"""The network: the paper's Table 2, three equal channels for the price of one, timm's own forward."""

import copy
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from asd import network as networks
from asd.errors import InputError
from asd.kinds import load
from asd.network import Description, Network, make_backbone

# The paper's Table 2: stage, height, width, channels for a log-mel of 224 x 313.
TABLE_2 = [
    (112, 157, 32),
    (112, 157, 16),
    (56, 79, 24),
    (28, 40, 40),
    (14, 20, 80),
    (14, 20, 112),
    (7, 10, 192),
    (7, 10, 320),
    (7, 10, 1280),
]
BACKBONES = ["efficientnet_b1", "tf_efficientnet_lite1"]


def describe(backbone="tf_efficientnet_lite1", **changes):
    fields = {
        "backbone": backbone,
        "machine": "fan",
        "bins": 1,
        "section_labels": ("00", "01", "02"),
        "attribute_labels": ("v_1", "v_2"),
        "settings": "{}",
    }
    return Description(**{**fields, **changes})


@pytest.fixture(scope="module", params=BACKBONES)
def network(request):
    torch.manual_seed(0)
    return Network(describe(request.param)).eval()


def test_the_stages_are_those_of_table_2(network):
    with torch.inference_mode():
        stages = network.stages(torch.randn(1, 224, 313))
        features = network.features(torch.randn(2, 224, 313))
    assert [(one.shape[2], one.shape[3], one.shape[1]) for one in stages] == TABLE_2
    assert network.widths == [channels for _, _, channels in TABLE_2]
    assert features.shape == (2, 2096)


def test_the_last_stage_is_timms_own_forward_on_three_equal_channels(network):
    x = torch.randn(2, 224, 64)
    with torch.inference_mode():
        image = x[:, None].expand(-1, 3, -1, -1)
        # Sums in another order differ in their last bits, and the layers above magnify that.
        torch.testing.assert_close(
            network.stages(x)[-1], network.backbone.forward_features(image), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(network.embed(x), network.backbone(image), rtol=1e-3, atol=1e-4)


def test_one_channel_has_the_gradients_of_three_equal_ones(network):
    # In double precision: where rounding takes an activation over a corner (ReLU6), gradients are other ones.
    network = copy.deepcopy(network).double()
    x = torch.randn(2, 224, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = network.backbone.conv_stem.weight
    (ours,) = torch.autograd.grad(network.embed(x).square().sum(), kernel)
    (theirs,) = torch.autograd.grad(network.backbone(x[:, None].expand(-1, 3, -1, -1)).square().sum(), kernel)
    assert ours.shape == (32, 3, 3, 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_features_are_the_means_of_the_stages_in_order(network):
    x = torch.randn(1, 224, 64)
    with torch.inference_mode():
        parts = network.features(x).split(network.widths, 1)
        for part, stage in zip(parts, network.stages(x), strict=True):
            torch.testing.assert_close(part, stage.flatten(2).mean(2))


@pytest.mark.parametrize(("mels", "bands", "last"), [(224, 5, 9), (224, 14, 6), (40, 3, 4), (224, 1, 8)])
def test_bands_are_pytorchs_adaptive_means_and_stages_after_the_last_are_left_out(network, mels, bands, last):
    x = torch.randn(2, mels, 40)
    description = describe(network.description.backbone, mels=mels, bands=bands, last_stage=last)
    short = Network(description).eval()
    names = short.state_dict()
    assert not {f"backbone.{one}" for one in networks.left_out(description.backbone, last)} & {*names}
    kept = {name: value for name, value in network.state_dict().items() if name.startswith("backbone.")}
    short.load_state_dict({**names, **{name: value for name, value in kept.items() if name in names}})
    with torch.inference_mode():
        stages = network.stages(x)[:last]
        expected = [
            torch.nn.functional.adaptive_avg_pool2d(stage, (min(bands, stage.shape[2]), 1)).flatten(1)
            for stage in stages
        ]
        torch.testing.assert_close(short.features(x), torch.cat(expected, 1))
        short.centre.fill_(0.5)
        torch.testing.assert_close(short.embed(x), expected[-1] - 0.5)
    assert short.widths == [one.shape[1] for one in expected]
    assert short.section.weight.shape == (3, short.widths[-1])


def test_folded_norms_change_nothing_but_the_last_digits(network):
    trained = copy.deepcopy(network)
    for layer in trained.backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as training leaves them, not as they begin
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.uniform_(-0.1, 0.1)
    x = torch.randn(2, 224, 64)
    with torch.inference_mode():
        plain = trained.features(x)
        folded = networks.fold(trained)
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.backbone.modules())
        torch.testing.assert_close(folded.features(x), plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())


def test_a_network_survives_its_file(tmp_path):
    before = Network(describe(bins=224), torch.Generator().manual_seed(3)).eval()
    before.mean.normal_()
    before.section.scale.fill_(1.25)
    path = tmp_path / "network.safetensors"
    networks.save(path, before)
    after = load(path)
    assert after.description == before.description
    assert not after.training
    for key, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[key]), key


def test_a_head_with_one_class_is_not_there(tmp_path):
    network = Network(describe(section_labels=("00",), attribute_labels=("",)))
    assert network.section is None
    assert network.attribute is None
    networks.save(tmp_path / "n.safetensors", network)
    assert load(tmp_path / "n.safetensors").section is None


def test_the_same_seed_gives_the_same_heads():
    one, other = (Network(describe(), torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert torch.equal(one.section.weight, other.section.weight)
    assert not torch.equal(one.section.weight, Network(describe(), torch.Generator().manual_seed(2)).section.weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_backbone("efficientnet_b99"), "backbone.name: timm knows no 'efficientnet_b99'"),
        (lambda: make_backbone("resnet18", 9), "last_stage: found 9, but resnet18 has 5 stages; set networks.<name>"),
        (
            lambda: Network(describe("vit_tiny_patch16_224", last_stage=3)),
            "backbone.name: 'vit_tiny_patch16_224' does not take log-mels of 224 mel bins and any number of frames",
        ),
        (
            lambda: networks.hold_stages(Network(describe("resnet18", last_stage=3)), 4),
            "train.first_stage: found 4, but the network ends with stage 3",
        ),
    ],
)
def test_a_backbone_or_a_stage_that_there_is_not_is_refused(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("name", "channels"), [("resnet18", [64, 64, 128, 256]), ("convnext_atto", [40, 80, 160])])
def test_another_backbone_has_the_stages_that_timm_lists(name, channels, tmp_path):
    last = len(channels)
    network = Network(describe(name, last_stage=last, bands=3)).eval()
    whole = make_backbone(name).eval()
    whole.load_state_dict(network.backbone.state_dict(), strict=False)
    x = torch.randn(2, 224, 64)
    with torch.inference_mode():
        image = x[:, None].expand(-1, 3, -1, -1)
        expected = whole.forward_intermediates(image, intermediates_only=True)[:last]
        for stage, other in zip(network.stages(x), expected, strict=True):
            torch.testing.assert_close(stage, other)
        bands = [torch.nn.functional.adaptive_avg_pool2d(stage, (3, 1)).flatten(1) for stage in expected]
        torch.testing.assert_close(network.features(x), torch.cat(bands, 1))
    assert network.widths == [3 * one for one in channels]
    names = networks.left_out(name, last)
    assert {*network.backbone.state_dict(), *names} == {*whole.state_dict()}
    assert names
    networks.save(tmp_path / "fan.safetensors", network)
    read = load(tmp_path / "fan.safetensors").for_scoring()
    with torch.inference_mode():
        torch.testing.assert_close(read.vectors(x), network.vectors(x))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_the_first_stages_of_another_backbone_are_held(name):
    network = Network(describe(name, last_stage=3)).train()
    networks.hold_stages(network, 3)
    held, learns = (
        {"resnet18": ("conv1", "bn1", "layer1"), "convnext_atto": ("stem", "stages.0", "stages.1")},
        {
            "resnet18": "layer2",
            "convnext_atto": "stages.2",
        },
    )
    for key, parameter in network.backbone.named_parameters():
        assert key.startswith((*held[name], learns[name])), key
        assert parameter.requires_grad == key.startswith(learns[name]), key
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    network.embed(torch.randn(2, 224, 64)).square().sum().backward()
    for key, value in network.backbone.state_dict().items():
        if key.startswith(held[name]):
            assert torch.equal(value, before[key]), key  # also the statistics of batch norms
    norms = [key for key in before if "running_mean" in key and key.startswith(learns[name])]
    assert all(not torch.equal(network.backbone.state_dict()[key], before[key]) for key in norms)
    assert bool(norms) == (name == "resnet18")


def damage(path: Path, how: str):
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "no safetensors":
        path.write_text("hello, this is text" * 100)
    elif how == "somebody else's":
        safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    elif how == "weights":
        safetensors.torch.save_file({"a": torch.zeros(2)}, path, {"content": "weights", "backbone": "x"})


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "no safetensors", "somebody else's", "weights"])
def test_a_file_that_is_no_network_is_refused_by_name(tmp_path, how):
    path = tmp_path / "network.safetensors"
    networks.save(path, Network(describe()))
    damage(path, how)
    with pytest.raises(InputError, match=r"network\.safetensors"):
        load(path)


def test_lite1_has_the_widths_of_b1():
    assert Network(describe("efficientnet_b1")).widths == Network(describe(BACKBONES[1])).widths
