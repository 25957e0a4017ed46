"""The figures of sound: log-mels and spectra, of clips and of long recordings, drawn by matplotlib.

Each function takes arrays and returns a matplotlib figure; `asd.report.style` writes it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.report.style import BLUE, COLORMAP, DIFFERENCE, DOMAINS, INK, LABELS, ORANGE, STYLE, legend, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asd.settings import LogMel


def mel_ticks(settings: "LogMel") -> tuple[np.ndarray, list[str]]:
    """Return the positions (ticks,) of 0.5, 1, 2 … kHz on an axis of mel bins, and their labels."""
    from librosa import mel_frequencies

    centres = mel_frequencies(settings.mels + 2, fmin=0, fmax=settings.rate / 2)[1:-1]
    ticks = 500 * 2.0 ** np.arange(10)
    ticks = ticks[(ticks >= centres[0]) & (ticks <= centres[-1])]
    return np.interp(ticks, centres, np.arange(settings.mels)), [f"{tick / 1000:g}" for tick in ticks]


@matplotlib.rc_context(STYLE)
def spectra(groups: dict[str, dict[tuple[str, str], np.ndarray]], settings: "LogMel") -> "Figure":
    """Draw average spectra: one panel per section, one line per domain and label, coloured by label without domains.

    Args:
        groups: section -> (domain, label) -> the mean log-mel (mels,) in dB.
        settings: of the log-mel.
    """
    figure, grid = panels(len(groups), sharex=True)
    ticks, names = mel_ticks(settings)
    for axes, (section, lines) in zip(grid[:, 0], groups.items(), strict=False):
        for (domain, label), line in lines.items():
            style = {"ls": "--" if label == "anomaly" else ":" if label == "" else "-"}
            colour = DOMAINS[domain] if domain else LABELS[label][0]
            axes.plot(line, color=colour, label=" ".join(filter(None, (domain, label or "unlabelled"))), **style)
        axes.set(title=f"section {section}", ylabel="dB", xlim=(0, settings.mels - 1))
        axes.set_xticks(ticks, names)
    grid[-1, 0].set_xlabel("frequency, kHz")
    legend(figure, columns=2)
    return figure


@matplotlib.rc_context(STYLE)
def examples(
    sections: dict[str, tuple[np.ndarray, np.ndarray, str]], settings: "LogMel", most: float = 30.0
) -> "Figure":
    """Draw a typical and the most anomalous clip and their difference: one row per section.

    The difference is that of the most anomalous clip and the median over time of the typical one, since the two clips
    are not synchronous.

    Args:
        sections: section -> log-mels (mels, frames) in dB of the typical and the most anomalous clip, and the label of
            the latter.
        settings: of the log-mel.
        most: largest difference in dB that has a colour of its own.
    """
    figure, grid = panels(len(sections), columns=3, sharex=True, sharey=True)
    for row, (section, (typical, anomalous, label)) in zip(grid, sections.items(), strict=False):
        low, high = level_range([typical, anomalous])
        difference = anomalous - np.median(typical, axis=1, keepdims=True)
        limit = float(min(np.quantile(np.abs(difference), 0.999), most))
        draw_logmel(row[0], typical, settings, low, high)
        draw_logmel(row[1], anomalous, settings, low, high)
        draw_logmel(row[2], difference, settings, -limit, limit, DIFFERENCE)
        row[0].set(title=f"section {section}\ntypical", ylabel="kHz")
        row[1].set_title(label or "unlabelled")
        row[2].set_title(f"difference,\n±{limit:.0f} dB")
    for axes in grid[-1]:
        axes.set_xlabel("time, s")
    return figure


def level_range(logmels: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the levels (dB) of the darkest and the brightest colour, between which nearly all values lie.

    Args:
        logmels: at least one, each (mels, frames) in dB.
    """
    values = [np.quantile(logmel, (0.01, 0.999)) for logmel in logmels]
    low, high = np.min(values, axis=0)[0], np.max(values, axis=0)[1]
    return float(low), float(max(high, low + 1))


def time_span(frames: int, settings: "LogMel") -> tuple[float, float]:
    """Return the seconds at the left and right edge of a log-mel: frame t is centred at t · hop."""
    step = settings.hop / settings.rate
    return -step / 2, (frames - 0.5) * step


def draw_logmel(
    axes: "Axes", logmel: np.ndarray, settings: "LogMel", low: float, high: float, colours: str = COLORMAP
) -> None:
    """Draw a log-mel over seconds and kHz.

    Args:
        axes: to draw into.
        logmel: (mels, frames) in dB.
        settings: of the log-mel.
        low: the level in dB of the darkest colour.
        high: the level in dB of the brightest colour.
        colours: name of the colour map.
    """
    axes.grid(False)
    extent = (*time_span(logmel.shape[1], settings), -0.5, len(logmel) - 0.5)
    look = {"cmap": colours, "origin": "lower", "aspect": "auto", "interpolation": "none"}
    axes.imshow(logmel, extent=extent, vmin=low, vmax=high, **look)
    axes.set_yticks(*mel_ticks(settings))


@matplotlib.rc_context(STYLE)
def clip(
    logmel: np.ndarray,
    settings: "LogMel",
    times: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    title: str,
    shares: np.ndarray | None = None,
) -> "Figure":
    """Draw one clip: its log-mel, and beside it curves of when and at which frequencies it is anomalous.

    Args:
        logmel: (mels, frames) in dB.
        settings: of the log-mel.
        times: (windows,), seconds at the middle of the windows.
        scores: (windows,) their scores; drawn if there are several.
        threshold: infinite if there is none.
        title: of the figure.
        shares: (bands,) as `asd.bands.band_shares` gives them; None: not drawn.
    """
    curved = len(scores) > 1
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 1.8 * (1 + curved) + 0.4))
    grid = figure.subplots(1 + curved, 1, squeeze=False, sharex=True)
    draw_logmel(grid[0, 0], logmel, settings, *level_range([logmel]))
    grid[0, 0].set(title=title, ylabel="frequency, kHz")
    if shares is not None:
        from asd.bands import band_edges

        beside = grid[0, 0].inset_axes((1.02, 0, 0.14, 1))
        edges = band_edges(settings.mels) - 0.5
        beside.plot(np.repeat(shares, 2), np.repeat(edges, 2)[1:-1], color=BLUE)
        beside.set(ylim=grid[0, 0].get_ylim(), yticks=[], xlabel="share of the\nsquared distance")
        beside.set_xlim(left=0)
    if curved:
        grid[1, 0].plot(times, scores, color=ORANGE)
        if np.isfinite(threshold):
            grid[1, 0].axhline(threshold, color=INK, ls="--", lw=1)
        grid[1, 0].set_ylabel("window score")
    grid[-1, 0].set_xlabel("time, s")
    return figure


@matplotlib.rc_context(STYLE)
def course(rows: list[dict], spectra: list[np.ndarray], settings: "LogMel", title: str) -> "Figure":
    """Draw a long recording that was scored in steps: the mean spectrum of each step, and below it the scores.

    Args:
        rows: of the steps, in the order of time: start and seconds, section, score, threshold and standardised.
        spectra: (mels,) of each step in dB.
        settings: of the log-mel.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.0))
    upper, lower = figure.subplots(2, 1, sharex=True)
    levels = np.stack(spectra, axis=1)
    starts = np.array([row["start"] for row in rows])
    middles = starts + np.array([row["seconds"] for row in rows]) / 2
    low, high = level_range([levels])
    # The last step may begin sooner after the one before it than the others do.
    edges = np.concatenate([middles[:1] - (middles[1] - middles[0]) / 2, (middles[1:] + middles[:-1]) / 2])
    edges = np.append(edges, 2 * middles[-1] - edges[-1])
    bins = np.arange(len(levels) + 1) - 0.5
    upper.grid(False)
    upper.pcolormesh(edges, bins, levels, cmap=COLORMAP, vmin=low, vmax=high, rasterized=True)
    upper.set_yticks(*mel_ticks(settings))
    upper.set(title=title, ylabel="frequency, kHz")
    own = {row["threshold"] for row in rows}
    one_section = len({row["section"] for row in rows}) == 1
    values = [row["score" if one_section else "standardised"] for row in rows]
    lower.plot(middles, values, color=ORANGE, lw=1)
    if one_section and None not in own:
        lower.axhline(*own, color=INK, ls="--", lw=1)
    lower.set(xlabel="time, s", ylabel="score" if one_section else "standardised score")
    return figure
