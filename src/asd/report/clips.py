"""The sound, the log-mel and the window scores of each test clip, for the report.

One folder per machine has <row>.flac, the sound; <row>.webp, the log-mel; and clips.json, the list of the clips, with
the curves that the page draws beside the log-mels. Files are named by the clip's row in the log-mel cache, never by the
name of a recording.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.bands import band_edges, band_shares
from asd.errors import InputError
from asd.features import window_times
from asd.files import written
from asd.mel import mel_edges
from asd.progress import progress
from asd.report.machine_figures import evenly
from asd.report.sound_figures import level_range, mel_ticks, time_span
from asd.report.style import COLORMAP
from asd.results.suspicious import deviations
from asd.scores import UNDECIDED

if TYPE_CHECKING:
    import pandas as pd

    from asd.cache import Cache
    from asd.features import Features
    from asd.sections import Sections
    from asd.settings import LogMel

CLIPS_PER_RANGE = 60
"""Number of clips from whose levels a machine's range of colours is computed."""

POINTS = 120
"""Largest number of points of a curve of window scores; if there are more windows, a point is the highest of several
neighbouring ones."""

TELLING = 0.6
"""The largest length of a window, as a share of the clip, with which its place says when something happened."""


def window_scores(features: "Features", sections: "Sections", row: int) -> np.ndarray:
    """Return the score of each window of a test clip by the domain that the clip is nearest to, (windows,) float64.

    Args:
        features: an open features file.
        sections: the detector that was fitted to it.
        row: the number of the clip.

    Raises:
        InputError: the detector was fitted to other features.
    """
    from asd.sections import columns_of, pooled

    section = sections.sections.get(features.clips["section"].iloc[row])
    columns = columns_of(features.widths, sections.settings)
    rows = features.rows(features.offsets[row], features.offsets[row + 1], columns)
    try:
        found = section.window_scores(rows)
    except (AttributeError, ValueError):
        raise InputError(f"{features.path}: the detector was fitted to other features; fit it to this file") from None
    return found[:, pooled(found, np.array([len(found)]), sections.settings.window_pooling)[0].argmin()]


def waveform_digest(cache: "Cache") -> str:
    """Return the SHA-256 (hexadecimal) of the samples of all clips, in the order of the manifest."""
    digest = hashlib.sha256()
    for row in range(len(cache.clips)):
        digest.update(cache.read_waveform([row]).astype("<i2").tobytes())
    return digest.hexdigest()


def write_clips(
    folder: Path,
    cache: "Cache",
    scores: "dict[str, pd.DataFrame]",
    windowed: "tuple[str, Features, Sections] | None" = None,
    spectral: "tuple[str, Features, Sections] | None" = None,
) -> None:
    """Write the folder of a machine's test clips.

    Args:
        folder: the folder to write.
        cache: an open log-mel cache of the machine.
        scores: model -> scores, one row per clip in the order of the cache.
        windowed: a model whose network sees windows, its features and its detector; None: no curves over time.
        spectral: a model of spectra with a Gaussian, likewise; None: no curves along the frequency.

    Raises:
        InputError: scores or features are of other clips.
    """
    import soundfile
    from matplotlib.image import imsave

    clips, settings = cache.clips, cache.settings
    tables = {**scores, **{f"features of {one[0]}": one[1].clips for one in (windowed, spectral) if one}}
    for name, table in tables.items():
        if not table[["split", "section", "file"]].equals(clips[["split", "section", "file"]]):
            raise InputError(f"{cache.path}: {name}: not of the same clips; run the workflow again")
    rows = np.flatnonzero(clips["split"] == "test")
    curves, worst = {}, {}
    for row in rows if windowed else []:
        _, features, sections = windowed
        own, cut, every = window_scores(features, sections, row), _cut(features), _every(features)
        curves[row] = np.maximum.reduceat(own, np.arange(0, len(own), every))
        if cut["window"] <= TELLING * cache.frames:
            worst[row] = float(window_times(len(own), cut["test_hop"], cut["window"], settings)[own.argmax()])
    shares = dict(_shares(rows, settings.mels, spectral))
    limits = scores[windowed[0]]["threshold"].to_numpy() if windowed else np.empty(0)
    low, high = _range([*curves.values(), limits[np.isfinite(limits)]])
    above = {model: _deviations(table) for model, table in scores.items()}
    colours = level_range(cache.read_logmel([row])[0] for row in evenly(rows, CLIPS_PER_RANGE)) if len(rows) else (0, 1)
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for row in progress(rows, "clips", "clips"):
        row = int(row)
        look = {"cmap": COLORMAP, "origin": "lower", "vmin": colours[0], "vmax": colours[1]}
        imsave(folder / f"{row}.webp", cache.read_logmel([row])[0], format="webp", pil_kwargs={"quality": 85}, **look)
        soundfile.write(folder / f"{row}.flac", cache.read_waveform([row])[0], settings.rate, format="FLAC")
        clip = clips.iloc[row]
        listed.append(
            {
                "row": row,
                **clip[["machine", "section", "part", "domain", "label", "file"]].to_dict(),
                "attributes": json.loads(clip["attributes"]),
                "scores": {model: float(table["score"].iloc[row]) for model, table in scores.items()},
                "deviations": {model: _number(values[row]) for model, values in above.items()},
                "decisions": {
                    model: None if table["decision"].iloc[row] == UNDECIDED else int(table["decision"].iloc[row])
                    for model, table in scores.items()
                },
                "worst": worst.get(row),
                "windows": _thousandths((curves[row] - low) / (high - low)) if windowed else [],
                "shares": _thousandths(shares[row]) if spectral else [],
            }
        )
    described = {
        "machine": clips["machine"].iloc[0],
        "recordings": len(clips),
        "training": int((clips["split"] == "train").sum()),
        "sha256": waveform_digest(cache),
        "seconds": cache.samples / settings.rate,
        "span": time_span(cache.frames, settings),
        "frequencies": _frequencies(settings),
        "thresholds": {
            model: {section: _number(own.iloc[0]) for section, own in table.groupby("section")["threshold"]}
            for model, table in scores.items()
        },
        "windowed": _windows(windowed, settings) | {"low": low, "high": high} if windowed else None,
        "spectral": {"model": spectral[0], "edges": _band_edges(settings)} if spectral else None,
        "clips": listed,
    }
    with written(folder / "clips.json") as aside:  # last: if it exists, the folder is complete
        aside.write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")


def _number(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return float(value) if np.isfinite(value) else None


def _thousandths(values: np.ndarray) -> list[int]:
    return np.clip(1000 * values, 0, 1000).round().astype(int).tolist()


def _frequencies(settings: "LogMel") -> list[tuple[float, str]]:
    """The places of 0.5, 1, 2 … kHz, as a share of the height of a log-mel, and their names."""
    places, names = mel_ticks(settings)
    return [(round((place + 0.5) / settings.mels, 4), name) for place, name in zip(places, names, strict=True)]


def _band_edges(settings: "LogMel") -> list[dict[str, float]]:
    """The lower edge of each band and the upper one of the last: share of the height of a log-mel, and frequency."""
    edges = band_edges(settings.mels)
    hertz = mel_edges(settings.rate, settings.mels)
    return [{"place": round(edge / settings.mels, 4), "hertz": float(hertz[edge])} for edge in edges]


def _windows(windowed: "tuple[str, Features, Sections]", settings: "LogMel") -> dict:
    """The model that scores windows; in seconds: the middle of the first window, the step of points, a window."""
    model, features, _ = windowed
    cut, step = _cut(features), settings.hop / settings.rate
    first = float(window_times(1, cut["test_hop"], cut["window"], settings)[0])
    each = cut["test_hop"] * step * _every(features)
    return {"model": model, "first": first, "each": each, "length": cut["window"] * step}


def _every(features: "Features") -> int:
    """The number of windows per point of the curve."""
    return int(-(-np.diff(features.offsets).max() // POINTS))


def _deviations(table: "pd.DataFrame") -> np.ndarray:
    """How far the score of each clip lies above those of its section's training clips, (clips,); see `deviations`."""
    found = np.full(len(table), np.nan)
    for section in table["section"].unique():
        own = (table["section"] == section).to_numpy()
        training = own & (table["split"] == "train").to_numpy()
        found[own] = deviations(table["score"].to_numpy()[own], table[training])
    return found


def _range(curves: Iterable[np.ndarray]) -> tuple[float, float]:
    """The lowest and the highest of a machine's window scores, so that its clips can be compared by eye."""
    scores = np.concatenate([np.empty(0), *curves])
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    return low, max(high, low + 1e-9)


def _shares(
    rows: np.ndarray, mels: int, spectral: "tuple[str, Features, Sections] | None"
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row with the share of each band in its squared distance, (bands,)."""
    if spectral:
        _, features, sections = spectral
        for row in rows:
            section = sections.sections[features.clips["section"].iloc[row]]
            values = features.rows(features.offsets[row], features.offsets[row + 1])[0].astype(np.float64)
            yield int(row), band_shares(section, values, mels)


def _cut(features: "Features") -> dict[str, int]:
    """How the clips of a features file were cut into windows: the fields of `asd.settings.Windows`."""
    return json.loads(features.values.file.attrs["settings"])
