"""A leaderboard on made-up files, for the tests of the script and of its page."""

import json
import shutil
from pathlib import Path

import pandas as pd
import yaml
from conftest import call
from finished import make_machine

from asd.scores import read_scores
from asd.settings import Metrics

HOSTILE = "<img src=x onerror=window.hacked=1> | b"
"""The name of a stranger's system."""
MODELS = {
    "global": {"title": "Spectrum, seed 1", "spectrum": "mean"},
    "local": {"title": "Spectrum, seed 2", "spectrum": "mean"},
    "tuned": {"title": "Tuned", "spectrum": "mean"},
}
CONFIGURATION = {
    "machines": ["fan"],
    "networks": {},
    "spectra": {"mean": {}},
    "models": MODELS,
    "run_models": list(MODELS),
    "variants": {
        name: {"model": "global", "title": "Spectrum", "seed": seed} for seed, name in enumerate(MODELS) if seed < 2
    },
}


def write_submission(folder: Path, scores: pd.DataFrame, machine: str = "fan") -> Path:
    """Write the test clips' scores of a machine in the form of the challenge."""
    folder.mkdir(parents=True, exist_ok=True)
    for section, rows in scores[scores["split"] == "test"].groupby("section"):
        text = "".join(f"{row.file},{row.score!r}\n" for row in rows.itertuples())
        (folder / f"anomaly_score_{machine}_section_{section}_test.csv").write_text(text)
    return folder


def make_leaderboard(folder: Path) -> Path:
    """Write the page: a row of two runs, one that was chosen by labels, and two submissions. Return its path."""
    machine = make_machine(folder, "fan", test=6)
    for kind, suffix in (("scores", "csv"), ("mvg", "h5")):
        machine.of(kind, "tuned", suffix).parent.mkdir()
        shutil.copy(machine.of(kind, "global", suffix), machine.of(kind, "tuned", suffix))
    own = read_scores(machine.of("scores", "global", "csv"))
    strange = write_submission(folder / "strange", own.assign(score=own["score"].rank()))
    worse = write_submission(folder / "worse", own.assign(score=-own["score"]))
    times = {"fit": (3.0, 500.0), "first": (30.0, 800.0), "second": (60.0, 700.0)}
    for job, measured in times.items():
        (folder / f"{job}.tsv").write_text("s\tmax_rss\n{}\t{}\n".format(*measured))
    jobs = {"global": "first", "local": "second", "tuned": "missing"}
    files = {
        name: {"training": [str(folder / "fit.tsv")], "scoring": [str(folder / f"{job}.tsv")]}
        for name, job in jobs.items()
    }
    call(
        "leaderboard",
        configuration=yaml.safe_dump(CONFIGURATION),
        scores=[machine.of("scores", name, "csv") for name in MODELS],
        fitted=[machine.of("mvg", name, "h5") for name in MODELS],
        benchmarks=json.dumps(files),
        submissions={HOSTILE: strange, "Worse": worse},
        chosen_by_labels={"tuned": "the pooling"},
        kind="demo",
        out=folder / "board/index.html",
        settings=Metrics(resamples=200),
    )
    return folder / "board/index.html"
