"""How figures look, and how they are written.

All figures of the report are `WIDTH` wide: they stand beside each other on a screen, and below each other on a phone.
A section is a row of panels. The colours can be told apart by the colour-blind and seen on white and on black; source
and target, normal and anomalous also differ in marker or line.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from asd.files import written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def blank(rows: int) -> "Figure":
    """Return a figure that is high enough for this number of rows of axes, and a legend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, ROW * max(rows, 1) + 0.75))


def panels(count: int, columns: int = 1, **options) -> tuple["Figure", np.ndarray]:
    """Return a figure with `count` rows of axes, one per section, and a legend above; and its (count, columns) axes."""
    figure = blank(count)
    return figure, figure.subplots(max(count, 1), columns, squeeze=False, **options)


def legend(figure: "Figure", columns: int = 3) -> None:
    """Put one legend above all axes of a figure."""
    known = {}
    for axes in figure.axes:
        known |= {name: one for one, name in zip(*axes.get_legend_handles_labels(), strict=True) if name not in known}
    if known:
        figure.legend(known.values(), known, loc="outside upper left", ncols=columns)


def say(axes: "Axes", text: str) -> None:
    """Write into the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def named(value: str) -> str:
    """Return the name of a domain or label, of which "" is the unknown one."""
    return value or "unknown"
