"""The kinds of networks: what the stages call exists for each, and files name their kind."""

import dataclasses
import inspect

import pytest
import safetensors.torch
import torch

from asd import network as networks
from asd.errors import InputError
from asd.kinds import load, module_of
from asd.network import Description, Network
from asd.settings import NETWORKS, Training


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_kind_has_a_module_and_settings(kind):
    module = module_of(kind)
    description = {field.name: field.default for field in dataclasses.fields(module.Description)}
    assert description["kind"] == kind
    assert {"machine", "settings"} < set(description)
    for function, arguments in (("prepared", 5), ("train", 6)):
        assert len(inspect.signature(getattr(module, function)).parameters) == arguments
    training = Training(kind=kind)
    assert training.learns == (kind != "audiomae")  # which is used as it was pre-trained
    assert not training.untrained.learns


def efficientnet():
    return Network(Description("tf_efficientnet_lite1", "fan", 1, ("a", "b"), ("",), "{}", mels=16)).eval()


def test_a_file_names_its_kind(tmp_path):
    path = tmp_path / "network.safetensors"
    network = efficientnet()
    networks.save(path, network)
    tensors, metadata = networks.read(path)
    assert metadata["kind"] == '"efficientnet"'
    assert load(path).description == network.description
    del metadata["kind"]  # as version 0.3.0 wrote it
    safetensors.torch.save_file(tensors, path, metadata)
    assert load(path).description == network.description
    safetensors.torch.save_file(tensors, path, metadata | {"kind": '"perceptron"'})
    with pytest.raises(InputError, match=r"network\.safetensors: found a network of kind 'perceptron'.* efficientnet"):
        load(path)


def test_vectors_are_the_features_of_log_mels_also_for_scoring():
    network, logmel = efficientnet(), torch.randn(2, 16, 32) * 10 - 60
    network.mean.fill_(-60)
    network.deviation.fill_(10)
    with torch.inference_mode():
        expected = network.features((logmel + 60) / 10)
        torch.testing.assert_close(network.vectors(logmel), expected)
        torch.testing.assert_close(network.for_scoring().vectors(logmel), expected, rtol=1e-3, atol=1e-4)
    assert expected.shape[1] == sum(network.widths)
    assert dataclasses.is_dataclass(network.description)
