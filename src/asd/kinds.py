"""The kinds of networks: one table, from the name in the configuration to the code.

A kind is a class `Network(description)`, a module of torch with

    description         a dataclass of what is needed to build it again, except for its tensors; `kind` is its name here
    hears               "logmel" or "waveform": its input
    widths              the numbers of its features, side by side: one, or one per stage
    vectors(heard)      (batch, mels, frames) log-mels, or (batch, samples) int16 -> (batch, sum of widths) features
    for_scoring()       itself, or a faster network with the same features

and two functions, which the stage `train` calls one after the other:

    prepared(start, cache, settings, path, device) -> (network, data)
    train(network, data, settings, logmel, report, checkpoint) -> curve

`start` is the content of the file of pre-trained weights or of another network, None for kinds that begin with random
weights. Everything after training (features, detectors, scores) is the same for all kinds.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from asd import autoencoder, mobilenet, network, training, waveform
from asd.errors import InputError


class Kind(NamedTuple):
    """A kind of networks."""

    description: type
    network: type
    prepared: Callable
    train: Callable


KINDS = {
    "efficientnet": Kind(network.Description, network.Network, training.prepared, training.train),
    "waveform": Kind(waveform.Description, waveform.Network, waveform.prepared, waveform.train),
    "autoencoder": Kind(autoencoder.Description, autoencoder.Network, autoencoder.prepared, autoencoder.train),
    "mobilenet": Kind(mobilenet.Description, mobilenet.Network, mobilenet.prepared, mobilenet.train),
}


def load(path: Path):
    """Read a network of any kind, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is damaged or not a network, or its tensors do not fit the description.
    """
    tensors, metadata = network.read(path)
    if metadata["content"] != "network":
        raise InputError(f"{path}: found the weights of a backbone, expected a trained network (train.py writes one)")
    name = json.loads(metadata.get("kind", '"efficientnet"'))
    if name not in KINDS:
        raise InputError(f"{path}: found a network of kind {name!r}; this version knows {', '.join(KINDS)}")
    kind = KINDS[name]
    fields = {key: json.loads(metadata[key]) for key in kind.description.__dataclass_fields__ if key in metadata}
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    built = kind.network(kind.description(**fields))
    try:
        built.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: {error}; delete it and run again") from None
    return built.eval()
