"""The results of `bench.py` as a table (Markdown) and a plot."""

from pathlib import Path

BEGIN, END = "<!-- written by `make bench`: begin -->\n", "<!-- end -->\n"
"""The lines before and after the table in speed.md."""


def write(results: dict, folder: Path) -> str:
    """Write the table into the folder's speed.md, and speed.svg, and return the table."""
    text = table(results)
    page = folder / "speed.md"
    before, after = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(before + BEGIN + text + END + after.split(END)[1], encoding="utf-8")
    plot(results, folder / "speed.svg")
    return text


def table(results: dict) -> str:
    """The table, with what was measured and how."""
    lines = [
        f"`make bench`, version {results['versions']['asd']}, {results['date']}, {results['machine']}, "
        f"torch {results['versions']['torch']}. Medians, with the shortest and the longest time in brackets.",
        "",
        "| stage | plain | ours | ratio | target | of the limit | memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["stages"].values():
        ratio = f"{row['ratio']:.1f}×" if "ratio" in row else ""
        memory = " → ".join(f"{row[side]['own_mb']:.0f}" for side in ("plain", "ours")) if "threads" in row else ""
        cells = [
            row["title"],
            _times(row.get("plain")),
            _times(row["ours"]),
            ratio,
            _asked(row),
            f"{row['of_limit']:.0%}",
        ]
        lines.append(f"| {' | '.join([*cells, memory])} |")
    rate = results["rates"]["2"]
    lines += [
        "",
        "- plain: `benchmarks/plain.py`; ~ marks a time that is extrapolated from fewer resamples. For the network of "
        "the waveform it is the data path of asdkit (arXiv:2507.10264), rebuilt from its description and not asdkit "
        "itself: recordings are read from disk at each epoch, their spectra are computed within the network, and "
        "features are computed clip by clip. Both sides have the same layers and loss.",
        "- of the limit: the least time that the operations or bytes take (`benchmarks/limits.py`), divided by our "
        f"time. With two threads this machine computes {rate['float32'] / 1e9:.0f} (float32) and "
        f"{rate['float64'] / 1e9:.0f} (float64) billion operations per second, moves {rate['memory'] / 1e9:.1f} GB/s "
        f"in memory and writes {rate['write'] / 1e9:.2f} GB/s to disk. The limit of a command is the import of its "
        "flags, or a workflow with one rule.",
        "- memory: the peak of the process minus what it held before the work, plain → ours.",
        "",
    ]
    return "\n".join(lines)


def _times(side: dict | None) -> str:
    if side is None:
        return ""
    about = "~" if side.get("measured_share", 1) < 1 else ""
    return f"{about}{_number(side['seconds'])} s ({_number(side['shortest'])}–{_number(side['longest'])})"


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"


def _asked(row: dict) -> str:
    """The target, and whether it was reached."""
    if "target_seconds" in row:
        return f"{row['target_seconds']:g} s {_mark(row['ours']['seconds'] <= row['target_seconds'])}"
    asked = f"{row['target']:g}× {_mark(row['ratio'] >= row['target'])}"
    if row["memory_target"] < 1:
        share = row["ours"]["own_mb"] / row["plain"]["own_mb"]
        asked += f", {row['memory_target']:.0%} of the memory {_mark(share <= row['memory_target'])}"
    return asked


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def plot(results: dict, path: Path) -> None:
    """Bars of the ratios, with the targets and the limits."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "asd"
    import matplotlib.pyplot as plt

    rows = [row for row in results["stages"].values() if "target" in row][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.2), layout="constrained")
    axes.barh(range(len(rows)), [row["ratio"] for row in rows], color="#4878a8", height=0.6, label="ours")
    marks = {"asked for": ("target", "|", "#c04040"), "limit of the hardware": ("of_limit", ">", "#404040")}
    for label, (key, marker, colour) in marks.items():
        at = [row["target"] if key == "target" else row["ratio"] / row["of_limit"] for row in rows]
        axes.scatter(at, range(len(rows)), marker=marker, s=120, color=colour, label=label, zorder=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times as fast as the plain recipe", yticks=range(len(rows)))
    axes.set_yticklabels([row["title"] for row in rows])
    figure.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
