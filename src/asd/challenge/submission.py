"""A submission to DCASE Task 2: the clips that must have scores, and its files.

<label>_task2_<k>/                                     one folder per system
    anomaly_score_<machine>_section_NN_test.csv        <clip>.wav,<score>     no header
    decision_result_<machine>_section_NN_test.csv      <clip>.wav,<0 or 1>
    <label>_task2_<k>.meta.yaml                        the challenge's form of 2022, filled in
<label>_task2.zip                                      task2/<label>_task2_<k>/…, the form of the challenge
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asd import clip_values
from asd.challenge.evaluation import NAME, Section
from asd.challenge.meta import META_HEAD
from asd.clip_values import some
from asd.corpus import read_manifest
from asd.errors import InputError
from asd.files import written
from asd.scores import UNDECIDED

if TYPE_CHECKING:
    import pandas as pd

KINDS = SCORES, DECISIONS = "anomaly_score", "decision_result"
Clips = dict[Section, list[str]]
"""The clips to be scored, base names, by machine and section."""


def clips_of_manifests(manifests: Iterable[Path]) -> Clips:
    """Return the clips that a submission must score: the evaluation part, or all test clips if there is none.

    Raises:
        InputError: a manifest cannot be read, or there are no test clips.
    """
    import pandas as pd

    clips = pd.concat([read_manifest(path) for path in manifests])
    tests = clips[clips["split"] == "test"]
    evaluation = tests[tests["part"] == "evaluation"]
    chosen = tests if evaluation.empty else evaluation
    if chosen.empty:
        raise InputError("the manifests list no test clips; there is nothing to submit")
    return {section: sorted(rows["file"]) for section, rows in chosen.groupby(["machine", "section"])}


def training_clips(manifests: Iterable[Path]) -> dict[str, int]:
    """Return the number of training clips of each machine.

    Raises:
        InputError: a manifest cannot be read.
    """
    tables = [read_manifest(path) for path in manifests]
    return {table["machine"].iloc[0]: int((table["split"] == "train").sum()) for table in tables}


def clips_of_ground_truth(folder: Path) -> Clips:
    """Return the clips of the published labels, <folder>/ground_truth_data/ground_truth_<machine>_section_NN_test.csv.

    Raises:
        InputError: there are no such files, or one cannot be read.
    """
    for inner in (folder / "ground_truth_data", folder / "data", folder):
        if found := challenge_files(inner, "ground_truth"):
            return {section: sorted(clip_values.read(path)) for section, (path, *_) in found.items()}
    raise InputError(f"{folder}: expected ground_truth_data/ground_truth_<machine>_section_NN_test.csv in it")


def challenge_files(folder: Path, kind: str) -> dict[Section, list[Path]]:
    """Return the files of a kind by machine and section; misnamed files by their name."""
    found: dict[Section, list[Path]] = {}
    for path in sorted(folder.glob(f"{kind}_*.csv")):
        match = re.fullmatch(NAME.format(kind=kind), path.name)
        found.setdefault((match["machine"], match["section"]) if match else ("", path.name), []).append(path)
    return dict(sorted(found.items()))


def file_name(kind: str, section: Section) -> str:
    """Return the name of a file of scores or decisions."""
    return f"{kind}_{section[0]}_section_{section[1]}_test.csv"


def write_system(folder: Path, scores: dict[str, "pd.DataFrame"], clips: Clips, meta: dict[str, Any]) -> None:
    """Write the folder of one system.

    Args:
        folder: <label>_task2_<k>.
        scores: machine -> scores, as `asd.scores` reads them.
        clips: the clips to submit.
        meta: from `asd.challenge.meta.description`.

    Raises:
        InputError: a clip has no score or no decision.
    """
    import yaml

    for (machine, section), files in clips.items():
        own = scores[machine]
        rows = own[(own["split"] == "test") & (own["section"] == section)].set_index("file")
        if missing := sorted(set(files) - set(rows.index)):
            raise InputError(f"scores of {machine}, section {section}: no score of {some(missing)}; score them again")
        rows = rows.loc[files]
        if undecided := list(rows.index[rows["decision"] == UNDECIDED]):
            raise InputError(
                f"scores of {machine}, section {section}: no decision of {some(undecided)}, since there are too few "
                "training clips for a threshold; the challenge needs 0 or 1 for every clip"
            )
        for kind, values in ((SCORES, rows["score"].astype(float)), (DECISIONS, rows["decision"].astype(int))):
            with written(folder / file_name(kind, (machine, section))) as aside:
                lines = (f"{file},{value!r}\n" for file, value in zip(files, values.tolist(), strict=True))
                aside.write_text("".join(lines), encoding="utf-8", newline="\n")
    with written(folder / f"{folder.name}.meta.yaml") as aside:
        text = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=120)
        aside.write_text(META_HEAD + text, encoding="utf-8", newline="\n")


def pack(path: Path, folders: Iterable[Path]) -> None:
    """Write the package of systems; the same files give the same bytes, independent of the time of writing."""
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

    with written(path) as aside, ZipFile(aside, "w") as package:
        for folder in sorted(folders, key=lambda folder: folder.name):
            for file in sorted(folder.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    member = ZipInfo(f"task2/{folder.name}/{file.name}", date_time=(1980, 1, 1, 0, 0, 0))
                    member.create_system, member.external_attr = 3, 0o644 << 16  # Unix, on every system
                    package.writestr(member, file.read_bytes(), ZIP_DEFLATED)
