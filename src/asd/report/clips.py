"""The sound, the log-mel and the window scores of each test clip, for the report.

One folder per machine has <row>.flac, the sound; <row>.webp, the log-mel; <row>.svg, the scores of the windows over
time; frame.svg, the axes around both, which are the same for all clips; clips.json, the list of the clips. The page
puts the curve over the frame, and the log-mel under the frame's upper axes. Files are named by the clip's row in the
log-mel cache, never by a name from outside.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.bands import band_edges, band_shares
from asd.errors import InputError
from asd.features import window_times
from asd.files import written
from asd.mel import mel_edges
from asd.progress import progress
from asd.report.figures import COLORMAP, STYLE, evenly, level_range, mel_ticks, time_span
from asd.scores import threshold_of

if TYPE_CHECKING:
    import pandas as pd

    from asd.cache import Cache
    from asd.features import Features
    from asd.sections import Sections
    from asd.settings import LogMel

CLIPS_A_RANGE = 60
"""Number of clips from whose levels a machine's range of colours is computed."""


def window_scores(features: "Features", sections: "Sections", row: int) -> np.ndarray:
    """Return the score of each window of a test clip, as the domain that the clip is nearest to, (windows,) float64.

    Raises:
        InputError: the detector is not of these features.
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


class Picture:
    """The axes of a machine: those of the log-mel and, if there are window scores, those of the scores below."""

    style = STYLE | {"figure.constrained_layout.use": False}

    def __init__(
        self, frames: int, settings: "LogMel", limits: tuple[float, float] | None, most: float | None = None
    ) -> None:
        """Draw the axes.

        Args:
            frames: of a log-mel.
            settings: of the log-mel.
            limits: of the axis of the window scores; None: there are no scores, and no lower axes.
            most: the end of the axis of the bands' shares; None: there are none, and no axes on the right.
        """
        from matplotlib.figure import Figure

        self.settings = settings
        self.limits = limits
        self.most = most
        self.span = time_span(frames, settings)
        width = 0.76 if most else 0.9
        self.box = (0.08, 0.42, width, 0.56) if limits else (0.08, 0.16, width, 0.82)
        with matplotlib.rc_context(self.style):
            self.figure = Figure(figsize=(8, 4.2 if limits else 2.8), facecolor="none")
            if limits:
                margin = 0.06 * (limits[1] - limits[0])
                self.lower = self.figure.add_axes((self.box[0], 0.12, self.box[2], 0.27), facecolor="none")
                self.lower.set(xlim=self.span, ylim=(limits[0] - margin, limits[1] + margin))
                (self.line,) = self.lower.plot([], [], color="#c04a00")
            if most:
                left, bottom, width, height = self.box
                self.right = self.figure.add_axes((left + width + 0.02, bottom, 0.12, height), facecolor="none")
                self.right.set(xlim=(0, most), ylim=(-0.5, settings.mels - 0.5))
                (self.steps,) = self.right.plot([], [], color="#0072b2")

    def write_curve(self, path: Path, times: np.ndarray, scores: np.ndarray, shares: np.ndarray) -> None:
        """Write the curves of a clip as SVG, without the axes.

        Args:
            path: the file to write.
            times: (windows,) seconds.
            scores: (windows,) their scores; none if there are no lower axes.
            shares: (bands,) as `asd.bands.band_shares` gives them; none if there are no axes on the right.
        """
        # The axes are in the frame; drawing them takes ten times as long as the curves.
        if self.limits:
            self.line.set_data(times, scores)
            self.line.set_marker("o" if len(scores) == 1 else "")
            self.lower.set_axis_off()
        if self.most:
            edges = band_edges(self.settings.mels) - 0.5
            self.steps.set_data(np.repeat(shares, 2), np.repeat(edges, 2)[1:-1])
            self.right.set_axis_off()
        self._save(path)

    def write_frame(self, path: Path, threshold: float) -> None:
        """Write the axes (SVG) with a line at the threshold, which is infinite if there is none. After the curves."""
        with matplotlib.rc_context(self.style):
            upper = self.figure.add_axes(self.box, facecolor="none")
            upper.grid(False)
            upper.set(xlim=self.span, ylim=(-0.5, self.settings.mels - 0.5), ylabel="frequency, kHz")
            upper.set_yticks(*mel_ticks(self.settings))
            if self.limits:
                self.line.remove()
                self.lower.set_axis_on()
                if np.isfinite(threshold):
                    self.lower.axhline(threshold, color="black", ls="--", lw=1)
                self.lower.set(xlabel="time, s", ylabel="window score")
                self.lower.locator_params(axis="y", nbins=4)
                upper.tick_params(labelbottom=False)
            else:
                upper.set_xlabel("time, s")
            if self.most:
                self.steps.remove()
                self.right.set_axis_on()
                self.right.set(
                    xlabel="share of the\nsquared distance", yticks=mel_ticks(self.settings)[0], yticklabels=[]
                )
                self.right.locator_params(axis="x", nbins=2)
        self._save(path)

    def _save(self, path: Path) -> None:
        with matplotlib.rc_context(self.style):
            self.figure.savefig(path, format="svg", metadata={"Date": None})


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
    limits = {model: threshold_of(table) for model, table in scores.items()}
    rows = np.flatnonzero(clips["split"] == "test")
    curves = dict(_curves(rows, settings, windowed))
    limit = limits[windowed[0]] if windowed else np.inf
    shares = dict(_shares(rows, settings.mels, spectral))
    most = max((float(one.max()) for one in shares.values()), default=0.0) * 1.05
    picture = Picture(cache.frames, settings, _range(curves, limit), most or None)
    colours = level_range(cache.read_logmel([row])[0] for row in evenly(rows, CLIPS_A_RANGE)) if len(rows) else (0, 1)
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for row in progress(rows, "clips", "clips"):
        row = int(row)
        times, curve = curves.get(row, (np.empty(0), np.empty(0)))
        share = shares.get(row, np.empty(0))
        if len(curve) or len(share):
            picture.write_curve(folder / f"{row}.svg", times, curve, share)
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
                "decisions": {model: int(table["decision"].iloc[row]) for model, table in scores.items()},
                "worst": float(times[curve.argmax()]) if len(curve) else None,
                "band": _loudest(share, settings) if len(share) else None,
            }
        )
    picture.write_frame(folder / "frame.svg", limit)
    with written(folder / "clips.json") as aside:  # last: if it exists, the folder is complete
        described = {
            "machine": clips["machine"].iloc[0],
            "recordings": len(clips),
            "sha256": waveform_digest(cache),
            "seconds": cache.samples / settings.rate,
            "span": picture.span,
            "box": picture.box,
            "shape": (picture.figure.get_size_inches() * 100).round().astype(int).tolist(),
            "windowed": windowed[0] if windowed else None,
            "spectral": spectral[0] if spectral else None,
            "window": _cut(windowed[1])["window"] * settings.hop / settings.rate if windowed else None,
            "thresholds": {model: one if np.isfinite(one) else None for model, one in limits.items()},
            "clips": listed,
        }
        aside.write_text(json.dumps(described, ensure_ascii=False, indent=1), encoding="utf-8")


def _range(curves: dict[int, tuple[np.ndarray, np.ndarray]], threshold: float) -> tuple[float, float] | None:
    """The range of a machine's window scores and threshold; one for all clips, so that they can be compared by eye."""
    if not curves:
        return None
    scores = np.concatenate([curve for _, curve in curves.values()] + [[threshold]] * bool(np.isfinite(threshold)))
    return float(scores.min()), float(max(scores.max(), scores.min() + 1e-9))


def _curves(
    rows: np.ndarray, settings: "LogMel", windowed: "tuple[str, Features, Sections] | None"
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Yield each row with (seconds, scores) of its windows."""
    if windowed:
        _, features, sections = windowed
        cut = _cut(features)
        for row in rows:
            curve = window_scores(features, sections, row)
            yield int(row), (window_times(len(curve), cut["test_hop"], cut["window"], settings), curve)


def _shares(
    rows: np.ndarray, mels: int, spectral: "tuple[str, Features, Sections] | None"
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row with the share of each band in its squared distance, (bands,)."""
    if spectral:
        _, features, sections = spectral
        for row in rows:
            section = sections.sections[features.clips["section"].iloc[row]]
            values = features.rows(features.offsets[row], features.offsets[row] + 1)[0].astype(np.float64)
            yield int(row), band_shares(section, values, mels)


def _loudest(shares: np.ndarray, settings: "LogMel") -> list[float]:
    """The frequencies in Hz between which the band with the largest share lies."""
    edges = band_edges(settings.mels)
    band = int(shares.argmax())
    return mel_edges(settings.rate, settings.mels)[[edges[band], edges[band + 1] + 1]].tolist()


def _cut(features: "Features") -> dict[str, int]:
    """How the clips of a features file were cut into windows: the fields of `asd.settings.Windows`."""
    return json.loads(features.values.file.attrs["settings"])
