"""Writing files so that an incomplete file never has its final name; listing folders through links."""

import errno
import hashlib
import json
import logging
import os
import platform
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

TRASH = {"$RECYCLE.BIN", "System Volume Information", "RECYCLER", "lost+found", "__MACOSX", "@eaDir", "#recycle"}
"""Folders of deleted files, and folders that systems and storage devices make; left out, as hidden folders are."""


@contextmanager
def written(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Yield a unique temporary path beside `path`; rename it to `path` when the block succeeds.

    The block creates the file. If it raises, the temporary file is removed and `path` is left as it was. Two processes
    that write the same path never share a temporary file; the last rename wins. Temporary files that killed processes
    of this host have left for the same path are removed.

    Args:
        path: the file to write.
        lasting: whether the file must survive a power cut once it has its name. False for files that are checked when
            they are read, and made again if they are damaged.

    Raises:
        InputError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, since some writers choose their format by it. The name of the host is included, since other
    # hosts may share the disk.
    stem = path.stem if len(os.fsencode(path.stem)) <= 120 else digest(path.stem)
    begin, end = f".{stem}.{platform.node()}.", f".part{path.suffix}"
    for left in path.parent.iterdir():
        ours = left.name.startswith(begin) and left.name.endswith(end)
        if ours and _is_gone(left.name.removeprefix(begin).partition("-")[0]):
            left.unlink(missing_ok=True)
    aside = path.with_name(f"{begin}{os.getpid()}-{secrets.token_hex(4)}{end}")
    try:
        yield aside
        if lasting:
            _synchronise(aside)
        aside.replace(path)
    except Exception as error:
        # h5py, safetensors and csv raise different exceptions for a full disk; all contain the system's message.
        if os.strerror(errno.ENOSPC) in str(error):
            raise InputError(f"{path}: cannot be written: the disk is full; free some space and run again") from None
        raise
    finally:
        aside.unlink(missing_ok=True)


def _is_gone(process: str) -> bool:
    """Whether no process of this host has this number."""
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False


def _synchronise(path: Path) -> None:
    """Write the file's bytes to the disk before it gets its final name, in case of a power cut between the two."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """List the files in a folder and its subfolders, through links, without hidden and deleted files.

    Args:
        folder: the folder, or a link to it.

    Returns:
        The files, sorted; and path -> why it could not be read: a folder without permission, a link to itself, or to a
        folder that contains it.
    """
    files: list[Path] = []
    skipped: dict[Path, str] = {}
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        inner, above = waiting.pop()
        try:
            state = inner.stat()
            here = (state.st_dev, state.st_ino)
            if here in above:
                skipped[inner] = "a link to a folder that it lies in"
                continue
            with os.scandir(inner) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            skipped[inner] = error.strerror or str(error)
            continue
        for name in names:
            if name.startswith(".") or name in TRASH:
                continue
            path = inner / name
            try:
                directory = stat.S_ISDIR(path.stat().st_mode)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError) and not path.is_symlink()  # deleted since it was listed
                if not gone:
                    skipped[path] = error.strerror or str(error)
                continue
            if directory:
                waiting.append((path, above | {here}))
            else:
                files.append(path)
    return sorted(files), dict(sorted(skipped.items()))


def read_table(path: Path, columns: Collection[str] = (), numbers: Collection[str] = ()) -> "pd.DataFrame":
    """Read a CSV that the workflow wrote. Cells stay text (a machine may be called 1 or NA), except for `numbers`.

    Args:
        path: the file.
        columns: the columns that it must have; others may follow.
        numbers: those of them that hold numbers; an empty cell is nan.

    Raises:
        InputError: the file is missing or not such a table, or a cell of `numbers` is not a number.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes the surplus cells in front for an index
            raise ValueError("rows with more cells than the header")
        if missing := [column for column in (*columns, *numbers) if column not in table]:
            found = ", ".join(table.columns)
            raise ValueError(f"found the columns {found}; expected {', '.join(missing)} among them")
        for column in numbers:
            table[column] = table[column].replace("", "nan").astype(float)
    except (OSError, ValueError) as error:  # pandas' own errors and those of the encoding are ValueErrors
        raise InputError(f"{path}: not a readable table ({error}); delete it and run again") from None
    return table


def write_table(path: Path, table: "pd.DataFrame", float_format: str | None = None) -> None:
    """Write a table as CSV, without its index.

    Args:
        path: the file.
        table: its cells; NaN becomes an empty cell.
        float_format: "%.2f" for two decimals; by default numbers have their full precision.
    """
    with written(path) as aside:
        table.to_csv(aside, index=False, float_format=float_format, lineterminator="\n", encoding="utf-8")


def printable(path: Path | str) -> str:
    """Return a path for messages and pictures; bytes that are not UTF-8 (names from old systems) become numbers."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def contents(files: Iterable[Path], memory: Path) -> str:
    """Return a digest of the content of files, in their order; it does not depend on their names and times.

    Args:
        files: the files.
        memory: where the checksums of files are kept (JSON), so that a file is read again only if its size or its time
            of modification has changed.
    """
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    found, checksums = {}, []
    for file in files:
        try:
            state = file.stat()
            stamp = [state.st_size, state.st_mtime_ns]
            name = printable(file.absolute())
            if known.get(name, [])[:2] == stamp:
                found[name] = known[name]
            elif stat.S_ISREG(state.st_mode):
                with file.open("rb") as opened:
                    found[name] = [*stamp, hashlib.file_digest(opened, "sha256").hexdigest()]
            checksums.append(found.get(name, [""])[-1])
        except OSError as error:  # the job that reads the file reports it
            checksums.append(error.strerror or "")
    if any(known.get(name) != one for name, one in found.items()):
        with written(memory, lasting=False) as aside:
            aside.write_text(json.dumps(known | found), encoding="utf-8")
    return digest("\n".join(checksums))


def digest(text: str, length: int = 10) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:length]
