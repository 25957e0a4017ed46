"""The log-mel cache of a machine: its spectrograms and waveforms, read clip by clip, in one checksummed file.

A cache is HDF5 (1.10 or newer):

    logmel      (clips, mels, frames) float32   dB, a chunk a clip
    waveform    (clips, samples) int16          a chunk a clip
    clips/…     (clips,) UTF-8                  the manifest's columns (asd.corpus.COLUMNS), in its order
    attributes: layout (int), settings (JSON of LogMel), versions (JSON: what computed it)

Every dataset carries a Fletcher-32 checksum, and this version of HDF5 checks its own structures, so a flipped
byte is an error when it is read and never a wrong value.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.corpus import COLUMNS, read_manifest, recordings
from asd.errors import InputError
from asd.files import written
from asd.progress import progress
from asd.settings import LogMel

if TYPE_CHECKING:
    import h5py
    import pandas as pd

LAYOUT = 1
LIBVER = ("v110", "v110")
"""The first HDF5 that checksums all of its structures."""


# --- writing ------------------------------------------------------------------------------------------------


def write_cache(path: Path, manifest: Path, settings: LogMel) -> None:
    """Compute the log-mels of a manifest's clips, one at a time, into a cache.

    Raises:
        InputError: a recording that is not as it must be, or clips of different length where the settings
            neither crop nor pad; found before anything is computed.
    """
    import h5py
    import torch

    from asd import audio  # here, since those who only read a table of clips need no torch

    clips = read_manifest(manifest)
    files = recordings(manifest, clips)
    samples = common_length({file.name: audio.wav_length(file, settings.rate) for file in files}, settings.lengths)
    with written(path) as aside, h5py.File(aside, "w", libver=LIBVER, locking=False) as file, torch.inference_mode():
        file.attrs["layout"] = LAYOUT
        file.attrs["settings"] = json.dumps(settings.model_dump(), sort_keys=True)
        file.attrs["versions"] = json.dumps({name: version(name) for name in ("numpy", "torch", "h5py")})
        write_clips(file, clips)
        logmel = _dataset(file, "logmel", (len(clips), settings.mels, audio.frames(samples, settings)), np.float32)
        waveform = _dataset(file, "waveform", (len(clips), samples), np.int16)
        for row, recording in enumerate(progress(files, "log-mel", "clips")):
            clip = audio.read_wav(recording, settings.rate)[:samples]
            clip = np.pad(clip, (0, samples - len(clip)))
            waveform[row] = clip
            logmel[row] = audio.log_mel(audio.as_float(clip), settings).numpy()


def common_length(samples: dict[str, int], policy: str) -> int:
    """The length that all clips are brought to.

    Args:
        samples: file -> its samples.
        policy: equal, crop (to the shortest) or pad (with zeros to the longest).

    Raises:
        InputError: `equal`, and they are not.
    """
    counts = Counter(samples.values())
    if policy == "equal" and len(counts) > 1:
        (usual, times), *others = counts.most_common()
        odd = {length: [file for file in samples if samples[file] == length] for length, _ in others[:5]}
        raise InputError(
            f"clips of different length: {times} of {len(samples)} have {usual} samples, but "
            + "; ".join(f"{len(files)} have {length} ({_some(files)})" for length, files in odd.items())
            + (f"; and so on for {len(others) - 5} lengths more" if len(others) > 5 else "")
            + "; expected one length; set logmel.lengths to crop or pad, or remove the odd ones"
        )
    return max(samples.values()) if policy == "pad" else min(samples.values())


def _some(files: list[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def write_clips(file: "h5py.File", clips: "pd.DataFrame") -> None:
    """Write the manifest's columns to the group `clips` of an HDF5 file."""
    import h5py

    for column in COLUMNS:
        text = [value.encode() for value in clips[column]]
        # Of fixed length, since HDF5 keeps the other kind where no checksum reaches.
        kind = h5py.string_dtype("utf-8", max(1, *map(len, text)))
        _dataset(file, f"clips/{column}", (len(text),), kind, rows=len(text))[:] = np.array(text, dtype=kind)


def _dataset(file: "h5py.File", name: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike, rows: int = 1):
    return file.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), fletcher32=True)


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cache:
    """An open log-mel cache."""

    path: Path
    file: "h5py.File"
    clips: "pd.DataFrame"
    """The manifest's columns, a row a clip."""
    settings: LogMel

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return self.file["logmel"].shape[2]

    @property
    def samples(self) -> int:
        """Samples of a clip."""
        return self.file["waveform"].shape[1]

    def read_logmel(self, rows: Sequence[int]) -> np.ndarray:
        """The log-mels of some clips, in the order asked for: (rows, mels, frames) float32, in dB."""
        return self._read("logmel", rows)

    def read_waveform(self, rows: Sequence[int]) -> np.ndarray:
        """The waveforms of some clips, in the order asked for: (rows, samples) int16."""
        return self._read("waveform", rows)

    def _read(self, name: str, rows: Sequence[int]) -> np.ndarray:
        dataset = self.file[name]
        read = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
        try:
            for i, row in enumerate(rows):
                read[i] = dataset[row]
        except OSError as error:
            raise damaged(self.path, error) from None
        return read


@contextmanager
def open_cache(path: Path) -> Iterator[Cache]:
    """Open a log-mel cache for reading.

    Raises:
        InputError: not there, truncated, damaged, or not a cache of this layout. The clips' own checksums are
            verified as they are read.
    """
    import h5py

    if not Path(path).exists():
        raise InputError(f"{path}: no such log-mel cache; make it with logmel.py")
    try:
        # Without a lock, which some network file systems refuse: a cache appears whole and is never changed.
        file = h5py.File(path, locking=False)
    except OSError as error:
        raise damaged(path, error) from None
    with file:
        yield _checked(Path(path), file)


def _checked(path: Path, file: "h5py.File") -> Cache:
    try:
        layout = file.attrs["layout"]
        if layout != LAYOUT:
            raise ValueError(f"found layout {layout}, expected {LAYOUT}")
        settings = LogMel.model_validate_json(file.attrs["settings"])
        cache = Cache(path, file, read_clips(file), settings)
        for name, shape in (
            ("logmel", (len(cache.clips), settings.mels, cache.frames)),
            ("waveform", (len(cache.clips), cache.samples)),
        ):
            if file[name].shape != shape:
                raise ValueError(f"{name}: found the shape {file[name].shape}, expected {shape}")
    # h5py raises all of these on a file whose structures are damaged or other than expected.
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise damaged(path, error) from None
    return cache


def read_clips(file: "h5py.File") -> "pd.DataFrame":
    """Read the group `clips` of an HDF5 file: the manifest's columns, a row a clip."""
    import pandas as pd

    return pd.DataFrame({column: file["clips"][column].asstr()[:] for column in COLUMNS}, dtype=str)


def damaged(path: Path, error: Exception) -> InputError:
    """The error of an HDF5 file that cannot be read."""
    reason = " ".join(str(error).split())
    return InputError(f"{path}: damaged, or not a log-mel cache ({reason}); delete it and run again")
