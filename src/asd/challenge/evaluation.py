"""Read any folder of challenge files: scores and decisions, joined with the labels by the names of the clips.

    anomaly_score_<machine>_section_NN_test.csv       <clip>.wav,<score>       no header; `_test` may be left out
    decision_result_<machine>_section_NN_test.csv     <clip>.wav,<0 or 1>      for every section or for none
    ground truth, in the published layout:
        ground_truth_data/ground_truth_<machine>_section_NN_test.csv      <clip>.wav,<0 normal, 1 anomaly>
        ground_truth_domain/ground_truth_<machine>_section_NN_test.csv    <clip>.wav,<0 source, 1 target>

The folders may also be called `data` and `domain`. The labels of sections without ground truth are taken from the names
of the clips, as in the development part.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd import clip_values
from asd.clip_values import some
from asd.corpus import parse_name
from asd.errors import InputError
from asd.results.metrics import DECIDED

if TYPE_CHECKING:
    import pandas as pd

NAME = r"{kind}_(?P<machine>.+)_section_(?P<section>\d+)(?:_test)?\.csv"
LABELS = {0: "normal", 1: "anomaly"}
DOMAINS = {0: "source", 1: "target"}

Section = tuple[str, str]
"""Machine and section."""


def read_challenge(
    scores: Path, ground_truth: Path | None = None, machines: list[str] | None = None
) -> dict[str, "pd.DataFrame"]:
    """Read a folder of challenge files with the labels of its clips.

    Args:
        scores: the folder of the score and decision files.
        ground_truth: the folder of the labels; by default they are taken from the names of the clips.
        machines: the machines to read; by default all, and then every section of the ground truth must have scores.

    Returns:
        Machine -> a table with one row per clip: file, section, split (test), part (evaluation with ground truth, else
        development), domain, label, score, decision (-1 if there are no decision files).

    Raises:
        InputError: a file or clip is missing, doubled or unknown, a score is not a finite number, a decision is not 0
            or 1, or clips have no labels. The message names the file and the clips.
    """
    import pandas as pd

    scored, decided = (_sections(scores, kind, machines) for kind in ("anomaly_score", "decision_result"))
    if missing := sorted(set(machines or ()) - {machine for machine, _ in scored}):
        raise InputError(f"{scores}: no anomaly_score_<machine>_section_NN_test.csv of {', '.join(missing)} in it")
    if not scored:
        raise InputError(f"{scores}: no anomaly_score_<machine>_section_NN_test.csv in it")
    if decided:
        _same_sections(scores, "decision_result", scored, decided)
    truth = _ground_truth(ground_truth, scored, machines) if ground_truth else {}
    frames: dict[str, list[pd.DataFrame]] = {}
    for (machine, section), path in scored.items():
        score = clip_values.read(path)
        clips = list(score)
        if truth:
            files = truth[machine, section]
            label, domain = (
                {clip: names[value] for clip, value in clip_values.read(file, allowed=(0, 1)).items()}
                for file, names in zip(files, (LABELS, DOMAINS), strict=True)
            )
            for file, values in zip(files, (label, domain), strict=True):
                _same_clips(path, score, file, values)
        else:
            label, domain = _by_name(path, clips)
        decision = dict.fromkeys(clips, -1)
        if decided:
            decision = clip_values.read(decided[machine, section], allowed=(0, 1))
            _same_clips(decided[machine, section], decision, path, clips)
        frames.setdefault(machine, []).append(
            pd.DataFrame(
                {
                    "file": clips,
                    "section": section,
                    "split": "test",
                    "part": "evaluation" if truth else "development",
                    "domain": [domain[clip] for clip in clips],
                    "label": [label[clip] for clip in clips],
                    "score": [score[clip] for clip in clips],
                    "decision": [int(decision[clip]) for clip in clips],
                }
            )
        )
    return {machine: pd.concat(sections, ignore_index=True) for machine, sections in frames.items()}


def _sections(folder: Path, kind: str, machines: list[str] | None) -> dict[Section, Path]:
    """The files of a kind in a folder by machine and section, sorted."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[Section, Path] = {}
    for path in sorted(folder.glob(f"{kind}_*.csv")):
        match = re.fullmatch(NAME.format(kind=kind), path.name)
        if match is None:
            raise InputError(f"{path}: expected the name {kind}_<machine>_section_NN_test.csv")
        if machines and match["machine"] not in machines:
            continue
        if match.groups() in found:
            raise InputError(f"{path}: the same section as {found[match.groups()].name}; one file is expected")
        found[match.groups()] = path
    return dict(sorted(found.items()))


def _same_sections(folder: Path, kind: str, expected: dict[Section, Path], found: dict[Section, Path]) -> None:
    for problem, sections in (
        ("no", expected.keys() - found.keys()),
        ("an unexpected", found.keys() - expected.keys()),
    ):
        if sections:
            named = some([f"{machine} section {section}" for machine, section in sorted(sections)])
            raise InputError(f"{folder}: {problem} {kind} file of {named}")


def _ground_truth(
    folder: Path, scored: dict[Section, Path], machines: list[str] | None
) -> dict[Section, tuple[Path, Path]]:
    """The label and domain file of each section; empty if the folder has none of the sections with scores."""
    known = []
    for kind in ("data", "domain"):
        inner = next((one for one in (folder / f"ground_truth_{kind}", folder / kind) if one.is_dir()), None)
        if inner is None:
            raise InputError(f"{folder}: expected a folder ground_truth_{kind} (or {kind}) in it")
        known.append(_sections(inner, "ground_truth", machines))
    data, domain = known
    _same_sections(folder, "domain", data, domain)
    if not data.keys() & scored.keys():
        return {}
    _same_sections(next(iter(scored.values())).parent, "anomaly_score", data, scored)
    return {section: (data[section], domain[section]) for section in scored}


def _same_clips(path: Path, found: Iterable[str], other: Path, expected: Iterable[str]) -> None:
    if missing := sorted(set(expected) - set(found)):
        raise InputError(f"{path}: missing, though in {other}: {some(missing)}")
    if unknown := sorted(set(found) - set(expected)):
        raise InputError(f"{path}: unknown, since not in {other}: {some(unknown)}")


def _by_name(path: Path, clips: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and domains from the names of the clips."""
    parsed = {clip: parse_name(clip) for clip in clips}
    if unlabelled := [clip for clip, name in parsed.items() if not name.label]:
        raise InputError(f"{path}: no ground truth for it, and the names do not say the labels: {some(unlabelled)}")
    return {clip: name.label for clip, name in parsed.items()}, {clip: name.domain for clip, name in parsed.items()}


def overview(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Return the figures of one system in the layout of the official evaluator, as texts in percent.

    Args:
        metrics: rows of one model, as from `asd.results.long_form.rows`.

    Returns:
        Per machine one row per section, then its means; at the end the means of all machines. One column per figure.
    """
    import pandas as pd

    names = {("auc", "all"): "AUC", ("auc", "source"): "AUC source", ("auc", "target"): "AUC target"}
    names |= {("pauc", "all"): "pAUC", ("omega", "all"): "Official"}
    names |= {(metric, domain): f"{metric.capitalize()} {domain}" for metric, domain in DECIDED}
    rows = metrics[metrics["mean"] != "machines"]
    lines = []
    for machine in [*filter(None, rows["machine"].unique()), ""]:
        here = rows[rows["machine"] == machine]
        label = here["section"].where(here["mean"] == "", here["mean"] + " mean")
        for section, row in here.groupby(label, sort=False):
            value = row.set_index(["metric", "domain"])["value"]
            texts = ["" if np.isnan(value[key]) else f"{100 * value[key]:.2f}" for key in names]
            lines.append([machine or "all", section, *texts])
    return pd.DataFrame(lines, columns=["Machine", "Section", *names.values()]).set_index("Machine")
