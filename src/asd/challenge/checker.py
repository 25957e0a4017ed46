"""Find the faults of a submission, ours or another: one message per file and kind of fault."""

from pathlib import Path
from typing import Any

import numpy as np

from asd.challenge.evaluation import Section
from asd.challenge.meta import ABBREVIATION
from asd.challenge.submission import DECISIONS, KINDS, Clips, challenge_files, file_name
from asd.clip_values import UNREADABLE, examine, some
from asd.errors import InputError

REQUIRED = (
    *(f"submission.{key}" for key in ("label", "name", "abbreviation", "authors")),
    *(f"system.{key}" for key in ("description", "complexity.total_parameters", "external_datasets", "source_code")),
    "results.development_dataset",
)
"""Keys that a meta file must have."""


def system_folders(submission: Path) -> list[Path]:
    """Return the folders of a submission's systems; the folder itself if it is that of a system.

    Raises:
        InputError: there is none.
    """
    if submission.is_dir():
        if any(submission.glob("*.csv")):
            return [submission.resolve()]
        if inner := sorted(path for path in submission.iterdir() if path.is_dir()):
            return inner
    raise InputError(f"{submission}: no folder of a system, or of systems (<label>_task2_<k>)")


def faults(folder: Path, clips: Clips) -> list[str]:
    """Return everything that is wrong with the folder of a system, one message per file and kind of fault.

    Args:
        folder: of the system.
        clips: the clips that must have scores; others must not.
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
    """The valid values of one kind, and what is wrong with the others."""
    files = challenge_files(folder, kind)
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
    """The values of a file for the clips that it must have, and what is wrong with it."""
    found, wrong = examine(path, allowed)
    wanted = set(clips)
    if UNREADABLE not in wrong:
        wrong |= {"missing clips": sorted(wanted - set(found)), "unknown clips": sorted(set(found) - wanted)}
    values = {clip: value for clip, value in found.items() if clip in wanted and np.isfinite(value)}
    return values, [f"{what}: {some(names)}" for what, names in wrong.items() if names]


def _undecided(score: dict[tuple[str, str], float], decision: dict[tuple[str, str], float]) -> list[str]:
    """Check that decisions agree with one threshold; name the clips on the wrong side of the most likely one."""
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
    return [
        "the decisions do not follow from one threshold for the machine (set threshold.scope to machine); on the wrong "
        f"side of the most likely threshold: {some(names)}"
    ]


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
    """The value at a dotted key, in a list; the list is empty if there is none."""
    for part in key.split("."):
        if not isinstance(meta, dict) or part not in meta:
            return []
        meta = meta[part]
    return [meta]
