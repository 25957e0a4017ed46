"""A folder of recordings with a manifest that its owner wrote.

The manifest is a CSV in this folder, or one in the folder of each machine, with one row per recording:

    file, machine, split   required: the recording relative to the manifest's folder; the machine; train or test
    section                a unit of the machine that has a Gaussian of its own: a name; empty or missing: "00"
    domain, label          source or target; normal or anomaly; empty or missing: unknown
    every other column     an attribute, by its name; an empty cell: the recording does not have it

Training recordings are assumed to be normal. `propose` makes a first manifest from the recordings' names.
"""

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from asd.corpus import COLUMNS, VALUES, as_json, read_manifest, sorted_clips, with_parts
from asd.errors import InputError
from asd.soundfiles import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

REQUIRED = ["file", "machine", "split"]
OPTIONAL = ["section", "domain", "label"]


# --- reading ------------------------------------------------------------------------------------------------


def manifest_of(folder: Path, machine: str) -> Path | None:
    """Return the manifest in the machine's folder, or else in the folder above it; None if there is neither.

    Args:
        folder: the folder of all recordings.
        machine: the machine's name.
    """
    return next((path for path in (folder / machine / "manifest.csv", folder / "manifest.csv") if path.is_file()), None)


def listed(path: Path, machine: str) -> "pd.DataFrame":
    """Read the rows of a machine from an owner's manifest.

    A manifest of the workflow itself (with exactly `asd.corpus.COLUMNS`) is taken as it is.

    Args:
        path: the manifest.
        machine: the machine's name.

    Returns:
        One row per clip with the columns of `asd.corpus`; paths are absolute, `file` is as in the owner's manifest.

    Raises:
        InputError: the file is not such a manifest, the machine has no training recordings, or a row is wrong; the
            message gives the row's number.
    """
    clips = read_all(path)
    of_machine = clips[clips["machine"] == machine].reset_index(drop=True)
    if not (of_machine["split"] == "train").any():
        found = ", ".join(f"{name} ({times})" for name, times in Counter(clips["machine"]).most_common())
        raise InputError(
            f"{path}: found no training recordings of {machine!r}; expected some; the manifest's machines are {found}"
        )
    for column in ("section", "domain", "label"):
        if (empty := of_machine[column][of_machine["split"] == "test"] == "").any():
            log.info("%s: %d test recordings of unknown %s", machine, empty.sum(), column)
    return of_machine


def read_all(path: Path) -> "pd.DataFrame":
    """Read the rows of all machines from an owner's manifest; otherwise as `listed`."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
        table = table.fillna("")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable csv ({error}); expected {', '.join(REQUIRED)}, … in UTF-8") from None
    home = path.parent.resolve()
    if list(table.columns) == COLUMNS:
        clips = read_manifest(path)
        clips = clips.assign(path=[os.path.normpath(home / one) for one in clips["path"]])
        _check_files(path, clips)
        return clips
    if missing := [column for column in REQUIRED if column not in table.columns]:
        raise InputError(
            f"{path}: found the columns {', '.join(table.columns)}; expected also {', '.join(missing)}; add them, or "
            "let make_manifest.py write a first manifest"
        )
    if not isinstance(table.index, pd.RangeIndex) or table.empty:
        raise InputError(f"{path}: found no rows, or rows of more cells than the header; expected a row a recording")
    table = table.apply(lambda column: column.str.strip())
    attributes = [column for column in table.columns if column not in REQUIRED + OPTIONAL]
    clips = table.reindex(columns=REQUIRED + OPTIONAL, fill_value="")
    clips["section"] = clips["section"].replace("", "00")
    training = clips["split"] == "train"
    clips.loc[training & (clips["label"] == ""), "label"] = "normal"
    _check(path, clips)
    clips["path"] = [os.path.normpath(home / file) for file in clips["file"]]
    clips["attributes"] = [
        as_json({key: value for key, value in row.items() if value}) for row in table[attributes].to_dict("records")
    ]
    _check_files(path, clips)
    parts = [with_parts(rows) for _, rows in clips.groupby("machine", sort=False)]
    return sorted_clips(pd.concat(parts))[COLUMNS]


def _check(path: Path, clips: "pd.DataFrame") -> None:
    """Check every cell except the attributes. Messages number the rows as an editor does: the header is row 1."""
    names = r"[A-Za-z0-9][A-Za-z0-9_-]*"
    faults = [
        (column, ~clips[column].isin(VALUES[column]), " or ".join(map(repr, VALUES[column])))
        for column in ("split", "domain", "label")
    ]
    faults += [
        (column, ~clips[column].str.fullmatch(names), "a name: letters, digits, '_' and '-'")
        for column in ("machine", "section")
    ]
    faults += [
        ("file", clips["file"] == "", "the recording, relative to the manifest's folder"),
        ("file", clips.duplicated(["machine", "file"]), "each recording once"),
        (
            "label",
            (clips["split"] == "train") & (clips["label"] == "anomaly"),
            "'normal' or nothing in the train split",
        ),
    ]
    for column, wrong, expected in faults:
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(
                f"{path}: row {row + 2}: {column}: found {clips[column][row]!r}, expected {expected}; correct it"
                + (f" ({wrong.sum()} such rows)" if wrong.sum() > 1 else "")
            )


def _check_files(path: Path, clips: "pd.DataFrame") -> None:
    """Check that every row has its file; warn about files without a row, which may have been forgotten."""
    missing = [file for file, found in zip(clips["file"], map(Path, clips["path"]), strict=True) if not found.is_file()]
    if missing:
        raise InputError(
            f"{path}: row {clips.index[clips['file'] == missing[0]][0] + 2}: names {missing[0]!r}, found no such file "
            f"({len(missing)} such rows); add it or remove the row"
        )
    known = set(clips["path"])
    if forgotten := [str(file) for file in recordings_below(path.parent.resolve()) if str(file) not in known]:
        log.warning(
            "%s: %d recordings below it have no row and are left out: %s%s",
            path,
            len(forgotten),
            ", ".join(forgotten[:3]),
            ", …" if len(forgotten) > 3 else "",
        )


def recordings_below(folder: Path) -> list[Path]:
    """Return the sound files anywhere below a folder, without hidden ones (incomplete, or left by macOS)."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


# --- a first manifest ---------------------------------------------------------------------------------------

WORDS = {
    "split": {"train": "train", "training": "train", "test": "test", "testing": "test"},
    "domain": {"source": "source", "target": "target"},
    "label": {
        **dict.fromkeys(("normal", "ok", "good", "healthy"), "normal"),
        **dict.fromkeys(("anomaly", "anomalous", "abnormal", "ng", "bad", "faulty", "fault"), "anomaly"),
    },
}
"""The meaning of words in a recording's path, in lower case."""


def propose(folder: Path, patterns: list[str], fixed: dict[str, str], words: dict[str, str]) -> "pd.DataFrame":
    """Make a first manifest from the paths of recordings.

    Args:
        folder: the folder of the recordings.
        patterns: patterns of paths relative to the folder: `{name}` takes the value of a column, as short as possible,
            `*` any text within one name, `**` any text. If several fit, the first counts.
        fixed: column -> its value for recordings whose pattern does not give it.
        words: additions to `WORDS`: {"baseline": "train"}.

    Returns:
        One row per recording: file, machine, section, split, domain, label and the attributes of the patterns.

    Raises:
        InputError: there are no recordings, no pattern fits some of them, or neither pattern nor `fixed` gives a
            column.
    """
    import pandas as pd

    files = [path.relative_to(folder).as_posix() for path in recordings_below(folder)]
    if not files:
        raise InputError(f"{folder}: found no recordings; expected files that end in {', '.join(SUFFIXES)}")
    compiled = [_compiled(pattern) for pattern in patterns]
    matches = {file: next(filter(None, (one.fullmatch(file) for one in compiled)), None) for file in files}
    if strange := [file for file, match in matches.items() if match is None]:
        raise InputError(
            f"{folder}: {len(strange)} of {len(files)} recordings fit none of the patterns {', '.join(patterns)}: "
            f"{', '.join(strange[:3])}{', …' if len(strange) > 3 else ''}; add a pattern"
        )
    rows = []
    for file, match in matches.items():
        row = {"file": file, **fixed, **match.groupdict()}
        for column, meanings in WORDS.items():
            if row.get(column):
                allowed = meanings | {word: value for word, value in words.items() if value in VALUES[column]}
                row[column] = _meaning(folder, file, column, row[column], allowed)
        if missing := [column for column in REQUIRED if not row.get(column)]:
            raise InputError(
                f"{folder}: {file}: nothing says its {' and '.join(missing)}; put {{{missing[0]}}} into the "
                f"pattern, or give it to all with --fixed {missing[0]}=…"
            )
        rows.append({column: row.get(column, "") for column in REQUIRED + OPTIONAL} | row)
    return pd.DataFrame(rows).fillna("")


def _meaning(folder: Path, file: str, column: str, word: str, meanings: dict[str, str]) -> str:
    if (found := meanings.get(word, meanings.get(word.lower()))) is None:
        raise InputError(
            f"{folder}: {file}: {column}: found {word!r}, expected {', '.join(meanings)}; say what it stands for: "
            f"--words {word}={VALUES[column][0]}"
        )
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    tokens = {"**": ".*", "*": "[^/]*"}
    parts, seen = [], set()
    for token in re.split(r"(\{\w+\}|\*\*|\*)", pattern):
        if token.startswith("{"):
            if not token[1:-1].isidentifier() or token in seen or token == "{file}":
                raise InputError(f"pattern {pattern!r}: {token}: expected names of columns, each once, other than file")
            seen.add(token)
            parts.append(rf"(?P<{token[1:-1]}>[^/]+?)")
        else:
            parts.append(tokens.get(token, re.escape(token)))
    return re.compile("".join(parts))
