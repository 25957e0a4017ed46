"""A submission to DCASE Task 2: its files, its description, and everything that a checker finds wrong with it.

<label>_task2_<k>/                                     a folder a system
    anomaly_score_<machine>_section_NN_test.csv        <clip>.wav,<score>     no header
    decision_result_<machine>_section_NN_test.csv      <clip>.wav,<0 or 1>
    <label>_task2_<k>.meta.yaml                        the challenge's form of 2022, filled in
<label>_task2.zip                                      task2/<label>_task2_<k>/…, as the challenge takes it
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asd.corpus import read_manifest
from asd.errors import InputError
from asd.evaluation import NAME, Section, read_values
from asd.files import written

if TYPE_CHECKING:
    import pandas as pd

    from asd.settings import Settings, Training

KINDS = SCORES, DECISIONS = "anomaly_score", "decision_result"
ABBREVIATION = 10
"""Characters of a system's short name, at most."""

Clips = dict[Section, list[str]]
"""The clips to be scored, base names, by machine and section."""


def clips_of_manifests(manifests: Iterable[Path]) -> Clips:
    """The clips that a submission must score: the evaluation part, or all test clips where there is none.

    Raises:
        InputError: an unreadable manifest, or no test clips.
    """
    import pandas as pd

    clips = pd.concat([read_manifest(path) for path in manifests])
    tests = clips[clips["split"] == "test"]
    evaluation = tests[tests["part"] == "evaluation"]
    chosen = tests if evaluation.empty else evaluation
    if chosen.empty:
        raise InputError("the manifests list no test clips; there is nothing to submit")
    return {section: sorted(rows["file"]) for section, rows in chosen.groupby(["machine", "section"])}


def clips_of_ground_truth(folder: Path) -> Clips:
    """The clips of the published labels, <folder>/ground_truth_data/ground_truth_<machine>_section_NN_test.csv.

    Raises:
        InputError: no such files, or one that cannot be read.
    """
    for inner in (folder / "ground_truth_data", folder / "data", folder):
        if found := _files(inner, "ground_truth"):
            return {section: sorted(read_values(path)) for section, (path, *_) in found.items()}
    raise InputError(f"{folder}: expected ground_truth_data/ground_truth_<machine>_section_NN_test.csv in it")


def _files(folder: Path, kind: str) -> dict[Section, list[Path]]:
    """The files of a kind by machine and section; misnamed ones by their name."""
    found: dict[Section, list[Path]] = {}
    for path in sorted(folder.glob(f"{kind}_*.csv")):
        match = re.fullmatch(NAME.format(kind=kind), path.name)
        found.setdefault((match["machine"], match["section"]) if match else ("", path.name), []).append(path)
    return dict(sorted(found.items()))


def file_name(kind: str, section: Section) -> str:
    """The name of a file of scores or decisions."""
    return f"{kind}_{section[0]}_section_{section[1]}_test.csv"


# --- writing ------------------------------------------------------------------------------------------------


def write_system(folder: Path, scores: dict[str, "pd.DataFrame"], clips: Clips, meta: dict[str, Any]) -> None:
    """Write the folder of one system.

    Args:
        folder: <label>_task2_<k>.
        scores: by machine, as `asd.scores` reads them.
        clips: to be submitted.
        meta: as from `description`.

    Raises:
        InputError: a clip without a score.
    """
    import yaml

    for (machine, section), files in clips.items():
        own = scores[machine]
        rows = own[(own["split"] == "test") & (own["section"] == section)].set_index("file")
        if missing := sorted(set(files) - set(rows.index)):
            raise InputError(f"scores of {machine}, section {section}: no score of {_some(missing)}; score them again")
        rows = rows.loc[files]
        for kind, values in ((SCORES, rows["score"].astype(float)), (DECISIONS, rows["decision"].astype(int))):
            with written(folder / file_name(kind, (machine, section))) as aside:
                lines = (f"{file},{value!r}\n" for file, value in zip(files, values.tolist(), strict=True))
                aside.write_text("".join(lines), encoding="utf-8", newline="\n")
    with written(folder / f"{folder.name}.meta.yaml") as aside:
        text = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=120)
        aside.write_text(META_HEAD + text, encoding="utf-8", newline="\n")


def pack(path: Path, folders: Iterable[Path]) -> None:
    """Write the package of systems; the same files give the same bytes, whenever they were written."""
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

    with written(path) as aside, ZipFile(aside, "w") as package:
        for folder in sorted(folders, key=lambda folder: folder.name):
            for file in sorted(folder.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    member = ZipInfo(f"task2/{folder.name}/{file.name}", date_time=(1980, 1, 1, 0, 0, 0))
                    member.create_system, member.external_attr = 3, 0o644 << 16  # of Unix, wherever this runs
                    package.writestr(member, file.read_bytes(), ZIP_DEFLATED)


# --- the description ----------------------------------------------------------------------------------------

META_HEAD = """\
# The challenge's form of 2022. Beyond it: complexity.macs and complexity.training_clips.
# total_parameters: network and Gaussians that score a machine, the largest of the machines; of an ensemble's models
# the sum. macs: multiply-accumulates of convolutions, products with matrices and distances for one clip, all its
# windows; of an ensemble the costliest model, since one model scores a machine. Results in percent; an ensemble's
# models were chosen by the same labels that these results are computed on.
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


def network_complexity(path: Path, mels: int, frames: int, windows: int, exposure: bool) -> Complexity:
    """Count what a network takes, by a forward pass that computes shapes only.

    Args:
        path: the network.
        frames: of a window, or of the whole clip.
        windows: of a clip.
        exposure: whether the section head scores; the features need no head. The attribute head never scores.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from asd.network import load

    network = load(path).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.embed(network.standardise(torch.empty(1, mels, frames, device="meta")))
    head = network.section.weight.numel() if exposure else 0  # a weight, a product
    parameters = sum(parameter.numel() for parameter in network.backbone.parameters())
    return Complexity(parameters + head, windows * (counter.get_total_flops() // 2 + head))


def gaussian_complexity(path: Path, windows: int) -> Complexity:
    """Count what a machine's Gaussians take: all of them to be kept, one (the largest) for a clip's distance."""
    from asd.gaussian import read_sections

    gaussians = read_sections(path).gaussians.values()
    sizes = [gaussian.mean.size + gaussian.factor.size + 1 for gaussian in gaussians]
    rows = [gaussian.factor.size + len(gaussian.factor) + gaussian.mean.size for gaussian in gaussians]
    return Complexity(sum(sizes), windows * max(rows))


def clip_complexity(settings: "Settings", model: str, network: Path, cache: Path, mvg: Path | None) -> Complexity:
    """Count what a model takes to score a test clip of a machine.

    Args:
        network: the machine's network.
        cache: the machine's log-mel cache, for the length of a clip.
        mvg: the machine's Gaussians; none where the network itself scores.
    """
    from asd.cache import open_cache
    from asd.features import cut

    with open_cache(cache) as opened:
        mels = opened.settings.mels
        rows = cut(np.array([False]), opened.frames, settings.networks[settings.models[model].network].windows)
    windows = len(rows.clip)
    count = network_complexity(network, mels, rows.window, windows, exposure=mvg is None)
    return count if mvg is None else count + gaussian_complexity(mvg, windows)


def description(
    label: str,
    system: System,
    settings: "Settings",
    complexity: dict[tuple[str, str], Complexity],
    training: dict[str, int],
    results: dict[str, dict[str, float | None]],
) -> dict[str, Any]:
    """The meta file of a system, in the order of the challenge's form.

    Args:
        label: <label>_task2_<k>.
        settings: the configuration that made it.
        complexity: by model and machine.
        training: the number of training clips by machine.
        results: as from `development_results`.
    """
    parts = [settings.models[name] for name in system.parts]
    networks = [settings.networks[part.network] for part in parts]
    ensemble = system.name not in settings.models
    largest = {
        name: max(count.parameters for (model, _), count in complexity.items() if model == name)
        for name in system.parts
    }
    backbones = list(dict.fromkeys(network.backbone.name for network in networks))
    pretrained, data = _external(list(dict.fromkeys(network.backbone.weights for network in networks)))
    return {
        "submission": {
            "label": label,
            "name": system.title,
            "abbreviation": system.title[:ABBREVIATION],
            "authors": [_author(author.model_dump()) for author in settings.submission.authors],
        },
        "system": {
            "description": {
                "input_sampling_rate": ", ".join(
                    dict.fromkeys(f"{network.logmel.rate / 1000:g}kHz" for network in networks)
                ),
                "data_augmentation": _listed(_augmentations(settings, [part.network for part in parts])),
                "front_end": None,
                "acoustic_features": "log-mel energies",
                "embeddings": None,
                "machine_learning_method": _listed(
                    [*(f"CNN ({name})" for name in backbones), *(DETECTORS[part.detector] for part in parts)]
                ),
                "aggregation_method": "average" if any(network.window for network in networks) else None,
                "domain_adaptation_method": None,
                "domain_generalization_method": "classification of sections and attributes, both domains as one",
                "ensemble_method_subsystem_count": len(parts) if ensemble else None,
                "decision_making": "a model a machine, by its AUC on the development set" if ensemble else None,
                "attribute_usage": "classification target",
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


DETECTORS = {"gaussian": "Gaussian (Mahalanobis distance)", "exposure": "outlier exposure"}


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
        names += _augmented(network.training)
        waiting += [network.warm_start] if network.warm_start else []
    return names


def _augmented(training: "Training") -> list[str]:
    on = {
        "mixup": training.mixup.alpha,
        "time masking": training.time_masks.count * training.time_masks.width,
        "frequency masking": training.frequency_masks.count * training.frequency_masks.width,
        "parametric equaliser": training.equaliser.probability,
    }
    return [name for name, value in on.items() if value]


def _listed(names: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(names)) or None


def development_results(metrics: "pd.DataFrame", name: str) -> dict[str, dict[str, float | None]]:
    """The development results of a system by machine, in percent: harmonic means over the sections.

    Args:
        metrics: the long form (`asd.summary`).
        name: the model, or ensemble.
    """
    rows = metrics[
        (metrics["model"] == name)
        & (metrics["part"] == "development")
        & (metrics["mean"] == "harmonic")
        & metrics["section"].isna()
        & metrics["machine"].notna()
        & (metrics["selection"] != "cross_fitted")
    ]
    figures = {"auc_source": ("auc", "source"), "auc_target": ("auc", "target"), "pauc": ("pauc", "all")}
    results = {}
    for machine, own in rows.groupby("machine", sort=False):
        value = own.set_index(["metric", "domain"])["value"]
        results[machine] = {
            f"harmonic_mean_{figure}": None if np.isnan(value[key]) else 100 * float(value[key])
            for figure, key in figures.items()
        }
    return results


# --- checking -----------------------------------------------------------------------------------------------

REQUIRED = (
    *(f"submission.{key}" for key in ("label", "name", "abbreviation", "authors")),
    *(f"system.{key}" for key in ("description", "complexity.total_parameters", "external_datasets", "source_code")),
    "results.development_dataset",
)
"""What a meta file must have."""


def system_folders(submission: Path) -> list[Path]:
    """The folders of a submission's systems; the folder itself where it is one.

    Raises:
        InputError: none.
    """
    if submission.is_dir():
        if any(submission.glob("*.csv")):
            return [submission.resolve()]
        if inner := sorted(path for path in submission.iterdir() if path.is_dir()):
            return inner
    raise InputError(f"{submission}: no folder of a system, or of systems (<label>_task2_<k>)")


def faults(folder: Path, clips: Clips) -> list[str]:
    """Everything that is wrong with the folder of a system, a message for each file and kind of fault.

    Args:
        clips: that it must score, and no others.
    """
    values, found = {}, []
    for kind in KINDS:
        values[kind], wrong = _read(folder, kind, clips)
        found += wrong
    for machine in dict.fromkeys(machine for machine, _ in clips):
        score, decision = (
            {clip: value for section, own in values[kind].items() if section[0] == machine for clip, value in own}
            for kind in KINDS
        )
        found += [f"{machine}: {message}" for message in _undecided(score, decision)]
    return found + _meta_faults(folder / f"{folder.name}.meta.yaml")


Values = list[tuple[tuple[str, str], float]]
"""((section, clip), value)."""


def _read(folder: Path, kind: str, clips: Clips) -> tuple[dict[Section, Values], list[str]]:
    """The values of one kind that are as they must be, and what is wrong with the others."""
    files = _files(folder, kind)
    found = [f"{file_name(kind, section)}: missing" for section in clips if section not in files]
    values = {}
    for section, (path, *others) in files.items():
        found += [f"{other.name}: the same section as {path.name}" for other in others]
        if section not in clips:
            found.append(f"{path.name}: unexpected: no clips of this machine and section are to be scored")
            continue
        own, wrong = _values(path, clips[section], (0.0, 1.0) if kind == DECISIONS else ())
        values[section] = [((section[1], clip), value) for clip, value in own.items()]
        found += [f"{path.name}: {message}" for message in wrong]
    return values, found


def _values(path: Path, clips: list[str], allowed: tuple[float, ...]) -> tuple[dict[str, float], list[str]]:
    """What a file says of the clips that it must have, and what is wrong with it."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        return {}, [f"not a readable text file ({error})"]
    pairs = [(row[0], _number(row[1]), row[1]) for row in rows if len(row) == 2 and row[0].endswith(".wav")]
    seen, wanted = Counter(clip for clip, _, _ in pairs), set(clips)
    wrong = {
        "not <clip>.wav,<number>": [",".join(row) for row in rows if len(row) != 2 or not row[0].endswith(".wav")],
        "there more than once": [clip for clip, count in seen.items() if count > 1],
        "missing clips": sorted(wanted - set(seen)),
        "unknown clips": sorted(set(seen) - wanted),
        "not a finite number": [f"{clip} ({text})" for clip, value, text in pairs if not np.isfinite(value)],
    }
    if allowed:
        wrong["neither 0 nor 1"] = [
            f"{clip} ({text})" for clip, value, text in pairs if np.isfinite(value) and value not in allowed
        ]
    values = {
        clip: value
        for clip, value, _ in pairs
        if seen[clip] == 1 and clip in wanted and np.isfinite(value) and (not allowed or value in allowed)
    }
    return values, [f"{what}: {_some(names)}" for what, names in wrong.items() if names]


def _undecided(score: dict[tuple[str, str], float], decision: dict[tuple[str, str], float]) -> list[str]:
    """What contradicts that the decisions were made by one threshold: clips on the wrong side of the likeliest."""
    both = sorted(score.keys() & decision.keys(), key=lambda clip: (score[clip], clip))
    value = np.array([score[clip] for clip in both])
    anomalous = np.array([decision[clip] == 1 for clip in both], dtype=bool)
    below = np.append(0, np.cumsum(anomalous))  # decided 1 among the first i
    above = np.append(0, np.cumsum(~anomalous[::-1]))[::-1]  # decided 0 among the others
    parted = np.append(np.diff(value, prepend=-np.inf) > 0, True)  # no threshold parts equal scores
    cut = int(np.where(parted, below + above, len(both) + 1).argmin())
    wrong = [clip for i, clip in enumerate(both) if anomalous[i] == (i < cut)]
    if not wrong:
        return []
    names = [f"{clip[1]} (section {clip[0]}, score {score[clip]!r}, decided {decision[clip]:g})" for clip in wrong]
    return [f"no threshold makes these decisions; on the wrong side of the likeliest: {_some(names)}"]


def _meta_faults(path: Path) -> list[str]:
    """What is wrong with a meta file."""
    import yaml

    if not path.exists():
        return [f"{path.name}: missing"]
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return [f"{path.name}: not readable YAML ({' '.join(str(error).split())})"]
    given = {key: _at(meta, key) for key in REQUIRED}
    found = [f"{key}: missing" for key, values in given.items() if not values]
    for label in given["submission.label"]:
        if label != path.name.removesuffix(".meta.yaml"):
            found.append(f"submission.label: found {label}; expected the folder's name")
    for short in given["submission.abbreviation"]:
        if len(str(short)) > ABBREVIATION:
            found.append(f"submission.abbreviation: found {short}; expected at most {ABBREVIATION} characters")
    for authors in given["submission.authors"]:
        marked = [author for author in authors or () if isinstance(author, dict) and author.get("corresponding")]
        if len(marked) != 1:
            found.append(f"submission.authors: {len(marked)} are marked as corresponding; expected one")
    for count in given["system.complexity.total_parameters"]:
        if not isinstance(count, int):
            found.append(f"system.complexity.total_parameters: found {count!r}; expected a whole number")
    return [f"{path.name}: {message}" for message in found]


def _at(meta: Any, key: str) -> list[Any]:
    """The value at a dotted key, in a list that is empty where there is none."""
    for part in key.split("."):
        if not isinstance(meta, dict) or part not in meta:
            return []
        meta = meta[part]
    return [meta]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
