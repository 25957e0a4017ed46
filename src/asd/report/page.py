"""The page of a run: its tables, figures and clips, and its settings and versions.

A template (Jinja2, which escapes everything from outside) is filled with the results of other stages. The page is in
one folder with everything that it shows, opens from disk, and needs no network.
"""

import base64
import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from asd.errors import InputError
from asd.files import written
from asd.results.long_form import ENSEMBLE

if TYPE_CHECKING:
    from markupsafe import Markup

    from asd.settings import Settings

PACKAGES = ("asd", "torch", "timm", "numpy", "scipy", "scikit-learn", "pandas", "h5py", "matplotlib", "snakemake")
DOMAINS = ("total", "source", "target")
CAPTIONS = {
    "roc": "ROC curves. As in the tables, the normal clips of a domain are compared with the anomalies of both "
    "domains; the pAUC is computed from the shaded region.",
    "scores": "Scores of the test clips. A clip is anomalous if its score is above the threshold, which is a quantile "
    "of the training clips' scores.",
    "map": "Map of the embeddings (the network's last stage) by t-SNE; with fewer than ten clips their principal "
    "components. Near clips are similar; large distances mean little. Click the point of a test clip to open it.",
    "training": "Training: loss and accuracy on the augmented training clips.",
    "spectra": "Average spectra of each domain and label, over frames and up to 200 clips.",
    "spectrograms": "Log-mels of a typical normal test clip and of the clip with the highest score, by domain; "
    "above each its label and score.",
}


def figure_of(path: Path, titles: dict[str, str]) -> dict[str, str]:
    """Return kind, model, machine, caption and alternative text of a figure <machine>/<kind>[-<model>].svg.

    Args:
        path: the figure.
        titles: model -> its title.

    Raises:
        InputError: there is no such kind of figure.
    """
    kind, _, model = path.stem.partition("-")
    if kind not in CAPTIONS:
        raise InputError(f"{path}: found no such kind of figure; expected {', '.join(CAPTIONS)}")
    machine = path.parent.name
    what = {"roc": "ROC curves", "scores": "Histograms of scores", "map": "Map of embeddings"}.get(kind, kind)
    of = f"{machine}, {titles.get(model, model)}" if model else machine
    caption = CAPTIONS[kind]
    return {"kind": kind, "model": model, "machine": machine, "caption": caption, "alt": f"{what} of {of}. {caption}"}


def inlined(svg: str) -> "Markup":
    """Return an SVG as part of a page; its links to clips become marks that a script follows.

    With hundreds of links, someone who uses a keyboard would have to step through all of them; the list of clips leads
    to the same clips.
    """
    from markupsafe import Markup

    body = svg[svg.index("<svg") :]
    body = re.sub(r'<a xlink:href="#([^"]*)"[^>]*>', r'<a data-clip="\1">', body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    return Markup(body)  # it was drawn from numbers and validated names, and matplotlib escapes text


# --- tables -------------------------------------------------------------------------------------------------


def result_tables(metrics: pd.DataFrame, reading: str) -> list[dict]:
    """Return the tables of AUC and pAUC on the development part, by domain.

    Args:
        metrics: the long form (`asd.results.long_form.COLUMNS`).
        reading: whether the pAUC of a domain uses the anomalies of both domains or of its own: both or own.

    Returns:
        Per table: title, domain, columns, rows. A row has a title and one cell per column: value, low, high in percent
        (None: undefined), and whether it is the highest of the models.
    """
    rows = metrics[metrics["part"] == "development"]
    machines = list(rows.loc[rows["machine"] != "", "machine"].unique())
    tables = []
    for title, metric in (("AUC", "auc"), ("pAUC", f"pauc_{reading}")):
        for domain in DOMAINS:
            here = rows[(rows["metric"] == metric) & (rows["domain"] == domain)]
            by_machine = here[(here["mean"] == "harmonic") & (here["machine"] != "")]
            average = here[here["mean"] == "machines"].assign(machine="average")
            cells = pd.concat([by_machine, average])
            listed = []
            for (name, selection), own in cells.groupby(["title", "selection"], sort=False):
                suffix = {"in_sample": ", chosen by these labels", "cross_fitted": ", cross-fitted"}.get(selection, "")
                own = own.set_index("machine").reindex([*machines, "average"])
                listed.append(
                    {
                        "title": name + suffix,
                        "model": not selection,
                        "cells": [
                            {key: _percent(cell[key]) for key in ("value", "low", "high")} | {"best": False}
                            for _, cell in own.iterrows()
                        ],
                    }
                )
            for column in zip(*(row["cells"] for row in listed if row["model"]), strict=True):
                highest = max((cell["value"] for cell in column if cell["value"] is not None), default=None)
                for cell in column:
                    cell["best"] = highest is not None and cell["value"] == highest
            columns = [*machines, "average"]
            tables.append({"title": title, "domain": domain, "columns": columns, "rows": listed})
    return tables


def _percent(value: float) -> float | None:
    return None if pd.isna(value) else 100 * float(value)


def choices(selection: pd.DataFrame, titles: dict[str, str], tables: list[dict]) -> list[dict]:
    """Return the ensemble's choice per machine: the model, the reason as a text, and the value of each model."""
    words = {
        "auc_total": "highest AUC (harmonic mean of source and target over the development sections)",
        "auc_all": "highest AUC of all clips, since a domain is missing",
        "": "no labelled normal and anomalous clips to choose by: the fallback",
    }
    unseen = {}
    for row in tables[0]["rows"]:
        if row["title"] == f"{ENSEMBLE}, cross-fitted":
            unseen = dict(zip(tables[0]["columns"], row["cells"], strict=True))
    rows = []
    for row in selection.to_dict("records"):
        values = {titles[model]: _percent(float(row[model] or "nan")) for model in titles if model in row}
        cross = unseen.get(row["machine"], {}).get("value")
        rows.append(
            {
                "machine": row["machine"],
                "model": row["model"],
                "title": titles[row["model"]],
                "reason": words.get(row["criterion"], row["criterion"]),
                "values": values,
                "cross_fitted": cross,
            }
        )
    return rows


def beside_paper(cells: pd.DataFrame) -> list[dict]:
    """Return our tables beside the paper's: per table its name, columns, and rows of (ours, paper) in percent."""
    tables = []
    for name, part in cells.groupby("table", sort=False):
        columns, models = list(part["machine"].unique()), list(part["model"].unique())
        value = part.set_index(["model", "machine"])[["ours", "paper"]]
        rows = [(model, [tuple(value.loc[(model, machine)]) for machine in columns]) for model in models]
        metric, _, domain = str(name).partition("_")
        title = f"{metric.replace('auc', 'AUC')}, {domain}"
        tables.append({"title": title, "columns": columns, "rows": rows})
    return tables


# --- provenance ---------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages."""
    found = {"Python": platform.python_version(), "System": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def stages(folders: list[Path]) -> list[dict]:
    """Return duration and memory of each stage, from the benchmark files below these folders.

    Returns:
        Per stage, in the order in which they first ran: stage, jobs, seconds (sum), longest, cpu (seconds, sum), memory
        (largest resident set, MB); None if Snakemake could not measure it.
    """
    files = sorted(
        {path for folder in folders for path in folder.rglob("*.tsv")}, key=lambda path: path.stat().st_mtime
    )
    found: dict[str, list[pd.Series]] = {}
    for path in sorted(files, key=lambda path: (path.stat().st_mtime, path)):
        folder = max((one for one in folders if path.is_relative_to(one)), key=lambda one: len(one.parts))
        parts = path.relative_to(folder).parts
        stage = parts[0] if len(parts) > 1 else (path.stem if folder.parent.name != "weights" else "weights")
        measured = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
        found.setdefault(stage, []).append(measured)
    rows = []
    for stage, jobs in found.items():
        table = pd.DataFrame(jobs)
        sums = {key: pd.to_numeric(table.get(key), errors="coerce") for key in ("s", "cpu_time", "max_rss")}
        rows.append(
            {
                "stage": stage,
                "jobs": len(table),
                "seconds": _number(sums["s"].sum()),
                "longest": _number(sums["s"].max()),
                "cpu": _number(sums["cpu_time"].sum(min_count=1)),
                "memory": _number(sums["max_rss"].max()),
            }
        )
    return rows


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def seeds(settings: "Settings") -> dict[str, int]:
    """Return every seed of the configuration, by its key."""
    found = {"metrics.seed": settings.metrics.seed}
    if settings.dataset.kind == "demo":
        found["dataset.demo.seed"] = settings.dataset.demo.seed
    return found | {f"networks.{name}.seed": network.seed for name, network in settings.networks.items()}


# --- the page -----------------------------------------------------------------------------------------------


def read_clips(folder: Path) -> dict:
    """Read the list of a machine's clips that `asd.report.clips.write_clips` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / "clips.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable list of clips ({error}); delete {folder} and run again") from None


def write_page(path: Path, template: Path, **content: object) -> None:
    """Fill a template with content and write the page.

    Args:
        path: the page to write.
        template: the template; the files that it includes are in the same folder. Values are escaped; `tojson` makes
            them safe in a script.
        content: the variables of the template.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name).render(python=sys.version, **content)
    with written(path) as aside:
        aside.write_text(page, encoding="utf-8")


# --- the page in one file -----------------------------------------------------------------------------------

DATA = '<script type="application/json" id="data">'
"""The beginning of the page's script. Values from outside cannot contain it, since they are escaped."""
KINDS = {".webp": "image/webp", ".svg": "image/svg+xml", ".flac": "audio/flac"}


def write_single(path: Path, page: Path) -> None:
    """Write the page and all files beside it as one file.

    Figures become data URLs. The files of the clips become blocks of base64 with the names of the files; the page's
    script turns a block into a sound or a picture when its clip is opened.

    Args:
        path: the file to write.
        page: the page, in its folder.

    Raises:
        InputError: a file that the page shows is missing.
    """
    try:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r'<a href="figures/[^"]*"', '<a href="#" data-large', text)
        text = re.sub(r'src="(figures/[^"]*)"', lambda found: f'src="{_inside(page.parent / found[1])}"', text)
        before, after = text.split(DATA)
        machines = json.loads(after.partition("</script>")[0])["machines"]
        with written(path) as aside, aside.open("w", encoding="utf-8") as out:
            out.write(before)
            for machine in machines:
                for file in sorted((page.parent / machine["folder"]).iterdir()):
                    if kind := KINDS.get(file.suffix):
                        name = f"{machine['folder']}/{file.name}"
                        out.write(f'<script type="{kind}" id="{name}">{_base64(file)}</script>\n')
            out.write(DATA + after)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; make the page again, then this") from None


def _inside(path: Path) -> str:
    return f"data:{KINDS[path.suffix]};base64,{_base64(path)}"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
