"""HDF5 files: how they are written and opened, and the manifest's columns in them.

Datasets have a Fletcher-32 checksum, and HDF5 checks its own structures since version 1.10. A flipped byte is therefore
an error when it is read, and never a wrong value.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from asd.corpus import COLUMNS
from asd.errors import InputError

if TYPE_CHECKING:
    import h5py
    import pandas as pd

Content = TypeVar("Content")

LIBVER = ("v110", "v110")
"""The first HDF5 that checksums all of its structures."""


@contextmanager
def opened(path: Path, kind: str, script: str, content: "Callable[[h5py.File], Content]") -> Iterator[Content]:
    """Open a file for reading, and yield what it contains.

    Args:
        path: the file.
        kind: what it should be, "log-mel cache".
        script: the script that makes it.
        content: returns what the open file contains, and raises if it is another kind of file.

    Raises:
        InputError: the file is missing or damaged, or of another kind.
    """
    import h5py

    if not Path(path).exists():
        raise InputError(f"{path}: no such {kind}; make it with {script}")
    with named(path, kind):
        # Without a lock, which some network file systems refuse and which is not needed: a file is never changed.
        file = h5py.File(path, locking=False)
    with file:
        with named(path, kind):
            found = content(file)
        yield found


@contextmanager
def named(path: Path, kind: str) -> Iterator[None]:
    """Turn errors of h5py, while a file is read, into an error that names the file.

    Raises:
        InputError: the structures of the file are damaged or not as expected.
    """
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, or not a {kind} ({reason}); delete it and run again") from None


def write_clips(file: "h5py.File", clips: "pd.DataFrame") -> None:
    """Write the manifest's columns to the group `clips`."""
    import h5py

    for column in COLUMNS:
        text = [value.encode() for value in clips[column]]
        # Strings of fixed length, since HDF5 stores strings of variable length without a checksum.
        kind = h5py.string_dtype("utf-8", max(1, *map(len, text)))
        dataset(file, f"clips/{column}", (len(text),), kind, rows=len(text))[:] = np.array(text, dtype=kind)


def read_clips(file: "h5py.File") -> "pd.DataFrame":
    """Read the group `clips`: the manifest's columns, one row per clip."""
    import pandas as pd

    return pd.DataFrame({column: file["clips"][column].asstr()[:] for column in COLUMNS}, dtype=str)


def dataset(
    file: "h5py.File", name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike, rows: int = 1
) -> "h5py.Dataset":
    """Create an empty dataset with a checksum.

    Args:
        file: open for writing.
        name: of the dataset.
        shape: of the dataset.
        dtype: of its values.
        rows: of a chunk.
    """
    return file.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), fletcher32=True)
