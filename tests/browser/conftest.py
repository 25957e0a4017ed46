"""A report of two machines, and a Chromium to look at it."""

import fcntl
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from finished import TITLES, Machine, make_machine

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


def call(script: str, **arguments: object) -> None:
    """The function of a script, in this process (a start costs seconds)."""
    specification = importlib.util.spec_from_file_location(script, ROOT / f"workflow/scripts/{script}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.main(**arguments)


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
    call("ensemble", scores=scores, models=models, fallback="local", selection=selection, out_dir=folder / "chosen")
    titles = [TITLES[model] for model in models]
    call(
        "tables",
        scores=scores,
        models=models,
        titles=titles,
        selection=selection,
        out_dir=tables,
        settings=settings.metrics,
    )
    versus = {"table": "auc_total", "model": "CNN-Global", "machine": "fan", "paper": 61.25, "ours": 71.25}
    pd.DataFrame([versus]).to_csv(folder / "versus.csv", index=False)
    drawn = results / "figures/fan"
    call(
        "figures",
        cache=fan.cache,
        features=fan.of("features", "global", "h5"),
        curves=fan.curves,
        scores=fan.scores,
        titles=[*titles, "Ensemble"],
        quantiles=[0.9] * len(titles),
        selection=selection,
        out_dir=drawn,
    )
    for machine in (fan, valve):
        write_clips(machine, results / "report/clips", selection)
    benchmarks = folder / "benchmarks/train"
    benchmarks.mkdir(parents=True)
    (benchmarks / "fan.tsv").write_text("s\tmax_rss\tcpu_time\n61.5\t1234\t99\n")
    call(
        "report",
        configuration=settings.model_dump_json(),
        metrics=tables / "metrics.csv",
        selection=selection,
        versus=folder / "versus.csv",
        figures=sorted(drawn.glob("*.svg")),
        clips=[results / "report/clips/fan", results / "report/clips/valve"],
        benchmarks=[folder / "benchmarks", folder / "none"],
        template=ROOT / "workflow/report/page.html",
        overview_dir=results / "figures",
        out=results / "report/index.html",
    )


def write_clips(machine: Machine, folder: Path, selection: Path) -> None:
    call(
        "clips",
        cache=machine.cache,
        scores=machine.scores,
        features=machine.of("features", "local", "h5"),
        mvg=machine.of("mvg", "local", "h5"),
        quantiles=[0.9, 0.9],
        selection=selection,
        out_dir=folder / machine.name,
    )


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    """The page, made once for all processes of the suite, in a folder with nothing but what it needs."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "report-of-browser-tests"
    folder.mkdir(exist_ok=True)
    moved = folder / "moved"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not moved.exists():
            make_report(folder)
            (folder / "results/report").rename(moved)
    return moved / "index.html"


@pytest.fixture(scope="session")
def clips(report) -> list[dict]:
    """What the page knows of the clips."""
    return [
        clip
        for machine in ("fan", "valve")
        for clip in json.loads((report.parent / "clips" / machine / "clips.json").read_text())["clips"]
    ]


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in ASD_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, report):
    """The report, opened from disk. Whatever the browser complains about, or asks a network for, fails the test."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    opened = context.new_page()
    said = []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: said.append(f"error: {error}"))
    opened.on("requestfailed", lambda request: said.append(f"failed: {request.url} {request.failure}"))
    opened.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url)
    )
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert [one for one in said if not one.endswith("net::ERR_ABORTED")] == []  # a sound that the next clip replaced
