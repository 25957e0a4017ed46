"""The figures of a machine, and of all machines together, drawn by matplotlib.

Each function takes tables and arrays and returns a matplotlib figure; `save` writes it as SVG and PNG. All figures of
the report are `WIDTH` wide: they stand beside each other on a screen, and below each other on a phone. A section is a
row of panels. The colours can be told apart by the colour-blind and seen on white and on black; source and target,
normal and anomalous also differ in marker or line.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.files import written
from asd.results.metrics import percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asd.settings import LogMel

BLUE, ORANGE, GREEN, PURPLE, BROWN, GREY = "#2b83c6", "#d1641f", "#1b9268", "#b05a9a", "#97751f", "#808080"
INK, GRID = "#1b1f24", "#d5dae0"
DARK = {INK: "#e6e9ed", GRID: "#3d444d"}
"""Colours of text, axes and grid, and those that replace them on a dark screen."""
BLACK = "#15191e"
"""The background of the page on a dark screen."""
DOMAINS = {"source": BLUE, "target": ORANGE, "": GREY}
"""Colour of each domain; "" is the unknown domain."""
LABELS = {"normal": (BLUE, "o"), "anomaly": (ORANGE, "x"), "": (GREEN, "D")}
"""Colour and marker of the test clips of each label; "" is the unknown label."""
VERDICTS = {
    "found": GREEN,
    "missed": PURPLE,
    "false alarm": ORANGE,
    "passed": BLUE,
    "anomalous": ORANGE,
    "normal": BLUE,
    "not decided": BROWN,
}
"""Colour of each verdict (`verdict`)."""
LINES = (BLUE, ORANGE, GREEN, PURPLE, BROWN, "#3d9db8", GREY)
COLORMAP, DIFFERENCE = "magma", "RdBu_r"
WIDTH, ROW = 3.5, 1.75
"""Width of a figure and height of a row of panels, inches."""
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.titlesize": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.columnspacing": 1.0,
    "legend.handletextpad": 0.4,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text, which can be searched, edited and read aloud
    "svg.hashsalt": "asd",  # the same figure gives the same bytes
}


@matplotlib.rc_context(STYLE)
def save(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure as <folder>/<name>.svg, which also suits a dark screen, and <name>.png.

    Args:
        figure: is drawn once; its layout is fixed afterwards.
        folder: the folder.
        name: without suffix.
    """
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with written(folder / f"{name}.{kind}") as aside:
            figure.savefig(aside, format=kind, dpi=150, metadata=metadata, transparent=kind == "svg")
            if kind == "svg":
                aside.write_text(for_both_screens(aside.read_text(encoding="utf-8")), encoding="utf-8")
        figure.set_layout_engine("none")  # the layout is computed once, for both files


def for_both_screens(svg: str) -> str:
    """Return an SVG of matplotlib whose text, axes and grid are light if the system's setting is dark."""
    rules = "".join(
        f"[style*='{kind}: {light}']{{{kind}:{dark} !important}}"
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    start = svg.index(">", svg.index("<svg")) + 1
    style = f"<style>@media (prefers-color-scheme: dark){{svg{{background:{BLACK}}}{rules}}}</style>"
    return svg[:start] + style + svg[start:]


def _figure(rows: int) -> "Figure":
    """A figure that is high enough for this number of rows of axes, and a legend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, ROW * max(rows, 1) + 0.75))


def _rows(count: int, columns: int = 1, **options) -> tuple["Figure", np.ndarray]:
    """A figure with `count` rows of axes, one per section, and a place for a legend above: (count, columns) axes."""
    figure = _figure(count)
    return figure, figure.subplots(max(count, 1), columns, squeeze=False, **options)


def _legend(figure: "Figure", columns: int = 3) -> None:
    """Put one legend above all axes of a figure."""
    known = {}
    for axes in figure.axes:
        known |= {name: one for one, name in zip(*axes.get_legend_handles_labels(), strict=True) if name not in known}
    if known:
        figure.legend(known.values(), known, loc="outside upper left", ncols=columns)


def _say(axes: "Axes", text: str) -> None:
    """Write into the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def _named(value: str) -> str:
    return value or "unknown"


def verdict(label: str, decision: int) -> str:
    """Return what a decision (1: anomalous, 0: normal, otherwise none) is, given the label ("" if it is unknown)."""
    if decision not in (0, 1):
        return "not decided"
    if not label:
        return "anomalous" if decision else "normal"
    if decision:
        return "found" if label == "anomaly" else "false alarm"
    return "missed" if label == "anomaly" else "passed"


# --- scores -------------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def roc(scores: "pd.DataFrame", max_fpr: float) -> "Figure | None":
    """Draw ROC curves: one panel per section, one curve per domain; the region of the pAUC is shaded.

    As in the tables, the normal clips of a domain are compared with the anomalies of both domains. A ring marks the
    rates of the decisions.

    Args:
        scores: of a machine, as `asd.scores.read_scores` gives them, one row per clip.
        max_fpr: upper limit of the pAUC's false positive rate.

    Returns:
        The figure; None if no section has normal and anomalous clips.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    test = scores[(scores["split"] == "test") & (scores["label"] != "")]
    sections = [name for name, here in test.groupby("section") if here["label"].nunique() == 2]
    if not sections:
        return None
    figure, grid = _rows(len(sections), sharex=True)
    for axes, section in zip(grid[:, 0], sections, strict=True):
        here = test[test["section"] == section]
        axes.axvspan(0, max_fpr, color="#f0e442", alpha=0.35, lw=0, label="pAUC")
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
        areas = []
        for domain, colour in DOMAINS.items():
            chosen = here[(here["label"] == "anomaly") | (here["domain"] == domain)]
            if chosen["label"].nunique() < 2 or not (here["domain"] == domain).any():
                continue
            truth = chosen["label"] == "anomaly"
            style = "--" if domain == "target" else "-"
            axes.plot(*roc_curve(truth, chosen["score"])[:2], color=colour, ls=style, label=_named(domain))
            areas.append(f"{_named(domain)} {percent(roc_auc_score(truth, chosen['score']))}")
            flagged = chosen["decision"] == 1
            if chosen["decision"].isin((0, 1)).all():
                axes.plot(flagged[~truth].mean(), flagged[truth].mean(), "o", ms=7, mfc="none", mec=colour)
        axes.text(0.98, 0.05, "AUC, %\n" + "\n".join(areas), ha="right", linespacing=1.3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04), title=f"section {section}", ylabel="found")
    grid[-1, 0].set_xlabel("false alarms (ring: at the threshold)")
    _legend(figure)
    return figure


@matplotlib.rc_context(STYLE)
def distributions(scores: "pd.DataFrame") -> "Figure":
    """Draw the score of each clip: one panel per section, one line of points for the training clips and each domain.

    Args:
        scores: of a machine, as `asd.scores.read_scores` gives them, one row per clip.
    """
    sections = sorted(scores["section"].unique())
    figure, grid = _rows(len(sections))
    for axes, section in zip(grid[:, 0], sections, strict=False):
        here = scores[(scores["section"] == section) & scores["score"].notna()]
        lines = {"training": here[here["split"] == "train"].assign(label="training")}
        test = here[here["split"] == "test"]
        lines |= {
            one or "test": test[test["domain"] == one] for one in reversed(DOMAINS) if (test["domain"] == one).any()
        }
        for place, clips in enumerate(lines.values()):
            for label, (colour, marker) in ({"training": (GREY, ".")} | LABELS).items():
                own = clips["score"][clips["label"] == label].to_numpy()
                # A clip's place across the line only keeps the points apart; anomalies are above the normal clips.
                apart = {"anomaly": 0.2, "normal": -0.2}.get(label, 0) + 0.3 * (np.arange(len(own)) * 0.618 % 1 - 0.5)
                size = {"training": 22, "normal": 12, "": 10}.get(label, 18)
                if len(own):
                    axes.scatter(own, place + apart, size, colour, marker=marker, alpha=0.75, lw=marker == "x",
                                 label=label or "unlabelled")  # fmt: skip
        limits = here["threshold"].to_numpy()
        if len(limits) and np.isfinite(limits[0]):
            axes.axvline(limits[0], color=INK, ls="--", lw=1.2, label="threshold")
        axes.set_yticks(range(len(lines)), lines)
        axes.set(ylim=(-0.5, len(lines) - 0.5), title=f"section {section}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
    grid[-1, 0].set_xlabel("anomaly score")
    _legend(figure)
    return figure


@matplotlib.rc_context(STYLE)
def systems(rows: "dict[str, pd.DataFrame]", untrained: set[str], lowest: float = 0.0) -> "Figure | None":
    """Draw a figure of each system with its interval: one panel per kind of figure, one row per system.

    Args:
        rows: kind of figure (AUC, pAUC) -> title, value, low, high (fractions), one row per system.
        untrained: titles of the systems for which no network is trained; they are grey.
        lowest: the lower end of the axes, so that figures of several machines can be compared (a fraction).

    Returns:
        The figure; None if no value is defined.
    """
    from matplotlib.figure import Figure

    shown = {kind: table for kind, table in rows.items() if table["value"].notna().any()}
    if not shown:
        return None
    titles = list(next(iter(shown.values()))["title"])
    figure = Figure(figsize=(WIDTH, 0.19 * len(titles) + 0.75))
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    for axes, (kind, table) in zip(grid[0], shown.items(), strict=True):
        for place, row in enumerate(table.itertuples()):
            if np.isfinite(row.value):
                ends = [row.low, row.high] if np.isfinite(row.low) else [row.value, row.value]
                look = {"color": GREY, "marker": "D"} if row.title in untrained else {"color": BLUE, "marker": "o"}
                axes.plot([100 * end for end in ends], [place, place], lw=1.4, color=look["color"])
                axes.plot(100 * row.value, place, ms=4, **look)
        axes.axvline(50, color=GREY, lw=0.8, ls=":")
        axes.set(xlabel=f"{kind}, %", ylim=(len(titles) - 0.5, -0.5), xlim=(100 * lowest - 2, 102))
    grid[0, 0].set_yticks(range(len(titles)), titles)
    return figure


# --- networks -----------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def sweep(rows: "pd.DataFrame") -> "Figure":
    """Draw a sweep: one panel per machine, one line per combination of values with mean and deviation over the seeds.

    Args:
        rows: of one figure, as `asd.results.sweep_tables.chosen` gives them.
    """
    titles, machines = list(rows["title"].unique()), list(rows["machine"].unique())
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.9 * len(machines) + 0.6, 1.3 + 0.22 * len(titles)))
    grid = figure.subplots(1, len(machines), squeeze=False, sharey=True)
    for axes, machine in zip(grid[0], machines, strict=True):
        own = rows[rows["machine"] == machine].set_index("title").reindex(titles)
        value, deviation = 100 * own["value"], 100 * own["deviation"].fillna(0)
        place = np.arange(len(titles))
        axes.errorbar(value, place, xerr=deviation, fmt="o", ms=4, lw=1.2, color=DOMAINS["source"])
        for end in ("lowest", "highest"):
            axes.plot(100 * own[end], place, "|", ms=7, color=DOMAINS["target"])
        axes.set(xlabel="AUC, %", title=machine)
        axes.margins(y=0.5 / len(titles))
    grid[0, 0].set_yticks(np.arange(len(titles)), titles)
    grid[0, 0].invert_yaxis()
    figure.set_figwidth(figure.get_figwidth() + 0.075 * max(map(len, titles)))
    figure.suptitle("Mean, deviation (line), lowest and highest (marks) over the seeds")
    return figure


@matplotlib.rc_context(STYLE)
def against_time(board: "pd.DataFrame") -> "Figure | None":
    """Draw the first figure of a leaderboard against the time of training, and against that of scoring a clip.

    Args:
        board: as from `asd.results.leaderboard.board`. Systems without a rank, or whose time is unknown, are left out.

    Returns:
        The figure, a point with its rank per system; None if there is no such system.
    """
    score = "omega" if "omega" in board else "auc"
    rows = board[board["rank"].notna() & (board["training_seconds"] > 0) & (board["clip_seconds"] > 0)]
    if rows.empty:
        return None
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, grid = _rows(1, 2, sharey=True)
    times = {"training_seconds": ("training, s", 1), "clip_seconds": ("scoring, ms per clip", 1000)}
    for axes, (column, (label, factor)) in zip(grid[0], times.items(), strict=True):
        for row in rows.itertuples():
            x, y = factor * getattr(row, column), 100 * getattr(row, score)
            colour, marker = (BLUE, "o") if row.network == "trained" else (GREY, "D")
            low, high = getattr(row, f"{score}_low"), getattr(row, f"{score}_high")
            if np.isfinite(low):
                axes.plot([x, x], [100 * low, 100 * high], color=colour, lw=0.8, alpha=0.6)
            axes.plot(x, y, marker, color=colour, ms=4)
            axes.annotate(f"{row.rank:.0f}", (x, y), (4, 2), textcoords="offset points", fontsize=8, color=INK)
        axes.set(xscale="log", xlabel=label)
        axes.margins(x=0.15)
        wide = rows[column].max() > 30 * rows[column].min()
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    grid[0, 0].set_ylabel("official score, %" if score == "omega" else "AUC, %")
    return figure


@matplotlib.rc_context(STYLE)
def training(curves: dict[str, "pd.DataFrame"]) -> "Figure":
    """Draw loss and accuracies over the epochs, one line per network.

    Args:
        curves: network -> its curve (epoch, loss, section_accuracy, attribute_accuracy, …).
    """
    figure, grid = _rows(2, sharex=True)
    (loss,), (accuracy,) = grid
    for (network, curve), colour in zip(curves.items(), LINES * len(curves), strict=False):
        mark = "." if len(curve) < 15 else None
        loss.plot(curve["epoch"], curve["loss"], color=colour, marker=mark, label=network)
        for column, style in (("section", "-"), ("attribute", "--")):
            if (name := f"{column}_accuracy") in curve and curve[name].notna().any():
                accuracy.plot(curve["epoch"], 100 * curve[name], color=colour, ls=style, marker=mark)
    if all(curve.empty for curve in curves.values()):
        _say(loss, "not trained")
    loss.set(title="loss")
    styles = " (dashed: attribute)" if any(line.get_ls() == "--" for line in accuracy.lines) else ""
    accuracy.set(title=f"section accuracy, %{styles}", xlabel="epoch", ylim=(-3, 103))
    accuracy.set_xlim(0.5, max([1, *map(len, curves.values())]) + 0.5)
    accuracy.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    _legend(figure)
    return figure


def flattened(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a two-dimensional map of embeddings by t-SNE, which starts from the principal components.

    t-SNE keeps neighbours together (van der Maaten and Hinton 2008); distances between groups mean little. For fewer
    than ten clips the two principal components are returned, and for single values (d = 1) these on a line.

    Args:
        embeddings: (n, d).
        seed: of t-SNE.

    Returns:
        (n, 2).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, width = embeddings.shape
    if count < 2:
        return np.zeros((count, 2))
    components = PCA(min(count, width, 50), svd_solver="full").fit_transform(embeddings)
    if count < 10 or width == 1:  # a single value, such as the error of an autoencoder
        return np.pad(components, ((0, 0), (0, 2)))[:, :2]
    return TSNE(2, perplexity=min(30, (count - 1) / 3), init="pca", random_state=seed).fit_transform(components)


@matplotlib.rc_context(STYLE)
def embedding_map(points: np.ndarray, clips: "pd.DataFrame", links: list[str]) -> "Figure":
    """Draw the map of a machine's clips: test clips in the colour of their verdict, training clips small and grey.

    Args:
        points: (clips, 2).
        clips: the manifest's columns and `decision`, one row per clip.
        links: per clip, the link of its point in the SVG.
    """
    figure = _figure(clips["section"].nunique())
    axes = figure.subplots()
    training = (clips["split"] == "train").to_numpy()
    axes.scatter(*points[training].T, s=6, color=GREY, alpha=0.6, lw=0, label="training")
    verdicts = np.array([verdict(*pair) for pair in zip(clips["label"], clips["decision"], strict=True)])
    for name, colour in VERDICTS.items():
        rows = np.flatnonzero((verdicts == name) & ~training)
        if len(rows):
            drawn = axes.scatter(*points[rows].T, s=26, color=colour, alpha=0.9, lw=0, label=name)
            drawn.set_urls([links[row] for row in rows])
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    _legend(figure)
    return figure


# --- spectra ------------------------------------------------------------------------------------------------


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
    figure, grid = _rows(len(groups), sharex=True)
    ticks, names = mel_ticks(settings)
    for axes, (section, lines) in zip(grid[:, 0], groups.items(), strict=False):
        for (domain, label), line in lines.items():
            style = {"ls": "--" if label == "anomaly" else ":" if label == "" else "-"}
            colour = DOMAINS[domain] if domain else LABELS[label][0]
            axes.plot(line, color=colour, label=" ".join(filter(None, (domain, label or "unlabelled"))), **style)
        axes.set(title=f"section {section}", ylabel="dB", xlim=(0, settings.mels - 1))
        axes.set_xticks(ticks, names)
    grid[-1, 0].set_xlabel("frequency, kHz")
    _legend(figure, columns=2)
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
    figure, grid = _rows(len(sections), columns=3, sharex=True, sharey=True)
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
