"""The page of a run: its tables, figures and clips, and its settings and versions.

A template (Jinja2, which escapes all values) is filled with the results of other stages. The page is in
one folder with everything that it shows, opens from disk, and needs no network.
"""

import json
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from asd.errors import InputError
from asd.files import written
from asd.results.metrics import percent
from asd.results.metrics_table import ALL_CLIPS, select
from asd.scores import UNDECIDED

if TYPE_CHECKING:
    from markupsafe import Markup

    from asd.settings import Settings

PACKAGES = ("asd", "torch", "timm", "numpy", "scipy", "scikit-learn", "pandas", "h5py", "matplotlib", "snakemake")
DOMAINS = ("total", "source", "target")
KINDS_OF_FIGURES = {
    "scores": ("Scores", "The score of each clip: at the bottom the training clips (held out), above them the test "
               "clips of each domain. A clip right of the dashed line is called anomalous."),
    "roc": ("ROC", "The share of anomalies that is found against that of normal clips that are called anomalous. As in "
            "the tables, the normal clips of a domain are compared with the anomalies of both domains."),
    "examples": ("Typical and most anomalous", "A typical normal clip, the test clip with the highest score, and "
                 "their difference: red is louder than the typical clip usually is at that frequency, blue quieter."),
    "spectra": ("Average spectra", "The average level at each frequency, over time and clips (at most 200)."),
    "map": ("Map", "Clips whose features are alike are near each other (t-SNE; large distances mean little). A click "
            "on a test clip opens it."),
    "training": ("Training", "Loss and accuracy on the augmented training clips."),
    "models": ("Models", "AUC and pAUC of each model with their intervals; gray: no network is trained."),
}  # fmt: skip
"""Kind of figure -> title, and what it shows."""


def figure_of(path: Path, machine: str, name: str, titles: dict[str, str]) -> dict[str, str]:
    """Return kind, model, machine, title, caption and alternative text of a figure.

    Args:
        path: the file.
        machine: the machine that it is of.
        name: <kind> or <kind>-<model>.
        titles: model -> its title.

    Raises:
        InputError: there is no such kind of figure.
    """
    kind, _, model = name.partition("-")
    if kind not in KINDS_OF_FIGURES:
        raise InputError(f"{path}: found no such kind of figure; expected {', '.join(KINDS_OF_FIGURES)}")
    title, caption = KINDS_OF_FIGURES[kind]
    if model:
        title += f", {titles.get(model, model)}"
    alt = f"{title} of {machine}. {caption}"
    return {"kind": kind, "model": model, "machine": machine, "title": title, "caption": caption, "alt": alt}


def shown(page: Path, path: Path, folder: str, machine: str, name: str, titles: dict[str, str]) -> dict[str, str]:
    """Copy a figure into the folder of the page, and return what the page shows of it.

    Args:
        page: the page.
        path: the figure (SVG).
        folder: the folder below figures/ that gets the copy.
        machine: the machine that it is of.
        name: <kind> or <kind>-<model>.
        titles: model -> its title.

    Returns:
        As `figure_of`; `src`, the copy as the page links to it; and `svg`, the drawing itself if it is a map, otherwise
        empty.

    Raises:
        InputError: there is no such kind of figure.
    """
    copy = page.parent / "figures" / folder / path.name
    with written(copy) as aside:
        shutil.copyfile(path, aside)
    figure = figure_of(path, machine, name, titles)
    drawing = inlined(path.read_text(encoding="utf-8")) if figure["kind"] == "map" else ""
    return figure | {"src": copy.relative_to(page.parent).as_posix(), "svg": drawing}


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


def systems(metrics: pd.DataFrame, reading: str) -> dict[str, dict[str, pd.DataFrame]]:
    """Return machine (and "average") -> AUC and pAUC -> title, value, low, high of each model and of the ensemble.

    Args:
        metrics: the table `asd.results.metrics_table`.
        reading: whether the pAUC of a domain uses the anomalies of both domains or of its own: both or own.
    """
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for kind, metric in (("AUC", "auc"), ("pAUC", f"pauc_{reading}")):
        rows = select(metrics, metric, "total")
        rows = rows[rows["selection"] != "cross_fitted"]
        if rows["machine"].nunique() == 2:  # a machine, and the average over it
            rows = rows[rows["machine"] != ""]
        names = rows["machine"].str.removesuffix(ALL_CLIPS).replace("", "average")
        for machine in names.unique():
            found.setdefault(machine, {})[kind] = rows.loc[names == machine, ["title", "value", "low", "high"]]
    return found


def untrained(settings: "Settings") -> set[str]:
    """Return the titles of the models for which no network is trained."""

    def trains(name: str) -> bool:
        model = settings.models[name]
        return any(map(trains, model.members)) or bool(model.network and settings.networks[model.network].learns)

    return {settings.models[name].title for name in settings.run_models if not trains(name)}


def result_tables(metrics: pd.DataFrame, reading: str) -> list[dict]:
    """Return the tables of AUC and pAUC on the development part, by domain; those without any value are left out.

    Args:
        metrics: the table `asd.results.metrics_table`.
        reading: whether the pAUC of a domain uses the anomalies of both domains or of its own: both or own.

    Returns:
        Per table: title, domain, columns (machines), rows. A row has a title and one cell per column: value and
        interval in percent as text ("–": undefined), and whether it is the highest of the models.
    """
    tables = []
    for title, metric in (("AUC", "auc"), ("pAUC", f"pauc_{reading}")):
        for domain in DOMAINS:
            rows = select(metrics, metric, domain)
            if rows["value"].isna().all():
                continue
            machines = [machine for machine in rows["machine"].unique() if machine]
            columns = [*machines, ""] if len(machines) > 1 else machines
            listed = []
            for (name, selection), own in rows.groupby(["title", "selection"], sort=False):
                suffix = {"in_sample": ", chosen by these labels", "cross_fitted": ", cross-fitted"}.get(selection, "")
                cells = own.set_index("machine").reindex(columns)
                listed.append({"title": name + suffix, "model": not selection, "values": cells["value"].tolist()})
                listed[-1]["cells"] = [
                    {"value": _percent(cell.value), "interval": _interval(cell.low, cell.high)}
                    for cell in cells.itertuples()
                ]
            for place in range(len(columns)):
                values = [row["values"][place] for row in listed if row["model"]]
                highest = max((value for value in values if not pd.isna(value)), default=None)
                for row in listed:
                    row["cells"][place]["best"] = row["model"] and row["values"][place] == highest
            named = [column or "average" for column in columns]
            of = "source and target (harmonic mean)" if domain == "total" else f"{domain} domain"
            if all(machine.endswith(ALL_CLIPS) for machine in machines):
                of, named = "all clips", [column.removesuffix(ALL_CLIPS) for column in named]
            tables.append({"title": f"{title}, {of}", "domain": domain, "columns": named, "rows": listed})
    return tables


def _percent(value: float) -> str:
    return "–" if pd.isna(value) else percent(value)


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{percent(low, 0)}–{percent(high, 0)}"


NOTHING = {"value": "–", "interval": ""}
"""The cell of a figure that cannot be computed."""


def verdicts(
    scores: dict[str, pd.DataFrame], selection: pd.DataFrame, metrics: pd.DataFrame, titles: dict[str, str]
) -> list[dict]:
    """Return what was found on each machine.

    Args:
        scores: machine -> the ensemble's scores (`asd.scores.read_scores`), of recordings if these were cut into clips.
        selection: the ensemble's choice.
        metrics: the table `asd.results.metrics_table`.
        titles: model -> its title.

    Returns:
        Per machine: machine, model and title of the chosen model, training and test (numbers of recordings), flagged,
        undecided and labelled (of the test recordings), found and alarms (cells: how many of the anomalous and of the
        normal ones are called anomalous), auc and unseen (cells: in sample, cross-fitted), all_clips
        (whether these are of all clips).
    """
    chosen = selection.set_index("machine").to_dict("index")
    pooled = metrics[metrics["mean"] == "pooled"]
    area = select(metrics, "auc", "total")
    area = area[area["model"] == "ensemble"].assign(name=area["machine"].str.removesuffix(ALL_CLIPS))
    rows = []
    for machine, table in scores.items():
        test = table[table["split"] == "test"]
        model = chosen[machine]["model"]
        of_model = pooled[(pooled["machine"] == machine) & (pooled["model"] == model)].set_index("metric")
        rates = {
            row.Index: {"value": row.over.removesuffix(" clips"), "interval": f"{_interval(row.low, row.high)} %"}
            for row in of_model.itertuples()
        }
        own = area[area["name"] == machine].set_index("selection")
        cells = {
            key: {"value": _percent(row["value"]), "interval": _interval(row["low"], row["high"])}
            for key, row in own.iterrows()
        }
        rows.append(
            {
                "machine": machine,
                "model": model,
                "title": titles[model],
                "training": len(table) - len(test),
                "test": len(test),
                "flagged": int((test["decision"] == 1).sum()),
                "undecided": int((test["decision"] == UNDECIDED).sum()),
                "labelled": int((test["label"] != "").sum()),
                "found": rates.get("found", NOTHING),
                "alarms": rates.get("false_alarms", NOTHING),
                "auc": cells.get("in_sample", NOTHING),
                "unseen": cells.get("cross_fitted", NOTHING),
                "all_clips": bool(own["machine"].str.endswith(ALL_CLIPS).any()),
            }
        )
    return rows


def remarks(suspicious: pd.DataFrame) -> list[str]:
    """Return what suspicious.csv remarks on, once per machine and section."""
    rows = suspicious[suspicious["remark"] != ""]
    return list(dict.fromkeys(f"{row.machine}, section {row.section}: {row.remark}" for row in rows.itertuples()))


def verdict_text(rows: list[dict]) -> str:
    """Return the verdict as reStructuredText, with which Snakemake's own report begins.

    Args:
        rows: as from `verdicts`.
    """

    def cells(*texts: object) -> str:
        escaped = (re.sub(r"([\\*`_|])", r"\\\1", str(text)).replace('"', '""') for text in texts)
        return "   " + ", ".join(f'"{text}"' for text in escaped)

    flagged, tested = (sum(row[key] for row in rows) for key in ("flagged", "test"))
    lines = [f"{flagged} of {tested} recordings sound anomalous.", "", ".. csv-table::", "   :header-rows: 1", ""]
    lines.append(cells("Machine", "Called anomalous", "Anomalies found", "False alarms", "AUC, %", "By the model"))
    for row in rows:
        figures = [row[key]["value"] for key in ("found", "alarms", "auc")]
        lines.append(cells(row["machine"], f"{row['flagged']} of {row['test']}", *figures, row["title"]))
    return "\n".join([*lines, ""])


def beside_paper(cells: pd.DataFrame) -> list[dict]:
    """Return our tables beside the paper's: per table its name, columns, and rows of (ours, paper) as text."""
    tables = []
    for name, part in cells.groupby("table", sort=False):
        columns, models = list(part["machine"].unique()), list(part["model"].unique())
        value = part.set_index(["model", "machine"])[["ours", "paper"]]
        rows = [
            (model, [tuple(map(_percent, value.loc[(model, machine)] / 100)) for machine in columns])
            for model in models
        ]
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
    """Return the seeds of all that runs, by their keys."""
    found = {"metrics.seed": settings.metrics.seed}
    if settings.dataset.kind == "demo":
        found["dataset.demo.seed"] = settings.dataset.demo.seed
    models = [settings.models[name] for name in settings.run_models]
    models += [settings.models[name] for one in models for name in one.members]
    used = {one.network for one in models if one.network}
    used |= {start for name in used for start in settings.warm_starts(name)}
    return found | {f"networks.{name}.seed": settings.networks[name].seed for name in settings.networks if name in used}


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
