"""The recordings of a machine in one table, made from their names and attribute files.

A manifest (`manifest.csv`, one per machine) has one row per clip and these columns, all text:

    path        the recording, relative to the manifest's folder, or absolute
    file        its base name; for a folder with its owner's manifest, the path in that folder
    machine     the machine type
    section     two digits or more, "00"; for a folder with its owner's manifest any name
    split       train | test
    part        development | additional | evaluation
    domain      source | target | "" (unknown)
    label       normal | anomaly | "" (unknown)
    attributes  JSON object of the clip's conditions, "{}" for none: {"vel": "8", "loc": "A"}; values stay text
    recording   the recording that the clip is a part of; "": it is a recording of its own

Rows are sorted by split (train first) and file.
"""

import csv
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asd.errors import InputError
from asd.files import printable, write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

COLUMNS = ["path", "file", "machine", "section", "split", "part", "domain", "label", "attributes", "recording"]

VALUES = {
    "split": ("train", "test"),
    "part": ("development", "additional", "evaluation"),
    "domain": ("source", "target", ""),
    "label": ("normal", "anomaly", ""),
}
"""The values that a column of the manifest may have."""


class Grammar(NamedTuple):
    """A naming scheme of recordings."""

    patterns: tuple[re.Pattern[str], ...]
    """Patterns of a base name with a label, and of one without, which is a test clip."""
    expected: str
    """The same as a text for messages."""


_ATTRIBUTES = r"(?P<tail>(?:_[A-Za-z0-9.+-]+)*)"
# A training clip is normal by definition: an anomaly among them is a mistake in the name or in the corpus.
_LABELLED = (
    r"section_(?P<section>[0-9]{2,})_(?P<domain>source|target)_"
    rf"(?!train_anomaly)(?P<split>train|test)_(?P<label>normal|anomaly)_[0-9]{{4,}}{_ATTRIBUTES}\.wav"
)
_LABELLED_EXPECTED = "section_NN_{source|target}_{train_normal|test_normal|test_anomaly}_IIII"

GRAMMARS = {
    "pairs": Grammar(
        (re.compile(_LABELLED), re.compile(r"section_(?P<section>[0-9]{2,})_[0-9]{4,}\.wav")),
        f"{_LABELLED_EXPECTED}[_<key>_<value>...].wav or section_NN_IIII.wav (an unlabelled test clip)",
    ),
    "words": Grammar(
        (
            re.compile(_LABELLED),
            re.compile(r"section_(?P<section>[0-9]{2,})_(?P<domain>source|target)_test_[0-9]{4,}\.wav"),
        ),
        f"{_LABELLED_EXPECTED}[_<words>].wav or section_NN_{{source|target}}_test_IIII.wav (an unlabelled test clip)",
    ),
    "id": Grammar(
        (
            re.compile(r"(?P<label>normal|anomaly)_id_(?P<section>[0-9]{2,})_[0-9]{4,}\.wav"),
            re.compile(r"id_(?P<section>[0-9]{2,})_[0-9]{4,}\.wav"),
        ),
        "{normal|anomaly}_id_NN_IIIIIIII.wav or id_NN_IIIIIIII.wav (an unlabelled test clip)",
    ),
}
"""The published naming schemes. pairs: since 2022, attributes are pairs of key and value. words: 2021, attributes are
words without keys, and every name has a domain. id: 2020, the id of a machine is its section; there are no domains and
no attributes, and only the folder says whether a normal clip belongs to the training or the test split."""


# --- names --------------------------------------------------------------------------------------------------


class ClipName(NamedTuple):
    """The parts of a recording's base name."""

    section: str
    split: str
    """train, test, or "" if the name does not say."""
    domain: str
    """source, target, or "" if the name does not say."""
    label: str
    """normal, anomaly, or "" if the name does not say."""
    attributes: dict[str, str]


def parse_name(file: str, names: str = "pairs") -> ClipName:
    """Read a recording's base name (not its path, since a folder may be called `source_data`).

    Args:
        file: the base name.
        names: an entry of `GRAMMARS`.

    Raises:
        InputError: the name does not follow the naming scheme.

    >>> parse_name("section_00_target_test_anomaly_0021_vel_8_loc_G.wav").attributes
    {'vel': '8', 'loc': 'G'}
    """
    grammar = GRAMMARS[names]
    match = next((found for pattern in grammar.patterns if (found := pattern.fullmatch(file))), None)
    if match is None:
        raise InputError(
            f"{file!r} does not follow the naming scheme: expected {grammar.expected}; rename or remove it"
        )
    fields = match.groupdict("")
    label = fields.get("label", "")
    split = fields.get("split", "" if label else "test")
    words = fields.get("tail", "").split("_")[1:]
    if words == ["noAttribute"]:  # since 2024, for machines whose conditions are not published
        words = []
    if names == "words":
        words = ["attributes", "_".join(words)] if words else []
    attributes = _pairs(words)
    if attributes is None:
        raise InputError(
            f"{file!r} does not follow the naming scheme: after the number expected pairs of a key and a value, "
            f"each key once; found {'_'.join(words)!r}; rename it"
        )
    return ClipName(fields["section"], split, fields.get("domain", ""), label, attributes)


def _pairs(words: list[str]) -> dict[str, str] | None:
    """[key, value, key, value] as a dictionary; None for half a pair, an empty word or a key twice."""
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    return pairs if all(words) and 2 * len(pairs) == len(words) else None


def attribute_label(attributes: str) -> str:
    """Return the label of a clip's first attribute, "vel_8", or "" if it has none.

    Args:
        attributes: a cell of the manifest's column, a JSON object.
    """
    return "_".join(next(iter(json.loads(attributes).items()), ()))


# --- a folder of recordings ---------------------------------------------------------------------------------


def scan(folder: Path, machine: str, names: str = "pairs") -> "pd.DataFrame":
    """List a machine's recordings in a folder laid out like the published data sets.

    `folder/machine` holds `train` and `test` with the wavs and, optionally, one `attributes_NN.csv` per section. If a
    section has such a file, attributes are taken from it alone (the file leaves out attributes that do not shift the
    domain, and may spell a key differently), and the file must name every labelled clip. Otherwise attributes are taken
    from the base names. Other files are ignored.

    Test clips with a label belong to the development part, test clips without one to the evaluation part. Training
    clips belong to the additional part if the machine has test clips, but no test clip of their section has a label;
    otherwise to the development part.

    Args:
        folder: the folder that holds one folder per machine.
        machine: the machine's name.
        names: the naming scheme, an entry of `GRAMMARS`.

    Returns:
        One row per clip with the manifest's columns; paths are absolute.

    Raises:
        InputError: there is no such folder, there are no training clips, a wav is named wrongly or in the wrong place,
            or a CSV file is wrong.
    """
    import pandas as pd

    home = Path(folder, machine).resolve()
    rows = [_clip(path, machine, names) for path in _recordings(home)]
    if not any(row["split"] == "train" for row in rows):
        raise InputError(f"{home / 'train'}: found no wav, expected the machine's training clips; put them there")
    clips = sorted_clips(pd.DataFrame(rows, columns=COLUMNS, dtype=str))

    for path in sorted(home.glob("attributes_*.csv")):
        known = read_attributes(path, clips)
        section = path.stem.removeprefix("attributes_")
        of_section = clips["section"] == section
        forgotten = clips["file"][of_section & (clips["label"] != "") & ~clips["file"].isin(known)]
        if len(forgotten):
            raise InputError(
                f"{path}: has no row for {len(forgotten)} of the section's labelled clips ({_some(forgotten)}); "
                "add them, or remove the csv to take the attributes from the file names"
            )
        clips.loc[of_section, "attributes"] = [as_json(known.get(file, {})) for file in clips["file"][of_section]]
    return with_parts(clips)


def sorted_clips(clips: "pd.DataFrame") -> "pd.DataFrame":
    """Return clips in a manifest's order: training first, then by file."""
    return clips.sort_values(["split", "file"], ascending=[False, True], kind="stable", ignore_index=True)


def with_parts(clips: "pd.DataFrame") -> "pd.DataFrame":
    """Return a machine's clips with their part, which follows from the labels that are known (see `scan`)."""
    test = clips["split"] == "test"
    judged = clips["section"].isin(clips["section"][test & (clips["label"] != "")])
    part = (~test & ~judged & test.any()).map({True: "additional", False: "development"})
    return clips.assign(part=part.mask(test & (clips["label"] == ""), "evaluation"))


def _recordings(home: Path) -> list[Path]:
    """The wavs in `train` and `test`; a wav anywhere else in the machine's folder is an error."""
    from asd.soundfiles import find, said

    if not home.is_dir():
        raise InputError(f"{home}: no such folder; expected the machine's recordings in its folders train and test")
    found, left_out = find(home)
    left_out |= {path: "not a wav; a manifest.csv can list it" for path in found if path.suffix.lower() != ".wav"}
    if left_out:
        log.warning("%s: %s", home, said(left_out))
    wavs = [path for path in found if path.suffix.lower() == ".wav"]
    folders = [home / split for split in VALUES["split"]]
    if outside := [path for path in wavs if path.parent not in folders]:
        raise InputError(
            f"{printable(outside[0])!r}: a recording outside the folders train and test; move or remove it"
        )
    check_once(home, wavs)
    return wavs


def check_once(where: Path, files: list[Path], names: list[str] | None = None) -> None:
    """Refuse a recording that has two names: a link, or another spelling of its path.

    Args:
        where: the folder or manifest, for the message.
        files: the recordings of a machine.
        names: their names in the message; by default their paths.

    Raises:
        InputError: two names belong to the same file.
    """
    seen: dict[tuple[int, int], str] = {}
    for path, name in zip(files, names or map(str, files), strict=True):
        state = path.stat()
        one = (state.st_dev, state.st_ino)
        if one in seen:
            raise InputError(
                f"{where}: {seen[one]} and {printable(name)} are one recording (a link, or another spelling of its "
                "path); keep one of them"
            )
        seen[one] = printable(name)


def _clip(path: Path, machine: str, names: str) -> dict[str, str]:
    """A recording's row of the manifest, without its part."""
    split = path.parent.name
    try:
        name = parse_name(path.name, names)
    except InputError as error:
        raise InputError(f"{path.parent}: {error}") from None
    if name.split not in ("", split):
        raise InputError(f"{path}: its name says {name.split}, but it lies in {split}; move or rename it")
    if split == "train" and name.label != "normal":
        raise InputError(f"{path}: its name says anomaly, but it lies among the training clips; move or rename it")
    return name._asdict() | {
        "split": split,
        "path": str(path),
        "file": path.name,
        "machine": machine,
        "part": "",
        "attributes": as_json(name.attributes),
        "recording": "",
    }


def read_attributes(path: Path, clips: "pd.DataFrame") -> dict[str, dict[str, str]]:
    """Read an attribute CSV: `file_name,d1p,d1v[,d2p,d2v...]`, the file name as `<machine>/<split>/<base name>`.

    Rows may have different numbers of pairs (as in section 05 of the real valve), but no incomplete pairs. The file
    name may also be only the last part of the path, or the last two.

    Args:
        path: the file.
        clips: the machine's clips, one row per clip, among which the names must be.

    Returns:
        base name -> {key: value} in the order of the file.

    Raises:
        InputError: the file is not such a CSV, a row is wrong, or a row names a clip that is missing or was already
            named.
    """
    names = clips["machine"] + "/" + clips["split"] + "/" + clips["file"]
    there = dict(zip(clips["file"], names, strict=True))
    found: dict[str, dict[str, str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            rows = csv.reader(text, strict=True)
            if (header := next(rows, []))[:1] != ["file_name"]:
                raise InputError(f"{path}: row 1: found {header}, expected a header file_name,d1p,d1v,...")
            for number, (name, *cells) in ((rows.line_num, row) for row in rows if row):
                where = f"{path}: row {number}"
                file = name.rpartition("/")[2]
                if file not in there or not f"/{there[file]}".endswith(f"/{name}"):
                    raise InputError(f"{where}: names {name!r}, found no such recording; add it or remove the row")
                if file in found:
                    raise InputError(f"{where}: names {name!r} a second time; keep one of the rows")
                while cells and not cells[-1]:  # padded to the width of the longest row
                    cells.pop()
                attributes = _pairs([] if cells == ["noAttribute"] else cells)
                if attributes is None:
                    raise InputError(
                        f"{where}: found {cells}, expected whole pairs of a key and a value, each key once"
                    )
                found[file] = attributes
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not an attribute csv ({error}); expected file_name,d1p,d1v,... in UTF-8") from None
    return found


def _some(files: "pd.Series") -> str:
    return ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")


def as_json(attributes: dict[str, str]) -> str:
    """Return attributes as a cell of the manifest's column."""
    return json.dumps(attributes, ensure_ascii=False)


# --- manifests ----------------------------------------------------------------------------------------------


def check_complete(clips: "pd.DataFrame", where: Path | str) -> None:
    """Check whether a machine's manifest has what later stages need, so that they do not fail hours later.

    Args:
        clips: the manifest's columns, one row per clip, of one machine.
        where: the manifest or folder, for the message.

    Raises:
        InputError: there are no training clips, or a section has only test clips.
    """
    training = clips["split"] == "train"
    if not training.any():
        raise InputError(f"{where}: found no training clips; expected normal recordings of the split train")
    known = clips["section"][training]
    unknown = ~training & ~clips["section"].isin(known)
    if unknown.any():
        raise InputError(
            f"{where}: section {', '.join(sorted(set(clips['section'][unknown])))} has {unknown.sum()} test clips, but "
            f"no training clips ({', '.join(sorted(set(known)))} have some); add them, or take its test clips out"
        )
    for section, times in clips[training].groupby("section").apply(recording_count, include_groups=False).items():
        if times < 2:
            log.warning(
                "%s: section %s has a single training recording; nothing can be learned from one", where, section
            )
    for section in sorted(set(known) - set(clips["section"][~training])):
        log.warning("%s: section %s has no test clips: models learn from it, but nothing is tested", where, section)


def write_manifest(path: Path, clips: "pd.DataFrame") -> None:
    """Write a manifest.

    Recordings below the manifest's folder are named relative to it, so that both can be moved together.

    Args:
        path: the file to write.
        clips: the manifest's columns, one row per clip; paths are absolute.

    Raises:
        InputError: a path or attribute is not text.
    """
    home = path.parent.resolve()
    paths = [one.relative_to(home) if one.is_relative_to(home) else one for one in map(Path, clips["path"])]
    try:
        write_table(path, clips.assign(path=paths)[list(COLUMNS)])
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: a path or attribute is not text ({error}); rename the folder") from None


def read_manifest(path: Path) -> "pd.DataFrame":
    """Read a manifest.

    Raises:
        InputError: the file is missing or not a manifest, or a column has an impossible value; the message gives the
            row.
    """
    import pandas as pd

    try:
        clips = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8").fillna("")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable manifest ({error}); make it with download.py") from None
    if list(clips.columns) != COLUMNS:
        raise InputError(f"{path}: found the columns {list(clips.columns)}, expected {COLUMNS}; make it again")
    if not isinstance(clips.index, pd.RangeIndex):  # pandas takes the surplus cells in front for an index
        raise InputError(f"{path}: rows with more cells than the header; expected {len(COLUMNS)}; make it again")
    if clips.empty:
        raise InputError(f"{path}: no clips; expected one row per recording; make it again")

    faults = {column: ~clips[column].isin(allowed) for column, allowed in VALUES.items()}
    faults |= {column: clips[column] == "" for column in ("path", "machine", "section")}
    faults["file"] = clips.duplicated(["split", "file"]) | (clips["file"] == "")  # 2020 uses names twice
    faults["attributes"] = ~clips["attributes"].map(_is_attributes)
    for column, wrong in faults.items():
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            expected = {
                "file": "a base name, each once per split",
                "attributes": 'a JSON object of texts, like {"vel": "8"}',
            }.get(column, " or ".join(map(repr, VALUES.get(column, ["a text"]))))
            raise InputError(
                f"{path}: row {row + 2}: {column}: found {clips[column][row]!r}, expected {expected}; make it again"
            )
    return clips


def _is_attributes(text: str) -> bool:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return False
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())


def recording_numbers(clips: "pd.DataFrame") -> np.ndarray:
    """Return the number of each clip's recording, (clips,) int64, from 0 in the order of their first clips.

    Parts of one recording are alike, so they count as one if independent samples are needed.

    Args:
        clips: one row per clip. If `recording` is empty or missing, the clip is a recording of its own.
    """
    named = clips["recording"].to_numpy(str) if "recording" in clips else np.full(len(clips), "")
    _, first, number = np.unique(
        np.where(named == "", np.arange(len(clips)).astype(str), np.char.add("/", named)),
        return_index=True,
        return_inverse=True,
    )
    return np.argsort(np.argsort(first))[number]


def recording_count(clips: "pd.DataFrame") -> int:
    """Return the number of recordings to which clips belong (see `recording_numbers`)."""
    return len(np.unique(recording_numbers(clips)))


def recordings(manifest: Path, clips: "pd.DataFrame") -> list[Path]:
    """Return the files of a manifest's clips.

    Args:
        manifest: its path.
        clips: its columns, one row per clip.
    """
    return [manifest.parent / path for path in clips["path"]]
