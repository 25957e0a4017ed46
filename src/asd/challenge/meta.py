"""What a submission says of a system: the challenge's form of 2022, with what can be measured filled in."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asd.results.metrics_table import select

if TYPE_CHECKING:
    import pandas as pd

    from asd.settings import Scored, Settings

ABBREVIATION = 10
"""Characters of a system's short name, at most."""

log = logging.getLogger(__name__)

META_HEAD = """\
# The challenge's form of 2022. Beyond it: complexity.macs and complexity.training_clips.
# total_parameters: of the network and the detector that score a machine, the largest number of all machines; for an
# ensemble the sum over its models. macs: multiply-accumulates of convolutions, matrix products and distances for all
# windows of one clip; for an ensemble those of the largest model, since one model scores a machine. Results are in
# percent; an ensemble's models were chosen by the same labels by which these results are computed.
"""


@dataclass(frozen=True)
class System:
    """What is submitted: a model, or the choice of a model for each machine."""

    name: str
    """An entry of the models, or ensemble."""
    title: str
    models: dict[str, str]
    """The model that scores each machine."""

    @property
    def parts(self) -> list[str]:
        """The models, each once."""
        return list(dict.fromkeys(self.models.values()))


@dataclass(frozen=True)
class Complexity:
    """What it takes to score a clip."""

    parameters: int
    macs: int
    """Multiply-accumulates."""

    def __add__(self, other: "Complexity") -> "Complexity":
        return Complexity(self.parameters + other.parameters, self.macs + other.macs)


def network_complexity(path: Path, mels: int, frames: int, samples: int, windows: int, exposure: bool) -> Complexity:
    """Count the parameters and operations of a network, by a forward pass that computes shapes only.

    Args:
        path: the network.
        mels: mel bins.
        frames: frames of a window, or of the whole clip.
        samples: samples of a clip, for a network that hears the waveform.
        windows: windows per clip.
        exposure: whether the section head scores; the features need no head. The attribute head never scores.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from asd.kinds import load
    from asd.losses import AdaCos

    network = load(path).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if exposure:
            network.embed(network.standardise(torch.empty(1, mels, frames, device="meta")))
        elif network.hears == "waveform":
            network.vectors(torch.empty(1, samples, dtype=torch.int16, device="meta"))
        else:
            network.vectors(torch.empty(1, mels, frames, device="meta"))
    head = network.section.weight.numel() if exposure else 0  # a weight, a product
    heads = sum(len(one.weight.flatten()) for one in network.children() if isinstance(one, AdaCos))
    parameters = sum(parameter.numel() for parameter in network.parameters()) - heads
    return Complexity(parameters + head, windows * (counter.get_total_flops() // 2 + head))


def fitted_complexity(path: Path, windows: int) -> Complexity:
    """Count the parameters of a machine's fitted detector (all sections), and the operations of its largest section."""
    from asd.gaussian import Gaussian
    from asd.sections import read_sections

    sizes, products = [], []
    for section in read_sections(path).sections.values():
        one = section.fitted
        if isinstance(one, Gaussian):
            sizes.append(one.means.size + one.factor.size + 1)
            products.append(len(one.means) * (one.factor.size + len(one.factor) + one.means.shape[1]))
        else:
            sizes.append(sum(value.size for value in vars(one).values() if isinstance(value, np.ndarray)))
            products.append(sizes[-1])
    return Complexity(sum(sizes), windows * max(products))


def clip_complexity(settings: "Settings", model: str, cache: Path, network: Path, fitted: Path | None) -> Complexity:
    """Count the parameters and operations with which a model on a network scores a test clip of a machine.

    Args:
        settings: the configuration.
        model: an entry of `models`.
        cache: the machine's log-mel cache, for the length of a clip.
        network: the machine's network.
        fitted: the machine's fitted detector; None: the network itself scores.
    """
    from asd.cache import open_cache
    from asd.features import cut

    with open_cache(cache) as opened:
        mels = opened.settings.mels
        samples = opened.samples
        rows = cut(np.array([False]), opened.frames, settings.networks[settings.models[model].network].windows)
    windows = len(rows.clip)
    count = network_complexity(network, mels, rows.window, samples, windows, exposure=fitted is None)
    return count if fitted is None else count + fitted_complexity(fitted, windows)


def complexities(
    settings: "Settings", systems: list[System], caches: list[Path], networks: list[Path], fitted: list[Path]
) -> dict[tuple[str, str], Complexity]:
    """Count the parameters and operations with which the models of systems score a clip, by model and machine.

    Args:
        settings: the configuration.
        systems: whose models are counted; a fusion is the sum of its members.
        caches: <anything>/logmel-<digest>/<machine>.h5.
        networks: <anything>/<network>/<machine or all>.safetensors.
        fitted: <anything>/<model>/<machine>.h5.
    """
    logmels, nets, detectors = (
        {(path.parent.name, path.stem): path for path in paths} for paths in (caches, networks, fitted)
    )

    def count(name: str, machine: str) -> Complexity:
        model = settings.models[name]
        if model.members:
            counts = [count(member, machine) for member in model.members]
            return sum(counts[1:], counts[0])
        if not model.network:
            return fitted_complexity(detectors[name, machine], 1)
        trained = settings.trained_as(model.network)
        network = nets.get((trained, machine)) or nets[trained, "all"]
        cache = logmels[f"logmel-{settings.networks[trained].logmel.file}", machine]
        return clip_complexity(settings, name, cache, network, detectors.get((name, machine)))

    pairs = {(model, machine) for system in systems for machine, model in system.models.items()}
    return {pair: count(*pair) for pair in sorted(pairs)}


def submitted_systems(settings: "Settings", selection: "pd.DataFrame", machines: list[str]) -> list[System]:
    """Return the systems of a submission, and log what the challenge does not take.

    Args:
        settings: the configuration.
        selection: the ensemble's choice, one row per machine: machine, model.
        machines: the machines with clips to submit.
    """
    from asd.settings import Submission

    selected = dict(zip(selection["machine"], selection["model"], strict=True))
    systems = [
        System("ensemble", "Ensemble", {machine: selected[machine] for machine in machines})
        if name == "ensemble"
        else System(name, settings.models[name].title, dict.fromkeys(machines, name))
        for name in settings.submitted
    ]
    if len(systems) > 4:
        log.warning("%d systems; the challenge takes four: name them in submission.models", len(systems))
    if settings.submission.label == Submission().label:
        log.warning("submission.label is still %s; fill in the block `submission`", settings.submission.label)
    return systems


def description(
    label: str,
    system: System,
    settings: "Settings",
    complexity: dict[tuple[str, str], Complexity],
    training: dict[str, int],
    results: dict[str, dict[str, float | None]],
) -> dict[str, Any]:
    """Return the content of a system's meta file, in the order of the challenge's form.

    Args:
        label: <label>_task2_<k>.
        system: the models that score the machines.
        settings: the configuration that made it.
        complexity: (model, machine) -> its complexity.
        training: machine -> number of training clips.
        results: as from `development_results`.
    """
    models = [settings.models[name] for name in system.parts]
    parts = [
        settings.models[one]
        for model, name in zip(models, system.parts, strict=True)
        for one in model.members or [name]
    ]
    networks = [settings.networks[part.network] for part in parts if part.network]
    ensemble = system.name not in settings.models
    listens = [settings.networks[part.network] if part.network else settings for part in parts]
    largest = {
        name: max(count.parameters for (model, _), count in complexity.items() if model == name)
        for name in system.parts
    }
    methods = [f"{one.own.method} ({one.backbone.name if one.starts else one.kind})" for one in networks]
    labels = dict.fromkeys(label for one in networks if one.learns for label in one.own.labels)
    spectra = [settings.spectra[part.spectrum] for part in parts if part.spectrum]
    seen = [feature for one in (*(network.own for network in networks), *spectra) for feature in one.features]
    pretrained, data = _external(list(dict.fromkeys(one.backbone.weights for one in networks if one.starts)))
    return {
        "submission": {
            "label": label,
            "name": system.title,
            "abbreviation": system.title[:ABBREVIATION],
            "authors": [_author(author.model_dump()) for author in settings.submission.authors],
        },
        "system": {
            "description": {
                "input_sampling_rate": ", ".join(dict.fromkeys(f"{one.logmel.rate / 1000:g}kHz" for one in listens)),
                "data_augmentation": _listed(
                    _augmentations(settings, [part.network for part in parts if part.network])
                ),
                "front_end": None,
                "acoustic_features": _listed(seen),
                "embeddings": None,
                "machine_learning_method": _listed([*methods, *(_method(part) for part in parts)]),
                "aggregation_method": "average" if any(network.windows.window for network in networks) else None,
                "domain_adaptation_method": None,
                "domain_generalization_method": f"classification of {' and '.join(labels)}" if labels else None,
                "ensemble_method_subsystem_count": len(parts) if len(parts) > 1 else None,
                "decision_making": "one model per machine, by its AUC on the development set" if ensemble else None,
                "attribute_usage": "classification target" if "attributes" in labels else None,
                "external_data_usage": pretrained,
                "development_data_usage": "training, model selection" if ensemble else "training",
            },
            "complexity": {
                "total_parameters": sum(largest.values()),
                "macs": max(complexity[model, machine].macs for machine, model in system.models.items()),
                "training_clips": training,
            },
            "external_datasets": data,
            "source_code": settings.submission.source_code or None,
        },
        "results": {"development_dataset": results},
    }


def _method(model: "Scored") -> str:
    """What a model scores by."""
    return model.fit.own.method if model.fitted else "outlier exposure"


def _external(weights: list[str]) -> tuple[str | None, list[dict[str, str | None]]]:
    """How external data were used, and which, by the weights of the backbones."""
    data: list[dict[str, str | None]] = []
    for one in weights:
        known = {"name": "ImageNet", "url": "https://www.image-net.org"}
        of_a_file = {"name": f"what {Path(one).name} was trained on", "url": None}
        if one != "none" and (said := known if one in ("imagenet", "package") else of_a_file) not in data:
            data.append(said)
    return ("pre-trained model", data) if data else (None, [{"name": None, "url": None}])


def _author(author: dict[str, Any]) -> dict[str, Any]:
    """An author as the form wants it, the affiliation in a block of its own."""
    affiliation = {key: author.pop(key) for key in ("institution", "department", "location")}
    if not author["corresponding"]:
        del author["corresponding"]
    return author | {"affiliation": {key: value for key, value in affiliation.items() if value}}


def _augmentations(settings: "Settings", networks: list[str]) -> list[str]:
    """How the training data of networks were augmented, and of those that they began with."""
    names = []
    waiting = list(networks)
    while waiting:
        network = settings.networks[waiting.pop(0)]
        names += network.own.augmentations
        waiting += [network.warm_start] if network.warm_start else []
    return names


def _listed(names: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(names)) or None


def development_results(metrics: "pd.DataFrame", name: str) -> dict[str, dict[str, float | None]]:
    """Return the development results of a system by machine, in percent: harmonic means over the sections.

    Args:
        metrics: the table `asd.results.metrics_table`.
        name: the model, or ensemble.
    """
    figures = {"auc_source": ("auc", "source"), "auc_target": ("auc", "target"), "pauc": ("pauc", "all")}
    results: dict[str, dict[str, float | None]] = {}
    for figure, key in figures.items():
        rows = select(metrics, *key)
        rows = rows[(rows["model"] == name) & (rows["machine"] != "") & (rows["selection"] != "cross_fitted")]
        for machine, value in zip(rows["machine"], rows["value"], strict=True):
            results.setdefault(machine, {})[f"harmonic_mean_{figure}"] = None if np.isnan(value) else 100 * float(value)
    return results
