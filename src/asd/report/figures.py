"""The figures of a machine, and of all machines together, drawn by matplotlib.

Each function takes tables and arrays and returns a matplotlib figure; `save` writes it as SVG and PNG. The colours are
those of Okabe and Ito, which are safe for colour blindness; source and target, normal and anomalous also differ in
marker or line.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.files import written
from asd.scores import threshold_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asd.cache import Cache
    from asd.features import Features
    from asd.settings import LogMel

DOMAINS = {"source": "#0072b2", "target": "#c04a00", "": "#555555"}
"""Colour of each domain; "" is the unknown domain."""
LABELS = {"normal": "#0072b2", "anomaly": "#c04a00", "": "#777777"}
SECTIONS = ("#0072b2", "#d55e00", "#007a5a", "#a8488f", "#8c6d00", "#3a9fd8", "#444444")
MARKERS = {("source", "normal"): "o", ("target", "normal"): "^", ("source", "anomaly"): "x", ("target", "anomaly"): "+"}
COLORMAP = "magma"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.titlesize": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text, which can be searched, edited and read aloud
    "svg.hashsalt": "asd",  # the same figure gives the same bytes
}


@matplotlib.rc_context(STYLE)
def save(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure as <folder>/<name>.svg and .png."""
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with written(folder / f"{name}.{kind}") as aside:
            figure.savefig(aside, format=kind, dpi=150, metadata=metadata)
        figure.set_layout_engine("none")  # the layout is computed once, for both files


def _axes(rows: int, columns: int, width: float, height: float, **options) -> tuple["Figure", np.ndarray]:
    """A figure with a grid of axes, each of this size in inches: (rows, columns) of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 0.6, height * rows + 0.4))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _legend_below(axes: "Axes", columns: int = 1, drop: float = 0.25) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -drop), ncols=columns)


def _say(axes: "Axes", text: str) -> None:
    """Write into the middle of empty axes why they are empty."""
    axes.text(0.5, 0.6, text, transform=axes.transAxes, ha="center", va="center")


def _named(value: str) -> str:
    return value or "unknown"


# --- scores -------------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def roc(scores: "pd.DataFrame", max_fpr: float, title: str) -> "Figure":
    """Draw ROC curves: one panel per section, one curve per domain; the region of the pAUC is shaded.

    As in the tables, the normal clips of a domain are compared with the anomalies of both domains.

    Args:
        scores: of a machine, as `asd.scores.read_scores` gives them, one row per clip.
        max_fpr: upper limit of the pAUC's false positive rate.
        title: of the figure.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    test = scores[(scores["split"] == "test") & (scores["label"] != "")]
    sections = sorted(test["section"].unique()) or [""]
    figure, grid = _axes(1, len(sections), 2.5, 2.5, sharey=True)
    for axes, section in zip(grid[0], sections, strict=True):
        here = test[test["section"] == section]
        axes.axvspan(0, max_fpr, color="#f0e442", alpha=0.35, lw=0, label=f"pAUC, FPR ≤ {max_fpr:g}")
        axes.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
        for domain, colour in DOMAINS.items():
            chosen = here[(here["label"] == "anomaly") | (here["domain"] == domain)]
            if chosen["label"].nunique() < 2 or not (chosen["domain"] == domain).any():
                continue
            truth = chosen["label"] == "anomaly"
            rates = roc_curve(truth, chosen["score"])[:2]
            area = roc_auc_score(truth, chosen["score"])
            style = "--" if domain == "target" else "-"
            axes.plot(*rates, color=colour, ls=style, label=f"{_named(domain)}, AUC {100 * area:.1f}")
        if len(axes.lines) == 1:  # the diagonal
            _say(axes, "undefined: needs normal\nand anomalous clips")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="false positive rate", title=f"section {section}")
        _legend_below(axes)
    grid[0, 0].set_ylabel("true positive rate")
    figure.suptitle(title)
    return figure


@matplotlib.rc_context(STYLE)
def distributions(scores: "pd.DataFrame", threshold: float, title: str) -> "Figure":
    """Draw histograms of the test clips' scores by domain and label, and the threshold.

    Args:
        scores: of a machine, as `asd.scores.read_scores` gives them, one row per clip.
        threshold: a clip with a higher score is anomalous; infinite if there is no threshold.
        title: of the figure.
    """
    test = scores[scores["split"] == "test"]
    domains = [domain for domain in DOMAINS if (test["domain"] == domain).any()] or [""]
    figure, grid = _axes(1, len(domains), 3.6, 2.1, sharex=True, sharey=True)
    values = test["score"]
    shown = [*values, threshold] if np.isfinite(threshold) else values  # so that a bar is as wide wherever that is
    bins = np.histogram_bin_edges(shown, 30) if len(shown) else 1
    for axes, domain in zip(grid[0], domains, strict=True):
        for label, colour in LABELS.items():
            chosen = values[(test["domain"] == domain) & (test["label"] == label)]
            if len(chosen):
                look = {"hatch": "///", "fill": False} if label == "anomaly" else {"alpha": 0.45}
                name = f"{label or 'unlabelled'} ({len(chosen)})"
                axes.hist(chosen, bins, color=colour, edgecolor=colour, histtype="stepfilled", label=name, **look)
        if np.isfinite(threshold):
            axes.axvline(threshold, color="black", ls="--", lw=1.2, label="threshold")
        axes.set(xlabel="anomaly score", title=f"{_named(domain)} domain")
        axes.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        _legend_below(axes, columns=3, drop=0.27)
    grid[0, 0].set_ylabel("clips")
    figure.suptitle(title)
    return figure


@matplotlib.rc_context(STYLE)
def overview(metrics: "pd.DataFrame", panels: dict[str, tuple[str, str]]) -> "Figure":
    """Draw figures of each system on each machine with their intervals, one panel per entry of `panels`.

    Args:
        metrics: the long form (`asd.results.long_form.COLUMNS`).
        panels: title -> (metric, domain).
    """
    rows = metrics[(metrics["part"] == "development") & (metrics["mean"] == "harmonic") & (metrics["machine"] != "")]
    rows = rows[rows["selection"] != "cross_fitted"]
    machines, titles = list(rows["machine"].unique()), list(rows["title"].unique())
    figure, grid = _axes(len(panels), 1, max(4.0, 1.1 * len(machines) + 1.5), 2.2, sharex=True)
    for axes, (name, (metric, domain)) in zip(grid[:, 0], panels.items(), strict=True):
        here = rows[(rows["metric"] == metric) & (rows["domain"] == domain)]
        for number, title in enumerate(titles):
            own = here[here["title"] == title].set_index("machine").reindex(machines)
            value, low, high = (100 * own[column].to_numpy(float) for column in ("value", "low", "high"))
            place = np.arange(len(machines)) + 0.7 * ((number + 0.5) / len(titles) - 0.5)
            around = np.nan_to_num(np.maximum([value - low, high - value], 0))
            style = {"fmt": "osD^vPX"[number % 7], "color": SECTIONS[number % len(SECTIONS)]}
            axes.errorbar(place, value, around, ms=4, lw=1, capsize=2, label=title, **style)
        axes.axhline(50, color="#999999", lw=0.8, ls=":")
        if here["value"].isna().all():
            axes.set(yticks=[], ylim=(0, 100))
            _say(axes, "undefined: needs normal clips of both domains, and anomalies")
        axes.set(ylabel=f"{name}, %")
    grid[-1, 0].set_xticks(range(len(machines)), machines)
    grid[0, 0].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# --- networks -----------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def sweep(rows: "pd.DataFrame") -> "Figure":
    """Draw a sweep: one panel per machine, one line per combination of values with mean and deviation over the seeds.

    Args:
        rows: of one figure, as `asd.results.sweep_tables.chosen` gives them.
    """
    titles, machines = list(rows["title"].unique()), list(rows["machine"].unique())
    figure, grid = _axes(1, len(machines), 1.9, 0.9 + 0.22 * len(titles), sharey=True)
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
def training(curves: dict[str, "pd.DataFrame"]) -> "Figure":
    """Draw loss and accuracies over the epochs, one column of panels per network.

    Args:
        curves: network -> its curve (epoch, loss, section_accuracy, attribute_accuracy, …).
    """
    figure, grid = _axes(2, len(curves), 2.6, 1.5, sharex="col", sharey="row")
    for axes, (network, curve) in zip(grid.T, curves.items(), strict=True):
        axes[0].set_title(f"network {network}")
        if curve.empty:
            _say(axes[0], "not trained")
        mark = "o" if len(curve) < 15 else None
        axes[0].plot(curve["epoch"], curve["loss"], color="black", marker=mark, ms=3)
        for column, colour, style in (("section", "#0072b2", "-"), ("attribute", "#c04a00", "--")):
            if (name := f"{column}_accuracy") in curve and curve[name].notna().any():
                value = 100 * curve[name]
                axes[1].plot(curve["epoch"], value, color=colour, ls=style, marker=mark, ms=3, label=column)
        axes[1].set(xlabel="epoch", ylim=(-3, 103), xlim=(0.5, max(len(curve), 1) + 0.5))
        axes[1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    grid[0, 0].set_ylabel("loss")
    grid[1, 0].set_ylabel("accuracy, %")
    if all(curve.empty for curve in curves.values()):
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
    for axes in grid[1]:  # the first panel with lines: networks may have different heads
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
            break
    return figure


def flattened(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a two-dimensional map of embeddings by t-SNE, which starts from the principal components.

    t-SNE keeps neighbours together (van der Maaten and Hinton 2008); distances between groups mean little. For fewer
    than ten clips the two principal components are returned.

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
    if count < 10:
        return np.pad(components, ((0, 0), (0, 2)))[:, :2]
    return TSNE(2, perplexity=min(30, (count - 1) / 3), init="pca", random_state=seed).fit_transform(components)


@matplotlib.rc_context(STYLE)
def embedding_map(points: np.ndarray, clips: "pd.DataFrame", links: list[str], title: str) -> "Figure":
    """Draw the map of a machine's clips: colour by section, marker by domain and label; training clips small and pale.

    Args:
        points: (clips, 2).
        clips: the manifest's columns, one row per clip.
        links: per clip, the link of its point in the SVG.
        title: of the figure.
    """
    from matplotlib.lines import Line2D

    figure, ((axes,),) = _axes(1, 1, 6.2, 4.0)
    sections = sorted(clips["section"].unique())
    colours = {section: SECTIONS[number % len(SECTIONS)] for number, section in enumerate(sections)}
    handles = [Line2D([], [], color=colours[one], marker="s", ls="", label=f"section {one}") for one in sections]
    handles.append(Line2D([], [], color="#888888", marker="o", ls="", ms=3, alpha=0.6, label="training"))
    for split in ("train", "test"):
        for (domain, label), marker in (MARKERS | {("", ""): "D"}).items():
            chosen = clips["split"] == split
            known = (clips["domain"] == domain) & (clips["label"] == label)
            chosen &= known if domain else (clips["domain"] == "") | (clips["label"] == "")
            if not chosen.any():
                continue
            rows = np.flatnonzero(chosen)
            look = {"s": 9, "alpha": 0.35} if split == "train" else {"s": 34, "alpha": 0.9}
            drawn = axes.scatter(*points[rows].T, c=[colours[one] for one in clips["section"].iloc[rows]],
                                 marker=marker, lw=1.2 if label == "anomaly" else 0, **look)  # fmt: skip
            if split == "test":
                drawn.set_urls([links[row] for row in rows])
                name = f"{domain} {label}" if domain else "unknown"
                handles.append(Line2D([], [], color="#333333", marker=marker, ls="", label=name))
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(True)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# --- spectra ------------------------------------------------------------------------------------------------


def mel_ticks(settings: "LogMel") -> tuple[np.ndarray, list[str]]:
    """Return the positions of 0.5, 1, 2 … kHz on an axis of mel bins, and their labels."""
    from librosa import mel_frequencies

    centres = mel_frequencies(settings.mels + 2, fmin=0, fmax=settings.rate / 2)[1:-1]
    ticks = 500 * 2.0 ** np.arange(10)
    ticks = ticks[(ticks >= centres[0]) & (ticks <= centres[-1])]
    return np.interp(ticks, centres, np.arange(settings.mels)), [f"{tick / 1000:g}" for tick in ticks]


@matplotlib.rc_context(STYLE)
def spectra(groups: dict[str, dict[tuple[str, str], np.ndarray]], settings: "LogMel") -> "Figure":
    """Draw average spectra: one panel per section, one line per domain and label.

    Args:
        groups: section -> (domain, label) -> the mean log-mel (mels,) in dB.
        settings: of the log-mel.
    """
    figure, grid = _axes(1, len(groups), 3.0, 2.2, sharey=True)
    for axes, (section, lines) in zip(grid[0], groups.items(), strict=True):
        for (domain, label), line in lines.items():
            style = {"ls": "--" if label == "anomaly" else "-", "lw": 1.0 if label == "anomaly" else 1.5}
            axes.plot(line, color=DOMAINS[domain], label=f"{_named(domain)} {_named(label)}", **style)
        ticks, names = mel_ticks(settings)
        axes.set(title=f"section {section}", xlabel="frequency (mel scale), kHz", xlim=(0, settings.mels - 1))
        axes.set_xticks(ticks, names)
    grid[0, 0].set_ylabel("mean level, dB")
    handles = {name: one for axes in grid[0] for one, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    grid[0, -1].legend(handles.values(), handles, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@matplotlib.rc_context(STYLE)
def spectrograms(
    sections: dict[str, dict[str, tuple[np.ndarray, str]]], columns: list[str], settings: "LogMel"
) -> "Figure":
    """Draw log-mels: one row per section, one column per kind of clip; each section has one range of levels.

    Args:
        sections: section -> column -> (log-mel (mels, frames) in dB, the text above it).
        columns: in order.
        settings: of the log-mel.
    """
    figure, grid = _axes(len(sections), len(columns), 2.3, 1.6, sharex=True, sharey=True)
    for row, (section, clips) in zip(grid, sections.items(), strict=True):
        low, high = level_range(logmel for logmel, _ in clips.values()) if clips else (0.0, 1.0)
        for axes, column in zip(row, columns, strict=True):
            axes.grid(False)
            if column not in clips:
                _say(axes, "none" if clips else "no test clips")
                continue
            logmel, text = clips[column]
            draw_logmel(axes, logmel, settings, low, high)
            axes.set_title(f"{column}\n{text}", fontsize=8)
        row[0].set_ylabel(f"section {section}\nkHz")
    for axes in grid[-1]:
        axes.set_xlabel("time, s")
    return figure


def level_range(logmels: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the levels (dB) of the darkest and the brightest colour, between which nearly all values lie."""
    values = [np.quantile(logmel, (0.01, 0.999)) for logmel in logmels]
    low, high = np.min(values, axis=0)[0], np.max(values, axis=0)[1]
    return float(low), float(max(high, low + 1))


def time_span(frames: int, settings: "LogMel") -> tuple[float, float]:
    """Return the seconds at the left and right edge of a log-mel: frame t is centred at t · hop."""
    step = settings.hop / settings.rate
    return -step / 2, (frames - 0.5) * step


def draw_logmel(axes: "Axes", logmel: np.ndarray, settings: "LogMel", low: float, high: float) -> None:
    """Draw a log-mel over seconds and kHz.

    Args:
        axes: to draw into.
        logmel: (mels, frames) in dB.
        settings: of the log-mel.
        low: the level in dB of the darkest colour.
        high: the level in dB of the brightest colour.
    """
    extent = (*time_span(logmel.shape[1], settings), -0.5, len(logmel) - 0.5)
    look = {"cmap": COLORMAP, "origin": "lower", "aspect": "auto", "interpolation": "none"}
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
    """Draw one clip: its log-mel, and beside it what is known of when and at which frequencies it is anomalous.

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
    figure, grid = _axes(1 + curved, 1, 7, 1.8, sharex=True)
    draw_logmel(grid[0, 0], logmel, settings, *level_range([logmel]))
    grid[0, 0].grid(False)
    grid[0, 0].set(title=title, ylabel="frequency, kHz")
    if shares is not None:
        from asd.bands import band_edges

        beside = grid[0, 0].inset_axes((1.02, 0, 0.14, 1))
        edges = band_edges(settings.mels) - 0.5
        beside.plot(np.repeat(shares, 2), np.repeat(edges, 2)[1:-1], color="#0072b2")
        beside.set(ylim=grid[0, 0].get_ylim(), yticks=[], xlabel="share of the\nsquared distance")
        beside.set_xlim(left=0)
    if curved:
        grid[1, 0].plot(times, scores, color="#c04a00")
        if np.isfinite(threshold):
            grid[1, 0].axhline(threshold, color="black", ls="--", lw=1)
        grid[1, 0].set_ylabel("window score")
    grid[-1, 0].set_xlabel("time, s")
    return figure


# --- what a machine's figures are drawn from ------------------------------------------------------------------

CLIPS_A_MEAN = 200
"""Largest number of clips in an average spectrum, evenly chosen; more clips would hardly change it."""
CLIPS_A_SECTION = 300
"""Largest number of training clips per section and domain on the map, evenly chosen."""


def clip_embeddings(features: "Features", rows: np.ndarray) -> np.ndarray:
    """Return the last stage of the clips with these row numbers, averaged over windows: (clips, width) float32."""
    width = int(features.widths[-1])
    offsets = features.offsets
    return np.stack([features.rows(offsets[row], offsets[row + 1])[:, -width:].mean(0) for row in rows])


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def on_the_map(clips: "pd.DataFrame") -> np.ndarray:
    """Return the rows that are drawn: all test clips, and some training clips of each section and domain."""
    numbers = np.arange(len(clips))
    train = (clips["split"] == "train").to_numpy()
    some = [numbers[~train]]
    for key in {*zip(clips["section"], clips["domain"], strict=True)}:
        here = train & (clips["section"] == key[0]).to_numpy() & (clips["domain"] == key[1]).to_numpy()
        some.append(evenly(numbers[here], CLIPS_A_SECTION))
    return np.sort(np.concatenate(some))


def mean_spectra(cache: "Cache") -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Return section -> (domain, label) -> mean log-mel (mels,) in dB over frames and clips, for `spectra`."""
    clips = cache.clips
    groups: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for section in sorted(clips["section"].unique()):
        for key in [(domain, label) for domain in DOMAINS for label in ("normal", "anomaly", "")]:
            rows = np.flatnonzero(
                (clips["section"] == section) & (clips["domain"] == key[0]) & (clips["label"] == key[1])
            )
            if len(rows):
                rows = evenly(rows, CLIPS_A_MEAN)
                total = sum(cache.read_logmel([row])[0].mean(1, dtype=np.float64) for row in rows)
                groups.setdefault(section, {})[key] = total / len(rows)
    return groups


def telling_clips(scores: "pd.DataFrame", section: str) -> dict[str, int]:
    """Return the rows (index labels) of a section's typical and most anomalous test clips, by domain.

    The typical clip has the median score of the normal clips; if there are none, of the clips without a label. The clip
    with the highest score is left out if it is the same clip.
    """
    chosen = {}
    here = scores[(scores["section"] == section) & (scores["split"] == "test")]
    for domain in DOMAINS:
        clips = here[here["domain"] == domain].sort_values(["score", "file"])
        if clips.empty:
            continue
        normal = clips[clips["label"] == "normal"]
        normal = clips[clips["label"] == ""] if normal.empty else normal
        if len(normal):
            chosen[f"{_named(domain)}, typical"] = normal.index[len(normal) // 2]
        if clips.index[-1] not in chosen.values():
            chosen[f"{_named(domain)}, highest score"] = clips.index[-1]
    return chosen


def example_spectrograms(cache: "Cache", scores: "pd.DataFrame", most: int = 6) -> "Figure":
    """Draw the log-mels of the typical and the most anomalous clips of the first sections.

    Args:
        cache: an open log-mel cache of the machine.
        scores: one row per clip, in the order of the cache.
        most: largest number of sections.
    """
    sections: dict[str, dict[str, tuple[np.ndarray, str]]] = {}
    for section in sorted(scores["section"].unique())[:most]:
        rows = telling_clips(scores, section)
        sections[section] = {
            column: (cache.read_logmel([row])[0], f"{scores['label'][row] or 'unlabelled'}, {scores['score'][row]:.4g}")
            for column, row in rows.items()
        }
    columns = list(dict.fromkeys(column for clips in sections.values() for column in clips)) or ["test clips"]
    return spectrograms(sections, columns, cache.settings)


def machine_figures(
    cache: "Cache",
    features: "Features | None",
    curves: dict[str, "pd.DataFrame"],
    scores: dict[str, "pd.DataFrame"],
    titles: dict[str, str],
    max_fpr: float,
) -> Iterator[tuple[str, "Figure"]]:
    """Yield name and figure of each figure of one machine.

    Args:
        cache: an open log-mel cache of the machine.
        features: for the map; None: no map.
        curves: network -> training curve; none: no figure of the training.
        scores: model -> the scores; 'ensemble' among them chooses the clips that are shown.
        titles: model -> its title.
        max_fpr: upper limit of the pAUC's false positive rate.
    """
    machine = cache.clips["machine"].iloc[0]
    for model, table in scores.items():
        yield f"roc-{model}", roc(table, max_fpr, f"{machine}, {titles[model]}")
        yield f"scores-{model}", distributions(table, threshold_of(table), f"{machine}, {titles[model]}")
    if curves:
        yield "training", training(curves)
    yield "spectra", spectra(mean_spectra(cache), cache.settings)
    yield "spectrograms", example_spectrograms(cache, scores["ensemble"])
    if features is not None:
        rows = on_the_map(features.clips)
        points = flattened(clip_embeddings(features, rows))
        links = [f"#{machine}-{row}" for row in rows]
        yield "map", embedding_map(points, features.clips.iloc[rows].reset_index(drop=True), links, machine)
