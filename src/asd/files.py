"""Writing files so that an incomplete file never has its final name."""

import errno
import hashlib
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asd.errors import InputError


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
    begin, end = f".{path.stem}.{platform.node()}.", f".part{path.suffix}"
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
            raise InputError(f"{path}: cannot be written: the disk is full; make room and run again") from None
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


def digest(text: str, length: int = 10) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]
