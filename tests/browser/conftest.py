"""A report of two machines, and a Chromium to look at it."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import call
from finished import DATA, TITLES, Machine, make_machine
from playwright.sync_api import Page, sync_playwright

from asd.settings import load

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("ASD_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def make_report(folder: Path) -> None:
    """Everything from made-up features to the page, by the scripts."""
    fan, valve = make_machine(folder, "fan", test=8, hostile=True), make_machine(folder, "valve", test=1)
    models = list(TITLES)[:-1]
    settings = load(
        yaml.safe_load((ROOT / "config/config.yaml").read_text())
        | {"machines": ["fan", "valve"], "run_models": models, "metrics": {"resamples": 20, "splits": 5}}
    )
    scores = [machine.of("scores", model, "csv") for model in models for machine in (fan, valve)]
    tables, results = folder / "tables", folder / "results"
    selection = folder / "selection.csv"
    call("ensemble", scores=scores, models=models, fallback="local", selection=selection, out_dir=[folder / "chosen"])
    titles = [TITLES[model] for model in models]
    call(
        "tables",
        scores=scores,
        models=models,
        titles=titles,
        paper_models=models,
        selection=selection,
        out_dir=tables,
        settings=settings.metrics,
    )
    versus = {"table": "auc_total", "model": "CNN-Global", "machine": "fan", "paper": 61.25, "ours": 71.25}
    pd.DataFrame([versus]).to_csv(folder / "versus.csv", index=False)
    chosen = [folder / "chosen" / f"{machine.name}.csv" for machine in (fan, valve)]
    call("suspicious", scores=chosen, caches=[fan.cache, valve.cache], out=folder / "suspicious.csv")
    drawn = [results / "figures/machines" / machine.name for machine in (fan, valve)]
    for machine, out in zip((fan, valve), drawn, strict=True):
        call(
            "figures",
            cache=machine.cache,
            features=machine.of("features", "global", "h5"),
            curves=machine.curves,
            scores=machine.scores,
            clip_scores=machine.scores[-1],
            out_dir=out,
        )
        write_clips(machine, results / "report/clips")
    benchmarks = folder / "benchmarks/train"
    benchmarks.mkdir(parents=True)
    (benchmarks / "fan.tsv").write_text("s\tmax_rss\tcpu_time\n61.5\t1234\t99\n")
    call(
        "report",
        configuration=settings.model_dump_json(),
        metrics=tables / "metrics.csv",
        selection=selection,
        suspicious=folder / "suspicious.csv",
        versus=folder / "versus.csv",
        scores=chosen,
        figures=drawn,
        clips=[results / "report/clips/fan", results / "report/clips/valve"],
        benchmarks=[folder / "benchmarks", folder / "none"],
        template=ROOT / "workflow/report/page.html",
        models_dir=results / "figures/models",
        out=results / "report/index.html",
    )


def write_clips(machine: Machine, folder: Path) -> None:
    call(
        "clips",
        cache=machine.cache,
        scores=machine.scores,
        features=machine.of("features", "local", "h5"),
        fitted=machine.of("mvg", "local", "h5"),
        out_dir=folder / machine.name,
    )


def make_many(page: Path, folder: Path, count: int) -> None:
    """The same page with so many clips, each with files of its own."""
    (folder / "clips").mkdir(parents=True)
    shutil.copytree(page.parent / "figures", folder / "figures")
    before, after = page.read_text().split(DATA)
    text, after = after.split("</script>", 1)
    said = json.loads(text)
    fan = said["machines"][0]
    shutil.copytree(page.parent / fan["folder"], folder / fan["folder"])
    few, rows = fan["clips"], {clip["row"] for clip in fan["clips"]}
    for row in (row for row in range(10**6) if row not in rows):
        if len(fan["clips"]) == count:
            break
        clip = few[row % len(few)]
        fan["clips"] = [*fan["clips"], {**clip, "row": row}]
        for kind in ("flac", "webp"):
            os.link(folder / fan["folder"] / f"{clip['row']}.{kind}", folder / fan["folder"] / f"{row}.{kind}")
    said["machines"] = [fan]
    (folder / page.name).write_text(before + DATA + json.dumps(said).replace("<", "\\u003c") + "</script>" + after)


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> Path:
    """A folder of pages, made once for all processes of the suite, with nothing beside them but what they need.

    <small or many>/folder/index.html and <small or many>/single/single.html; many have 600 clips.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "report-of-browser-tests"
    folder.mkdir(exist_ok=True)
    moved = folder / "moved"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not moved.exists():
            make_report(folder)
            made = folder / "made"
            (made / "small").mkdir(parents=True)
            (folder / "results/report").rename(made / "small/folder")
            make_many(made / "small/folder/index.html", made / "many/folder", 600)
            for kind in ("small", "many"):
                call("single", page=made / kind / "folder/index.html", out=made / kind / "single/single.html")
            made.rename(moved)
    return moved


@pytest.fixture(params=["folder/index.html", "single/single.html"])
def version(request) -> str:
    """Which of the two versions of the page."""
    return request.param


@pytest.fixture(scope="session")
def report(reports) -> Path:
    """The page with its files beside it."""
    return reports / "small/folder/index.html"


@pytest.fixture(scope="session")
def clips(report) -> list[dict]:
    """What the page knows of the clips."""
    return [
        clip
        for machine in ("fan", "valve")
        for clip in json.loads((report.parent / "clips" / machine / "clips.json").read_text())["clips"]
    ]


@pytest.fixture(scope="package")  # its event loop must end before a test that calls Snakemake
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in ASD_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def look_at(chromium) -> Callable[[Path], AbstractContextManager[Page]]:
    """Opens a report from disk. Whatever the browser complains about, or asks a network for, fails the test."""

    @contextmanager
    def look_at(report: Path) -> Iterator[Page]:
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=True)
        page = context.new_page()
        said = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url} {request.failure}"))
        # The folder's page may ask for what is in the folder, the single file for nothing but itself.
        own = (report.parent if report.name == "index.html" else report).as_uri()
        page.on("request", lambda one: None if one.url.startswith((own, "data:", "blob:")) else said.append(one.url))
        page.goto(report.as_uri())
        yield page
        context.close()
        assert [one for one in said if not one.endswith("net::ERR_ABORTED")] == []  # a sound that the next one replaced

    return look_at


@pytest.fixture
def page(look_at, reports, version):
    """Each version of the page, one after the other."""
    with look_at(reports / "small" / version) as page:
        yield page
