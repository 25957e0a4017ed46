"""The figures of scores and networks, of a machine or of all machines, drawn by matplotlib.

Each function takes tables and arrays and returns a matplotlib figure; `asd.report.style` writes it.
"""

from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.report.style import (
    BLUE,
    BROWN,
    DOMAINS,
    GREEN,
    GREY,
    INK,
    LABELS,
    LINES,
    ORANGE,
    PURPLE,
    STYLE,
    WIDTH,
    blank,
    legend,
    named,
    panels,
    say,
)
from asd.results.metrics import percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

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
    figure, grid = panels(len(sections), sharex=True)
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
            axes.plot(*roc_curve(truth, chosen["score"])[:2], color=colour, ls=style, label=named(domain))
            areas.append(f"{named(domain)} {percent(roc_auc_score(truth, chosen['score']))}")
            flagged = chosen["decision"] == 1
            if chosen["decision"].isin((0, 1)).all():
                axes.plot(flagged[~truth].mean(), flagged[truth].mean(), "o", ms=7, mfc="none", mec=colour)
        axes.text(0.98, 0.05, "AUC, %\n" + "\n".join(areas), ha="right", linespacing=1.3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04), title=f"section {section}", ylabel="found")
    grid[-1, 0].set_xlabel("false alarms (ring: at the threshold)")
    legend(figure)
    return figure


@matplotlib.rc_context(STYLE)
def distributions(scores: "pd.DataFrame") -> "Figure":
    """Draw the score of each clip: one panel per section, one line of points for the training clips and each domain.

    Args:
        scores: of a machine, as `asd.scores.read_scores` gives them, one row per clip.
    """
    sections = sorted(scores["section"].unique())
    figure, grid = panels(len(sections))
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
    legend(figure)
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

    figure, grid = panels(1, 2, sharey=True)
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
    figure, grid = panels(2, sharex=True)
    (loss,), (accuracy,) = grid
    for (network, curve), colour in zip(curves.items(), LINES * len(curves), strict=False):
        mark = "." if len(curve) < 15 else None
        loss.plot(curve["epoch"], curve["loss"], color=colour, marker=mark, label=network)
        for column, style in (("section", "-"), ("attribute", "--")):
            if (name := f"{column}_accuracy") in curve and curve[name].notna().any():
                accuracy.plot(curve["epoch"], 100 * curve[name], color=colour, ls=style, marker=mark)
    if all(curve.empty for curve in curves.values()):
        say(loss, "not trained")
    loss.set(title="loss")
    styles = " (dashed: attribute)" if any(line.get_ls() == "--" for line in accuracy.lines) else ""
    accuracy.set(title=f"section accuracy, %{styles}", xlabel="epoch", ylim=(-3, 103))
    accuracy.set_xlim(0.5, max([1, *map(len, curves.values())]) + 0.5)
    accuracy.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    legend(figure)
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
    figure = blank(clips["section"].nunique())
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
    legend(figure)
    return figure
