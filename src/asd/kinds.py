"""The kinds of networks. `asd.settings.networks` has their table; the kind <name> is the module asd.<name>.

A module has a class `Description`, a dataclass of what is needed to build a network again, except for its tensors:

    machine, kind       the machine that the network learns from, or `asd.network.ALL`; the name of the kind
    settings            the settings that it was trained with, as text

a class `Network(description)`, a module of torch, with

    description         its description
    hears               "logmel" or "waveform": its input
    widths              the numbers of its features, side by side: one, or one per stage
    vectors(heard)      (batch, mels, frames) log-mels, or (batch, samples) int16 -> (batch, sum of widths) features
    for_scoring()       itself, or a faster network with the same features

and two functions, which the stage `train` calls one after the other:

    prepared(start, cache, settings, path, device) -> (network, data)
    train(network, data, settings, logmel, report, checkpoint) -> curve

`start` is the content of the file `path` of pre-trained weights or of another network; both are None for kinds that
begin with random weights. `data` is a dataclass of tensors. A network with a classifier of sections, for the detector
exposure, also has `section`, `embed` and `standardise`, and its description `section_label` (`asd.exposure`).
Everything after training (features, detectors, scores) is the same for all kinds.
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

from asd import network
from asd.errors import InputError
from asd.settings import NETWORKS


def module_of(kind: str) -> ModuleType:
    """Return the module of a kind. It is imported by its name, so that a new kind needs no change here."""
    return import_module(f"asd.{kind}")


def load(path: Path):
    """Read a network of any kind, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is damaged or not a network, or its tensors do not fit the description.
    """
    tensors, metadata = network.read(path)
    if metadata["content"] != "network":
        raise InputError(f"{path}: found the weights of a backbone, expected a trained network (train.py writes one)")
    name = json.loads(metadata.get("kind", '"efficientnet"'))
    if name not in NETWORKS:
        raise InputError(f"{path}: found a network of kind {name!r}; this version knows {', '.join(NETWORKS)}")
    kind = module_of(name)
    fields = {key: json.loads(metadata[key]) for key in kind.Description.__dataclass_fields__ if key in metadata}
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    built = kind.Network(kind.Description(**fields))
    try:
        built.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: {error}; delete it and run again") from None
    return built.eval()
