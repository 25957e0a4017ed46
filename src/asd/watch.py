"""A folder in which recordings appear: which of them are complete, and which were scored before.

The log has one line of JSON per recording, or per step of a long one: its file, size and time of change, by which it is
recognised, and its result. The lines of a recording are written to the disk at once, so that after a restart the work
continues where the last run ended. Only one process can write a log at a time; a second one is refused.
"""

import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from asd.errors import InputError
from asd.soundfiles import find, said

_log = logging.getLogger(__name__)

Stamp = tuple[str, int, int]
"""A recording's path below the folder, its size in bytes and its time of change in nanoseconds."""

BEGIN = b'{"file": '
"""The beginning of every line of a log."""


def stamps(folder: Path) -> tuple[list[Stamp], dict[Path, str]]:
    """Return the recordings below a folder in the order of their times of change, and what is left out.

    What is left out is given as path -> reason.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it, or name the one that recordings appear in")
    found = []
    recordings, left_out = find(folder)
    for path in recordings:
        try:
            state = path.stat()
        except FileNotFoundError:  # moved away meanwhile
            continue
        except OSError as error:
            left_out[path] = error.strerror or str(error)
            continue
        found.append((path.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns))
    return sorted(found, key=lambda stamp: (stamp[2], stamp[0])), left_out


class Watched:
    """A folder with its log."""

    def __init__(self, folder: Path, log: Path) -> None:
        """Open and lock the log.

        Raises:
            InputError: the log is not one of this command, another process writes it, or there is no such folder.
        """
        self.folder, self.log = folder, log
        self.before: set[Stamp] = set()
        self.left_out: dict[Path, str] = {}
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; make it, or name the one that recordings appear in")
        log.parent.mkdir(parents=True, exist_ok=True)
        self.file = log.open("ab", buffering=0)
        _lock(self.file, log)
        self.done: set[Stamp] = set()
        self.decisions: list[str | None] = []
        """Decisions on the recordings that were in the log, in its order."""
        for stamp, decision in _known(log):
            self.done.add(stamp)
            self.decisions.append(decision)

    def close(self) -> None:
        """Close the log, so that another process can write it."""
        self.file.close()

    def ready(self) -> list[Stamp]:
        """Return the recordings that are new and complete, that is, have not changed since the last call."""
        found, left_out = stamps(self.folder)
        if new := {path: why for path, why in left_out.items() if path not in self.left_out}:
            _log.warning("%s: %s", self.folder, said(new))
        self.left_out = left_out
        now = [stamp for stamp in found if stamp not in self.done]
        whole = [stamp for stamp in now if stamp in self.before and stamp[1] > 0]
        self.before = set(now)
        return whole

    def append(self, stamp: Stamp, found: list[dict]) -> None:
        """Append a recording's results to the log, all of them or none.

        Raises:
            InputError: the log cannot be written, for example because the disk is full. It is as it was before.
        """
        lines = b""
        for one in found:
            row = {"file": stamp[0], "size": stamp[1], "changed": stamp[2], **one}
            try:
                lines += json.dumps(row, ensure_ascii=False).encode() + b"\n"
            except UnicodeEncodeError:  # a name that is not UTF-8; JSON writes it as numbers
                lines += json.dumps(row).encode() + b"\n"
        before = os.fstat(self.file.fileno()).st_size
        try:
            while lines:  # a full disk may take a part
                lines = lines[self.file.write(lines) :]
            os.fsync(self.file.fileno())
        except OSError as error:
            with suppress(OSError):  # not of a device
                os.ftruncate(self.file.fileno(), before)
            raise InputError(
                f"{self.log}: cannot be written ({error.strerror}), so the watch ends; {stamp[0]} is scored again at "
                "the next start"
            ) from None
        self.done.add(stamp)


def _lock(file: io.FileIO, log: Path) -> None:
    """Lock the log for this process; the kernel releases it when the process ends."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{log}: another asd watch writes this log; end that one, or name another log (--out)"
        ) from None
    except OSError as error:
        _log.warning("%s: no locks on this file system (%s); let only one asd watch write it at a time", log, error)


def _known(log: Path) -> Iterator[tuple[Stamp, str | None]]:
    """The recordings in a log and their decisions; an incomplete last line (after a power cut) is removed."""
    if not log.is_file():  # a device, such as /dev/null, may have no end
        return
    data = log.read_bytes()
    whole = data.rfind(b"\n") + 1
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            row = json.loads(line)
            yield (row["file"], row["size"], row["changed"]), row.get("decision")
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
