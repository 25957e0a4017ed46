"""The published data sets of DCASE Task 2: a machine's archives, their content, and labels that were published later.

The table is `releases.csv` beside this file: records, archives, folders, naming schemes, machines and clips per year.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asd import clip_values
from asd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TABLE = Path(__file__).with_name("releases.csv")

COUNTED = (("train", "source"), ("train", "target"), ("test", ""))
"""Split and domain ("": both) of the clips that the table's columns source, target and test count."""


@dataclass(frozen=True)
class Release:
    """An archive: one part of a machine's recordings."""

    part: str
    record: str
    """The number of the Zenodo record that contains it."""
    archive: str
    """Its file name."""
    names: str
    """The naming scheme of the recordings, an entry of `asd.corpus.GRAMMARS`."""
    folders: dict[str, str]
    """Folder in the archive -> split."""
    sections: list[str]
    """Names of the sections; empty if they are not known."""
    clips: tuple[int, int, int] | None
    """Numbers of clips per section: source and target training clips, test clips; None if they are not known."""


def releases(kind: str, machine: str, parts: list[str]) -> list[Release]:
    """Return the archives of a machine.

    Args:
        kind: the data set, "dcase2022".
        machine: the machine's name.
        parts: the parts to use: development, additional, evaluation.

    Raises:
        InputError: the data set has no such machine, or none of its training clips are in these parts.
    """
    rows = [row for row in _table() if row["kind"] == kind]
    machines = sorted({name for row in rows for name in row["machines"].split()})
    if machine not in machines:
        raise InputError(f"machines: {kind} has no {machine!r}; expected of {' '.join(machines)}")
    of_machine = [row for row in rows if machine in row["machines"].split()]
    found = [_release(row, machine) for row in of_machine if row["part"] in parts]
    if not any(release.part != "evaluation" for release in found):
        there = ", ".join(row["part"] for row in of_machine)
        raise InputError(
            f"dataset.published.parts: found {', '.join(parts)}, but the training clips of {machine} in {kind} are in "
            f"another part (it has {there}); add it, or leave the machine out"
        )
    return found


def machines_of(kind: str, part: str) -> list[str]:
    """Return the machines of a part of a published data set; empty if it is no published data set."""
    rows = [row for row in _table() if row["kind"] == kind and row["part"] == part]
    return sorted({machine for row in rows for machine in row["machines"].split()})


def _table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _release(row: dict[str, str], machine: str) -> Release:
    counts = [row[column] for column in ("source", "target", "test")]
    return Release(
        part=row["part"],
        record=row["record"],
        archive=row["archive"].format(machine),
        names=row["names"],
        folders={folder: folder.rpartition("_")[2] for folder in row["folders"].split()},
        sections=row["sections"].split(),
        clips=tuple(map(int, counts)) if all(counts) else None,
    )


# --- labels of the evaluation part --------------------------------------------------------------------------

TRUTHS = {
    "label": (("ground_truth_data", "data"), ("normal", "anomaly")),
    "domain": (("ground_truth_domain", "domain"), ("source", "target")),
}
"""Column of the manifest -> the folders that may hold its CSV files, and the meaning of 0 and 1 in them."""


def truth_files(folder: Path, machine: str, column: str) -> list[Path]:
    """Return the official CSV files of a machine's labels or domains, `ground_truth_<machine>_section_NN_test.csv`.

    Args:
        folder: the folder that holds `ground_truth_data` and `ground_truth_domain`.
        machine: the machine's name.
        column: label or domain.
    """
    homes = (folder / name for name in TRUTHS[column][0])
    return next((found for home in homes if (found := sorted(home.glob(f"ground_truth_{machine}_*.csv")))), [])


def with_truth(clips: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """Return a manifest with the labels and domains of its evaluation clips from the official CSV files.

    They are joined by the names of the clips.

    Only `ground_truth_data` and `ground_truth_domain` (or `data` and `domain`) are read: the attributes and lists that
    are published beside them contradict them for some machines of 2022. Domains that are in the names are kept.

    Args:
        clips: the manifest of one machine, one row per clip.
        folder: the folder that holds these two folders.

    Raises:
        InputError: there are no CSV files for the machine, one is damaged, or they do not name exactly the machine's
            evaluation clips.
    """
    chosen = clips["part"] == "evaluation"
    if not chosen.any():
        return clips
    machine = clips["machine"].iloc[0]
    clips = clips.copy()
    for column, (homes, _) in TRUTHS.items():
        known = clips[column] != ""
        if column == "domain" and (known[chosen].all() or not known.any()):
            continue  # 2021 has it in every name, 2020 has no domains
        if not (files := truth_files(folder, machine, column)):
            raise InputError(
                f"{folder / homes[0]}: found no ground_truth_{machine}_*.csv; expected the official csv files with the "
                f"{column} of each evaluation clip; point dataset.published.ground_truth to the folder of {homes[0]}"
            )
        truth = _read_truth(files, column)
        names = set(clips["file"][chosen])
        if unknown := sorted(set(truth) - names):
            raise InputError(
                f"{files[0].parent}: names {unknown[0]} of {machine}, and {len(unknown) - 1} more that are not in its "
                "evaluation part; expected the csv files of this year"
            )
        if missing := sorted(names - set(truth)):
            raise InputError(
                f"{files[0].parent}: has no row for {missing[0]} of {machine}, and for {len(missing) - 1} more of its "
                "evaluation clips; add them"
            )
        clips.loc[chosen, column] = [truth[file] for file in clips["file"][chosen]]
    return clips


def _read_truth(files: list[Path], column: str) -> dict[str, str]:
    """Base name -> label or domain."""
    meaning = dict(enumerate(TRUTHS[column][1]))
    truth: dict[str, str] = {}
    for path in files:
        for clip, number in clip_values.read(path, tuple(meaning), "utf-8-sig").items():
            if clip in truth:
                raise InputError(f"{path}: names {clip} a second time; keep one")
            truth[clip] = meaning[number]
    return truth
