"""A folder of recordings with a manifest that its owner wrote.

The manifest is a CSV in this folder, or one in the folder of each machine, with one row per recording:

    file, machine, split   required: the recording relative to the manifest's folder; the machine; train or test
    section                the name of a unit of the machine that has a detector of its own; empty or missing: "00"
    domain, label          source or target; normal or anomaly; empty or missing: unknown
    recording              the name of the recording that the file is a part of; empty or missing: the file is all of it
    every other column     an attribute, by its name; an empty cell: the recording does not have it

Columns are separated by commas, semicolons or tabs (spreadsheets of some languages write these). Empty rows are
ignored. Training recordings are assumed to be normal. `propose` makes a first manifest from the recordings' names.
"""

import csv
import io
import logging
import os
import re
import shlex
import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from asd.corpus import COLUMNS, VALUES, as_json, check_once, read_manifest, sorted_clips, with_parts
from asd.errors import InputError
from asd.files import printable
from asd.soundfiles import SUFFIXES, find, said

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

REQUIRED = ["file", "machine", "split"]
OPTIONAL = ["section", "domain", "label", "recording"]


# --- reading ------------------------------------------------------------------------------------------------


def manifest_of(folder: Path, machine: str) -> Path | None:
    """Return the manifest in the machine's folder, or else in the folder above it; None if there is neither.

    Args:
        folder: the folder of all recordings.
        machine: the machine's name.
    """
    return next((path for path in (folder / machine / "manifest.csv", folder / "manifest.csv") if path.is_file()), None)


def recordings_of(folder: Path, machine: str) -> tuple[Path | None, list[Path]]:
    """Return the manifest and the recordings of a machine, without a check.

    Returns:
        The manifest, or None; and the recordings that it names or, without a manifest, those in the machine's folder.
    """
    own = manifest_of(folder, machine)
    if own is None:
        return None, find(folder / machine)[0]
    try:
        table = _table(own)
    except InputError:  # the first job reports it
        return own, []
    if list(table.columns) == COLUMNS:
        files = table["path"][table["machine"] == machine]
    else:
        files = table["file"][table["machine"] == machine]
    return own, [Path(_located(own.parent.resolve(), file)) for file in files]


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
    """Read the rows of all machines from an owner's manifest, as `listed` does for one machine."""
    import pandas as pd

    table = _table(path)
    if list(table.columns) == COLUMNS:
        home = path.parent.resolve()
        clips = read_manifest(path)
        clips = clips.assign(path=[os.path.normpath(home / one) for one in clips["path"]])
        _check_files(path, clips)
        return clips
    attributes = [column for column in table.columns if column not in REQUIRED + OPTIONAL]
    clips = table.reindex(columns=REQUIRED + OPTIONAL, fill_value="")
    clips["section"] = clips["section"].replace("", "00")
    training = clips["split"] == "train"
    clips.loc[training & (clips["label"] == ""), "label"] = "normal"
    _check(path, clips)
    clips["path"] = [_located(path.parent.resolve(), file) for file in clips["file"]]
    clips["attributes"] = [
        as_json({key: value for key, value in row.items() if value}) for row in table[attributes].to_dict("records")
    ]
    _check_files(path, clips)
    _warn_of_both_splits(path, clips)
    _warn_of_row_numbers(path, clips, table[attributes])
    parts = [with_parts(rows) for _, rows in clips.groupby("machine", sort=False)]
    return sorted_clips(pd.concat(parts))[COLUMNS]


def _table(path: Path) -> "pd.DataFrame":
    """The cells of a manifest as text, without white space around them; the index is the number of the row."""
    import pandas as pd

    expected = f"expected {', '.join(REQUIRED)}, … in UTF-8, separated by commas"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.partition("\n")[0]
        fits = (mark for mark in ",;\t" if set(REQUIRED) <= {name.strip(' \r"') for name in first.split(mark)})
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=next(fits, ","), skipinitialspace=True, strict=True)
        cells = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable csv ({error}); {expected}") from None
    cells = [(number, row) for number, row in cells if any(row)]
    header = cells[0][1] if cells else []
    if missing := [column for column in REQUIRED if column not in header]:
        separated = " (separated by semicolons?)" if ";" in first and len(header) < len(first.split(";")) else ""
        raise InputError(
            f"{path}: found the columns {', '.join(header)}{separated}; expected also {', '.join(missing)}, separated "
            "by commas; add them, or let make_manifest.py write a first manifest"
        )
    if not cells[1:]:
        raise InputError(f"{path}: found no rows; expected one row per recording")
    for number, row in cells[1:]:
        if any(row[len(header) :]):
            raise InputError(
                f"{path}: row {number}: found {len(row)} cells, the header has {len(header)}; put cells that contain a "
                "comma between quotation marks"
            )
        if row == header[: len(row)]:
            raise InputError(f"{path}: row {number}: the header a second time; remove the row")
    padded = [(row + [""] * len(header))[: len(header)] for _, row in cells[1:]]
    table = pd.DataFrame(padded, columns=header, index=[number for number, _ in cells[1:]], dtype=str)
    _check_header(path, header, table)
    return table.loc[:, [name != "" for name in header]]


def _check_header(path: Path, header: list[str], table: "pd.DataFrame") -> None:
    if twice := [name for name, times in Counter(header).items() if name and times > 1]:
        raise InputError(f"{path}: found the column {twice[0]!r} {header.count(twice[0])} times; keep one")
    for number, name in enumerate(header):
        # Spreadsheets may leave an empty column at the end.
        if re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name) or (name == "" and table.iloc[:, number].any()):
            raise InputError(
                f"{path}: column {number + 1} has no name (found {name!r}, with {table.iloc[0, number]!r} in its first "
                "row): row numbers, as pandas' to_csv writes them? Remove it (to_csv(…, index=False)), or name it"
            )


def _located(home: Path, file: str) -> str:
    """The path of a recording that a manifest names: below the manifest's folder, or absolute.

    If no file has exactly this name, a file is taken whose name differs only in the Unicode form of its umlauts (macOS
    decomposes them), or in / instead of the backslashes of Windows.
    """
    file = str(Path(file).expanduser()) if file.startswith("~/") else file
    spellings = [file, *(unicodedata.normalize(form, file) for form in ("NFC", "NFD"))]
    spellings += [one.replace("\\", "/") for one in spellings]
    paths = [os.path.normpath(home / one) for one in spellings]
    return next((path for path in paths if Path(path).is_file()), paths[0])


def _warn_of_both_splits(path: Path, clips: "pd.DataFrame") -> None:
    """Warn if parts of one recording are in both splits: the test would not be independent."""
    parts = clips[clips["recording"] != ""]
    for machine, rows in parts.groupby("machine", sort=False):
        splits = rows.groupby("recording", sort=False)["split"].nunique()
        if both := list(splits.index[splits > 1]):
            log.warning(
                "%s: machine %s: %d recordings have parts in both splits (%s): their test parts score too low, since "
                "almost the same sound was in the training; put all parts of a recording into one split",
                *(path, machine, len(both), ", ".join(both[:3]) + (", …" if len(both) > 3 else "")),
            )


def _warn_of_row_numbers(path: Path, clips: "pd.DataFrame", attributes: "pd.DataFrame") -> None:
    """Warn if an attribute is different for every clip of a machine: the network would learn to tell clips apart."""
    for machine, rows in attributes.groupby(clips["machine"], sort=False):
        for column in rows.columns:
            values = rows[column][rows[column] != ""]
            if len(values) > 3 and values.is_unique:
                log.warning(
                    "%s: machine %s: the attribute %r is different for each of %d clips: row numbers, or dates? "
                    "Networks learn to tell the values of the first attribute apart; remove the column",
                    path,
                    machine,
                    column,
                    len(values),
                )


NAMES = r"[A-Za-z0-9][A-Za-z0-9_-]*"
NAMED = "a name: letters, digits, '_' and '-'"


def _check(path: Path, clips: "pd.DataFrame") -> None:
    """Check every cell except the attributes. Messages number the rows as an editor does: the header is row 1."""
    faults = [
        (column, ~clips[column].isin(VALUES[column]), " or ".join(map(repr, VALUES[column])))
        for column in ("split", "domain", "label")
    ]
    faults += [(column, ~clips[column].str.fullmatch(NAMES), NAMED) for column in ("machine", "section")]
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
            row = wrong.idxmax()
            raise InputError(
                f"{path}: row {row}: {column}: found {clips[column][row]!r}, expected {expected}; correct it"
                + (f" ({wrong.sum()} such rows)" if wrong.sum() > 1 else "")
            )


def _check_files(path: Path, clips: "pd.DataFrame") -> None:
    """Check that every row has its file, and that no file is listed twice; warn about files without a row."""
    missing = [
        (row, file)
        for row, file, found in zip(clips.index, clips["file"], clips["path"], strict=True)
        if not Path(found).is_file()
    ]
    if missing:
        raise InputError(
            f"{path}: row {missing[0][0]}: names {missing[0][1]!r}, found no such file ({len(missing)} such rows); add "
            "it or remove the row"
        )
    for _, rows in clips.groupby("machine", sort=False):
        check_once(path, [Path(one) for one in rows["path"]], list(rows["file"]))
    recordings, left_out = recordings_below(path.parent.resolve())
    known = {_identity(one) for one in clips["path"]}
    left_out |= {one: "no row in the manifest" for one in recordings if _identity(one) not in known}
    if left_out:
        log.warning("%s: recordings in its folder: %s", path, said(left_out))


def _identity(path: str | Path) -> tuple[int, int]:
    state = Path(path).stat()
    return state.st_dev, state.st_ino


def recordings_below(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the recordings below a folder, and path -> why it is left out (also a name that is not UTF-8)."""
    found, left_out = find(folder)
    strange = {path: "a name that is not UTF-8; rename it" for path in found if printable(path) != str(path)}
    return [path for path in found if path not in strange], left_out | strange


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
        words: additions to `WORDS`, and other names of machines and sections: {"baseline": "train", "Fan 3": "fan3"}.

    Returns:
        One row per recording: file, machine, section, split, domain, label and the attributes of the patterns.

    Raises:
        InputError: there are no recordings, no pattern fits some of them, or neither pattern nor `fixed` gives a
            column.
    """
    import pandas as pd

    found, left_out = recordings_below(folder)
    if left_out:
        log.warning("%s: %s", folder, said(left_out))
    files = [path.relative_to(folder).as_posix() for path in found]
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
        for column in ("machine", "section"):
            if row.get(column):
                row[column] = _name(folder, file, column, words.get(row[column], row[column]))
        if missing := [column for column in REQUIRED if not row.get(column)]:
            raise InputError(
                f"{folder}: {file}: nothing says its {' and '.join(missing)}; put {{{missing[0]}}} into the "
                f"pattern, or set it for all recordings with --fixed {missing[0]}=…"
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


def _name(folder: Path, file: str, column: str, word: str) -> str:
    """A machine or section, which becomes a part of paths and of the keys of the configuration."""
    if not re.fullmatch(NAMES, word):
        other = re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_-") or f"{column}1"
        raise InputError(
            f"{folder}: {file}: {column}: found {word!r}, expected {NAMED}; give it another name: "
            f"--words {shlex.quote(f'{word}={other}')}"
        )
    return word


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
