"""The log-mel cache of a machine: its spectrograms and waveforms, read clip by clip, in one checksummed file.

A cache is HDF5:

    logmel      (clips, mels, frames) float32   dB, one chunk per clip
    waveform    (clips, samples) int16          one chunk per clip
    clips/…     (clips,) UTF-8                  the manifest's columns (asd.corpus.COLUMNS), in its order; of recordings
                                                that are cut (`logmel.cut`), one row per clip, named plant.wav@120
    attributes: layout (int), settings (JSON of LogMel), versions (JSON: the libraries that computed it)

A flipped byte is an error when it is read (`asd.hdf5`).
"""

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from asd import hdf5, steps
from asd.code_digest import code_digest
from asd.corpus import read_manifest, recordings
from asd.errors import InputError
from asd.files import digest, written
from asd.mel import frames
from asd.progress import progress
from asd.settings import LogMel, canonical

if TYPE_CHECKING:
    import h5py
    import pandas as pd

log = logging.getLogger(__name__)

LAYOUT = 2
KIND = "log-mel cache"
SHARD_SAMPLES = 2**21
"""Samples of a shard's clips together: about 13 clips of 10 s, 8 MB."""
KEPT_AFTER = 10
"""Seconds of a job after which shards are kept. After an interruption the ones before are computed again, which takes
no longer than this; small corpora are spared the writing."""
LONG = 60
"""Seconds of a clip from which on recordings should be cut."""
HELD = 4 * 10**9
"""Bytes of a training set that are held in the memory of a processor; a larger one is streamed (`asd.streaming`)."""


# --- writing ------------------------------------------------------------------------------------------------


def write_cache(path: Path, manifest: Path, settings: LogMel, samples: int | None = None) -> None:
    """Compute the log-mels of a manifest's clips into a cache, shard by shard.

    Shards that are finished after the first seconds (`KEPT_AFTER`) lie in a hidden folder beside the cache until the
    cache is complete, so that a run after an interruption (with the same recordings, settings and code) continues where
    it stopped. Shards are not synchronised to the disk: if a power cut damages one, its checksum shows it, and it is
    computed again.

    Args:
        path: the cache to write.
        manifest: the machine's manifest.
        settings: how recordings are read, and how the spectrogram is computed.
        samples: the length to which clips are cut; None: the one that `common_length` finds. With `settings.cut`, its
            length.

    Raises:
        InputError: a recording is not as the settings require, or clips differ in length and the settings neither cut,
            crop nor pad. Faults that the headers show are found before anything is computed.
    """
    import h5py

    from asd import soundfiles  # here, since reading a table of clips needs no torch

    clips = read_manifest(manifest)
    files = recordings(manifest, clips)
    if settings.cut.seconds or samples is None:
        lengths = {path: soundfiles.length(file, settings) for path, file in zip(clips["path"], files, strict=True)}
        samples = window(settings) or common_length(lengths, settings)
        if not settings.cut.seconds and samples >= LONG * settings.rate:
            log.warning(
                "each of the %d clips has %.3g s; if they are long recordings, set logmel.cut.seconds (say, 10): "
                "then models learn from many short clips and say when something happened",
                *(len(clips), samples / settings.rate),
            )
    if settings.convert or settings.channel != "mono":
        for change, times in Counter(soundfiles.converted(file, settings) for file in files).items():
            log.info("%d of %d recordings: %s", times, len(files), change or "taken as they are")
    if settings.cut.seconds:
        clips = cut_clips(clips, lengths, settings)
        files = recordings(manifest, clips)
    home = path.with_name(f".{path.stem}.{_identity(clips, files, samples, settings)}.shards")
    for other in path.parent.glob(f".{path.stem}.*.shards"):
        if other != home:
            shutil.rmtree(other)
    size = max(1, SHARD_SAMPLES // samples)
    shards = [(home / f"{start:06}.npz", files[start : start + size]) for start in range(0, len(files), size)]
    with written(path) as aside, h5py.File(aside, "w", libver=hdf5.LIBVER, locking=False) as file:
        file.attrs["layout"] = LAYOUT
        # Of fixed length, as bytes: a text of variable length has no checksum.
        file.attrs["settings"] = np.bytes_(json.dumps(settings.model_dump(), sort_keys=True))
        file.attrs["versions"] = np.bytes_(_versions())
        hdf5.write_clips(file, clips)
        shape = (len(clips), settings.mels, frames(samples, settings))
        datasets = (
            hdf5.dataset(file, "logmel", shape, np.float32),
            hdf5.dataset(file, "waveform", (len(clips), samples), np.int16),
        )
        row, sounds, begin = 0, _sounds(files, samples, settings), time.monotonic()
        for shard, some in progress(shards, "log-mel", f"shards of {size} clips"):
            keep = time.monotonic() - begin >= KEPT_AFTER
            computed = _shard(shard, list(islice(sounds, len(some))), samples, settings, keep)
            # Clip by clip, so that the bytes do not depend on the shards.
            for clip in zip(*computed, strict=True):
                for dataset, values in zip(datasets, clip, strict=True):
                    dataset[row] = values
                row += 1
    shutil.rmtree(home, ignore_errors=True)


def _identity(clips: "pd.DataFrame", files: list[Path], samples: int, settings: LogMel) -> str:
    """A digest of what shards depend on: shards of other recordings, settings, versions or code are not used."""
    from asd import audio

    stats = [(stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, dict.fromkeys(files))]
    code = code_digest(Path(audio.__file__), Path(audio.__file__).parent)
    return digest(json.dumps([clips.to_csv(), stats, samples, SHARD_SAMPLES, canonical(settings), _versions(), code]))


def _versions() -> str:
    return json.dumps({name: version(name) for name in ("numpy", "h5py")})


def window(settings: LogMel) -> int:
    """Return the samples of a clip that is cut from a recording; 0 if recordings are not cut."""
    return round(settings.cut.seconds * settings.rate)


def _every(settings: LogMel) -> int:
    """The samples from the beginning of one clip that is cut to that of the next."""
    return round((settings.cut.every or settings.cut.seconds) * settings.rate)


def cut_clips(clips: "pd.DataFrame", lengths: dict[str, int], settings: LogMel) -> "pd.DataFrame":
    """Return the clips into which recordings are cut.

    Args:
        clips: the manifest's columns, one row per recording.
        lengths: path -> number of samples.
        settings: with `cut`.

    Returns:
        The same columns, one row per clip. `file` is the recording's with the start in seconds (plant.wav@120);
        `recording` is the one from which it was cut, unless the manifest names another.

    Raises:
        InputError: a recording is shorter than a clip, and `lengths` is not pad.
    """
    size, every = window(settings), _every(settings)
    short = [path for path, length in lengths.items() if length < size]
    if short and settings.lengths != "pad":
        raise InputError(
            f"{_some(short)}: {lengths[short[0]] / settings.rate:.2f} s; expected {settings.cut.seconds:g} s or more "
            "(logmel.cut.seconds); cut into shorter clips, remove the recording, or set logmel.lengths to pad"
        )
    starts = [steps.starts(lengths[path], size, every) for path in clips["path"]]
    cut = clips.loc[clips.index.repeat([len(one) for one in starts])].reset_index(drop=True)
    seconds = [f"{start / settings.rate:.6f}".rstrip("0").rstrip(".") for one in starts for start in one]
    log.info(
        "%d recordings are cut into %d clips of %g s, one every %g s",
        *(len(clips), len(cut), size / settings.rate, every / settings.rate),
    )
    return cut.assign(
        file=cut["file"] + "@" + seconds, recording=cut["recording"].where(cut["recording"] != "", cut["file"])
    )


def _sounds(files: list[Path], samples: int, settings: LogMel) -> Iterator[Callable[[], np.ndarray]]:
    """Functions that return the sound of each clip, (samples,) int16 or shorter.

    A recording is read when its function is called; one that is cut, and whose file is there once per clip, in blocks.
    """
    from asd import soundfiles

    if not settings.cut.seconds:
        yield from (partial(soundfiles.read, file, settings) for file in files)
        return
    for file, clips in groupby(files):
        windows = steps.cut(soundfiles.blocks(file, settings), samples, _every(settings))
        yield from (partial(np.asarray, sound) for _, (_, sound) in zip(clips, windows, strict=True))


def _shard(
    shard: Path, sounds: list[Callable[[], np.ndarray]], samples: int, settings: LogMel, keep: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The log-mels and waveforms of some clips, read from their shard, or computed (and written to it if kept)."""
    from asd import audio

    try:
        with np.load(shard, allow_pickle=False) as arrays:  # each array has a checksum
            return arrays["logmel"], arrays["waveform"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # it does not exist yet, or is damaged
    waveform = np.zeros((len(sounds), samples), np.int16)
    logmel = np.empty((len(sounds), settings.mels, frames(samples, settings)), np.float32)
    for row, sound in enumerate(sounds):
        clip = sound()[:samples]
        waveform[row, : len(clip)] = clip
        logmel[row] = audio.log_mel(audio.as_float(waveform[row]), settings)
    if keep:
        with written(shard, lasting=False) as aside:
            np.savez(aside, logmel=logmel, waveform=waveform)
    return logmel, waveform


def common_length(samples: dict[str, int], settings: LogMel) -> int:
    """Return the length in samples to which all clips are cropped or padded, and log how much sound is lost.

    Args:
        samples: path -> number of samples.
        settings: `lengths`, equal, crop (to the shortest) or pad (with zeros to the longest), and `crop_limit`.

    Raises:
        InputError: `lengths` is equal, and they are not; or it is crop, and more than `crop_limit` of the sound would
            be cut off.
    """
    counts = Counter(samples.values())
    if settings.lengths == "equal" and len(counts) > 1:
        (usual, times), *others = counts.most_common()
        odd = {length: [file for file in samples if samples[file] == length] for length, _ in others[:5]}
        raise InputError(
            f"clips of different length: {times} of {len(samples)} have {usual} samples, but "
            + "; ".join(f"{len(files)} have {length} ({_some(files)})" for length, files in odd.items())
            + (f"; and so on for {len(others) - 5} lengths more" if len(others) > 5 else "")
            + "; expected one length; set logmel.lengths to crop or pad, or remove the others"
        )
    total = sum(samples.values())
    if settings.lengths == "pad":
        longest = max(samples, key=samples.__getitem__)
        length = samples[longest]
        if length * len(samples) > total:
            log.warning(
                "clips of different length are padded with zeros to the %.2f s of the longest, %s: "
                "%.0f %% of all samples are zeros",
                length / settings.rate,
                longest,
                100 * (1 - total / (length * len(samples))),
            )
        return length
    shortest = min(samples, key=samples.__getitem__)
    length = samples[shortest]
    _check_crop(shortest, length, 1 - length * len(samples) / total, settings)
    return length


def _check_crop(shortest: str, length: int, lost: float, settings: LogMel) -> None:
    """Log the clip to whose length all are cropped; refuse if too large a share of the sound is lost."""
    if lost <= 0:
        return
    said = (
        f"clips of different length are cropped to the {length / settings.rate:.2f} s of the shortest, {shortest}: "
        f"{100 * lost:.0f} % of all sound is left out"
    )
    if lost > settings.crop_limit:
        raise InputError(
            f"{said}; expected {100 * settings.crop_limit:.0f} % at most (logmel.crop_limit). Remove the short ones, "
            "set logmel.lengths to pad, or raise logmel.crop_limit"
        )
    log.warning("%s", said)


def _some(files: list[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cache:
    """An open log-mel cache of one machine."""

    path: Path
    file: "h5py.File"
    clips: "pd.DataFrame"
    """The manifest's columns, one row per clip."""
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
        """Return the log-mels of the clips with these row numbers, in this order: (rows, mels, frames) float32."""
        return self._read("logmel", rows)

    def read_waveform(self, rows: Sequence[int]) -> np.ndarray:
        """Return the waveforms of the clips with these row numbers, in this order: (rows, samples) int16."""
        return self._read("waveform", rows)

    def _read(self, name: str, rows: Sequence[int]) -> np.ndarray:
        dataset = self.file[name]
        read = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
        with hdf5.named(self.path, KIND):
            for i, row in enumerate(rows):
                read[i] = dataset[row]
        return read


@dataclass(frozen=True)
class Joined:
    """The open caches of several machines as one: their clips one after another, cut to the length of the shortest."""

    caches: list[Cache]

    def __post_init__(self) -> None:
        for cache in self.caches[1:]:
            if cache.settings != self.caches[0].settings:
                raise InputError(
                    f"{cache.path}: other log-mel settings than {self.caches[0].path}; a network of all machines needs "
                    "the same for all"
                )
        clips = {str(cache.path): len(cache.file["logmel"]) for cache in self.caches}
        samples = {str(cache.path): cache.samples for cache in self.caches}
        total = sum(clips[path] * samples[path] for path in clips)
        shortest = min(samples, key=samples.__getitem__)
        _check_crop(
            shortest, samples[shortest], 1 - samples[shortest] * sum(clips.values()) / total, self.caches[0].settings
        )

    @property
    def path(self) -> Path:
        """The path of the first cache, for messages."""
        return self.caches[0].path

    @property
    def clips(self) -> "pd.DataFrame":
        """The manifests' columns, one row per clip."""
        import pandas as pd

        return pd.concat([cache.clips for cache in self.caches], ignore_index=True)

    @property
    def settings(self) -> LogMel:
        """The settings of all caches."""
        return self.caches[0].settings

    @property
    def frames(self) -> int:
        """Frames that the clips of all caches have."""
        return min(cache.frames for cache in self.caches)

    @property
    def samples(self) -> int:
        """Samples that the clips of all caches have."""
        return min(cache.samples for cache in self.caches)

    def read_logmel(self, rows: Sequence[int]) -> np.ndarray:
        """As `Cache.read_logmel`, but only the frames that all caches have: (rows, mels, frames) float32."""
        return self._read(rows, np.empty((len(rows), self.settings.mels, self.frames), np.float32), Cache.read_logmel)

    def read_waveform(self, rows: Sequence[int]) -> np.ndarray:
        """As `Cache.read_waveform`, but only the samples that all caches have: (rows, samples) int16."""
        return self._read(rows, np.empty((len(rows), self.samples), np.int16), Cache.read_waveform)

    def _read(self, rows: Sequence[int], read: np.ndarray, one: Callable) -> np.ndarray:
        begins = np.cumsum([0, *(len(cache.clips) for cache in self.caches)])
        for place, row in enumerate(rows):  # clip by clip: there may be no memory for a second copy of all clips
            number = int(np.searchsorted(begins, row, side="right")) - 1
            read[place] = one(self.caches[number], [row - begins[number]])[0, ..., : read.shape[-1]]
        return read


@contextmanager
def open_cache(path: Path) -> Iterator[Cache]:
    """Open a log-mel cache for reading.

    Raises:
        InputError: the file is missing, truncated, damaged, or not a cache of this layout. The checksums of the clips
            are verified when they are read.
    """
    with hdf5.opened(path, KIND, "logmel.py", lambda file: _checked(Path(path), file)) as cache:
        yield cache


def _checked(path: Path, file: "h5py.File") -> Cache:
    layout = file.attrs["layout"]
    if layout != LAYOUT:
        raise ValueError(f"found layout {layout}, expected {LAYOUT}")
    settings = LogMel.model_validate_json(file.attrs["settings"])
    cache = Cache(path, file, hdf5.read_clips(file), settings)
    for name, shape in (
        ("logmel", (len(cache.clips), settings.mels, cache.frames)),
        ("waveform", (len(cache.clips), cache.samples)),
    ):
        if file[name].shape != shape:
            raise ValueError(f"{name}: found the shape {file[name].shape}, expected {shape}")
    return cache
