"""The feature vectors of clips and windows: a network's stages, pooled, side by side, or a spectrum.

A features file is HDF5:

    features   (rows, d) float32       one row per clip, or one row per window, in the order of the clips
    offsets    (clips + 1,) int64      clip i has rows offsets[i]:offsets[i + 1]
    clips/…    (clips,) text           the manifest's columns
    attributes: widths, the number of features: (stages,) of a network, (1,) of a spectrum; settings (JSON of Windows)
"""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from asd import hdf5
from asd.corpus import sorted_clips
from asd.errors import InputError
from asd.files import written
from asd.progress import progress
from asd.settings import LogMel, Windows

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    import torch
    from torch import nn

    from asd.cache import Cache

KIND = "features file"
FRAMES_AT_ONCE = {"cpu": 1024, "mps": 8192, "cuda": 65536}
"""Frames that go through the network together: on a CPU few, so that the stages stay in its caches (4096 take 1.2 to
1.5 times as long, on one core); on a GPU many, so that it is busy."""


@dataclass(frozen=True)
class Cut:
    """How the clips of a machine are cut into the rows that the network sees."""

    clip: np.ndarray
    """(rows,), the clip of a row, ascending."""
    start: np.ndarray
    """(rows,), the first frame of a row."""
    window: int
    """Frames of a row."""

    @property
    def offsets(self) -> np.ndarray:
        """(clips + 1,): clip i has rows offsets[i]:offsets[i + 1]."""
        return np.searchsorted(self.clip, np.arange(self.clip[-1] + 2))


def cut(training: np.ndarray, frames: int, settings: Windows) -> Cut:
    """Cut clips into windows: every `hop` frames for training clips, every `test_hop` for the others.

    Args:
        training: (clips,) bool, whether a clip is a training clip.
        frames: frames of a clip.
        settings: the window and its hops.

    Raises:
        InputError: the clips are shorter than the window.
    """
    window = settings.window or frames
    if window > frames:
        raise InputError(
            f"window: found {window} frames, but the clips have {frames}; a network of whole clips has window 0"
        )
    starts = [np.arange(0, frames - window + 1, settings.hop if one else settings.test_hop) for one in training]
    clip = np.repeat(np.arange(len(starts)), [len(one) for one in starts])
    return Cut(clip, np.concatenate(starts), window)


def window_times(count: int, hop: int, window: int, settings: LogMel) -> np.ndarray:
    """Return the seconds at the middle of each window of a clip.

    Args:
        count: number of windows.
        hop: frames from one window to the next.
        window: frames of a window.
        settings: of the log-mel.

    Returns:
        (count,) float64.
    """
    return (np.arange(count) * hop + (window - 1) / 2) * settings.hop / settings.rate


def computed(
    function: Callable[["torch.Tensor"], "torch.Tensor"],
    cache: "Cache",
    cut: Cut,
    device: "torch.device",
    title: str,
    hears: Literal["logmel", "waveform"] = "logmel",
) -> Iterator[tuple[int, int, "torch.Tensor"]]:
    """Yield (first row, last row + 1, the function's values of these rows) for all rows in order.

    On a CPU one batch per thread is computed at the same time. If several threads shared a batch, they would wait for
    one another after every layer, and the values would depend on the number of threads.

    Args:
        function: of log-mels (rows, mels, window), or of waveforms (rows, samples) int16, on the device.
        cache: an open log-mel cache.
        cut: how its clips are cut into rows.
        device: where the function computes.
        title: the name of the work in the progress.
        hears: what the function takes; waveforms of whole clips only.
    """
    import torch

    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 1
    compute = torch.inference_mode()(lambda heard: function(heard).cpu())
    waiting = deque()
    torch.set_num_threads(threads // workers)  # of each worker, which copies it when it starts
    try:
        with ThreadPoolExecutor(workers) as pool:
            for begin, end, heard in _batches(cache, cut, device, title, hears):
                waiting.append((begin, end, pool.submit(compute, heard)))
                if len(waiting) > 2 * workers:
                    begin, end, values = waiting.popleft()
                    yield begin, end, values.result()
            for begin, end, values in waiting:
                yield begin, end, values.result()
    finally:
        torch.set_num_threads(threads)


def _batches(
    cache: "Cache", cut: Cut, device: "torch.device", title: str, hears: str
) -> Iterator[tuple[int, int, "torch.Tensor"]]:
    """Yield (first row, last row + 1, the log-mels or waveforms of these rows, on the device), and log the progress."""
    import torch

    size = max(1, FRAMES_AT_ONCE[device.type] // cut.window)
    for begin in progress(range(0, len(cut.clip), size), f"{title} of {cut.clip[-1] + 1} clips", f"batches of {size}"):
        end = min(begin + size, len(cut.clip))
        clips = np.arange(cut.clip[begin], cut.clip[end - 1] + 1)
        if hears == "waveform":
            yield begin, end, torch.from_numpy(cache.read_waveform(clips)).to(device)
            continue
        logmel = torch.from_numpy(cache.read_logmel(clips)).to(device)
        windows = logmel.unfold(2, cut.window, 1)  # (clips, mels, starts, window), a view
        clip = torch.from_numpy(cut.clip[begin:end] - clips[0]).to(device)
        start = torch.from_numpy(cut.start[begin:end]).to(device)
        yield begin, end, windows[clip, :, start]


@contextmanager
def features_file(
    path: Path, clips: "pd.DataFrame", offsets: np.ndarray, widths: list[int], settings: Windows
) -> "Iterator[h5py.Dataset]":
    """Yield the dataset `features` of a features file, to be filled; the file gets its name when the block succeeds.

    Args:
        path: the file to write.
        clips: the manifest's columns, one row per clip.
        offsets: (clips + 1,): clip i has rows offsets[i]:offsets[i + 1].
        widths: numbers of columns of the stages, or of the spectrum.
        settings: how clips were cut.
    """
    import h5py

    with written(path) as aside, h5py.File(aside, "w", libver=hdf5.LIBVER) as file:
        shape = (int(offsets[-1]), sum(widths))
        out = file.create_dataset("features", shape, np.float32, chunks=(min(64, shape[0]), shape[1]), fletcher32=True)
        file.create_dataset("offsets", data=offsets, chunks=offsets.shape, fletcher32=True)
        file.attrs["widths"] = widths
        file.attrs["settings"] = json.dumps(settings.model_dump(), sort_keys=True)
        hdf5.write_clips(file, clips)
        yield out


def write_features(path: Path, network: "nn.Module", cache: "Cache", settings: Windows, device: "torch.device") -> None:
    """Write the feature vectors of every clip of a cache.

    Args:
        path: the file to write.
        network: of any kind (`asd.kinds`), in evaluation mode, on the device.
        cache: an open log-mel cache of the machine.
        settings: how clips are cut.
        device: where the network computes.
    """
    rows = cut((cache.clips["split"] == "train").to_numpy(), cache.frames, settings)
    with features_file(path, cache.clips, rows.offsets, network.widths, settings) as out:
        for begin, end, values in computed(network.vectors, cache, rows, device, "features", network.hears):
            out[begin:end] = values.numpy()


@dataclass(frozen=True)
class Features:
    """An open features file."""

    path: Path
    values: "h5py.Dataset"
    """(rows, d) float32."""
    clips: "pd.DataFrame"
    """The manifest's columns, one row per clip."""
    offsets: np.ndarray
    """(clips + 1,): clip i has rows offsets[i]:offsets[i + 1]."""
    widths: np.ndarray
    """Numbers of features: (stages,) of a network, (1,) of a spectrum."""

    def rows(self, start: int, stop: int, columns: np.ndarray | None = None) -> np.ndarray:
        """Return rows start:stop as (rows, values) float32.

        Args:
            start: the first row.
            stop: the row after the last.
            columns: (values,), the numbers of the columns; None: all.

        Raises:
            InputError: the file is damaged.
        """
        with hdf5.named(self.path, KIND):
            rows = self.values[start:stop]
        return rows if columns is None else rows[:, columns]


def write_training(path: Path, sources: Mapping[Path, Collection[str]], settings: Windows, most: float = np.inf) -> int:
    """Write the features of the training clips of some features files as one features file, in a manifest's order.

    What only the manifest of the recordings tells (`path`) or the test clips do (`part`) is not kept.

    Args:
        path: the file to write.
        sources: the features files, each with those of its training clips that are left out, by `file`.
        settings: how clips were cut.
        most: bytes of features above which nothing is written.

    Returns:
        The bytes of the features.
    """
    import pandas as pd

    tables = []
    with ExitStack() as stack:
        opened = [stack.enter_context(open_features(source)) for source in sources]
        for number, (one, left_out) in enumerate(zip(opened, sources.values(), strict=True)):
            kept = np.flatnonzero((one.clips["split"] == "train") & ~one.clips["file"].isin(left_out))
            places = {"source": number, "begin": one.offsets[kept], "end": one.offsets[kept + 1]}
            tables.append(one.clips.iloc[kept].assign(part="development", **places))
        clips = sorted_clips(pd.concat(tables))
        clips["path"] = clips["file"]
        widths = opened[0].widths.tolist()
        counts = (clips["end"] - clips["begin"]).to_numpy()
        size = int(counts.sum()) * sum(widths) * np.dtype(np.float32).itemsize
        if size > most:
            return size
        places = zip(clips["source"], clips["begin"], clips["end"], strict=True)
        rows = [opened[number].rows(begin, end) for number, begin, end in places]
    with features_file(path, clips, np.cumsum([0, *counts]), widths, settings) as out:
        out[:] = np.concatenate(rows)
    return size


@contextmanager
def open_features(path: Path) -> Iterator[Features]:
    """Open a features file for reading.

    Raises:
        InputError: the file is missing or damaged, or not a features file.
    """

    def content(file: "h5py.File") -> Features:
        return Features(path, file["features"], hdf5.read_clips(file), file["offsets"][:], file.attrs["widths"])

    with hdf5.opened(path, KIND, "features.py or spectra.py", content) as features:
        yield features
