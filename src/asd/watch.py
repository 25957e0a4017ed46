"""A folder in which recordings appear: which of them are complete, and which were scored before.

The log has one line of JSON per recording: its file, size and time of change, by which it is recognised, and its
result. Each line is written to the disk at once, so that after a restart the work continues where the last run ended.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from asd.errors import InputError
from asd.soundfiles import SUFFIXES

Stamp = tuple[str, int, int]
"""A recording's path below the folder, its size in bytes and its time of change in nanoseconds."""

BEGIN = b'{"file": '
"""The beginning of every line of a log."""


def stamps(folder: Path) -> list[Stamp]:
    """Return the recordings in a folder and its subfolders, in the order of their times of change.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it, or name the one that recordings appear in")
    found = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            try:
                state = path.stat()
            except FileNotFoundError:  # moved away meanwhile
                continue
            found.append((path.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns))
    return sorted(found, key=lambda stamp: (stamp[2], stamp[0]))


class Watched:
    """A folder with its log."""

    def __init__(self, folder: Path, log: Path) -> None:
        """Raises:
        InputError: the log is not one of this command, or there is no such folder.
        """
        self.folder, self.log = folder, log
        self.before: set[Stamp] = set()
        self.done = set(_known(log))

    def ready(self) -> list[Stamp]:
        """Return the recordings that are new and complete, that is, have not changed since the last call."""
        now = [stamp for stamp in stamps(self.folder) if stamp not in self.done]
        whole = [stamp for stamp in now if stamp in self.before and stamp[1] > 0]
        self.before = set(now)
        return whole

    def append(self, stamp: Stamp, found: dict) -> None:
        """Append a recording's result to the log."""
        row = {"file": stamp[0], "size": stamp[1], "changed": stamp[2], **found}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row, ensure_ascii=False) + "\n")
            log.flush()
            os.fsync(log.fileno())
        self.done.add(stamp)


def _known(log: Path) -> Iterator[Stamp]:
    """The recordings in a log; an incomplete last line (after a power cut) is removed."""
    if not log.exists():
        return
    data = log.read_bytes()
    whole = data.rfind(b"\n") + 1
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            row = json.loads(line)
            yield row["file"], row["size"], row["changed"]
        except (ValueError, KeyError, TypeError):
            raise _other(log, number) from None
    if whole < len(data):
        if not data[whole:].startswith(BEGIN[: len(data) - whole]):
            raise _other(log, data[:whole].count(b"\n") + 1)
        os.truncate(log, whole)


def _other(log: Path, number: int) -> InputError:
    return InputError(
        f"{log}: line {number}: found no entry of a log of asd watch; expected JSON with file, size and changed; "
        "name another file for the log"
    )
