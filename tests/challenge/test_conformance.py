"""Real scores, against what the official code printed for them.

Needs the environment variable ASD_EVALUATION_DATA: a folder with

    dev_baseline/       anomaly_score_* and decision_result_* of the autoencoder baseline on the development set, and
                        result.csv, which its test script prints
    submission/         system_1/, system_2/: score and decision files of two entries on the evaluation set, and
                        system_<k>_official_result.csv, which the official evaluator prints for them
    ground_truth/       the evaluator's ground_truth_data and ground_truth_domain

Baseline: github.com/Kota-Dohi/dcase2022_task2_baseline_ae. Evaluator: github.com/Kota-Dohi/dcase2022_evaluator.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asd.challenge.evaluation import read_challenge
from asd.results.long_form import rows
from asd.results.metrics import FIGURES, joined, machine_figures
from asd.settings import Metrics

FOLDER = os.environ.get("ASD_EVALUATION_DATA", "")
pytestmark = pytest.mark.skipif(
    not FOLDER,
    reason="ASD_EVALUATION_DATA is not set: point it to the public score files, laid out as this file's docstring says "
    "(github.com/Kota-Dohi/dcase2022_task2_baseline_ae and dcase2022_evaluator make them)",
)
SCRIPT = Path(__file__).parents[2] / "workflow/scripts/evaluate.py"
KEYS = {
    f"{name}{domain}": (metric, domain.strip(" ()") or "all")
    for metric, name in {"auc": "AUC", "pauc": "pAUC", "precision": "precision", "recall": "recall", "f1": "F1 score"}
    .items()
    for domain in (" (all)", " (source)", " (target)", "")
}  # fmt: skip
"""The official columns."""

SYSTEMS = [("submission/system_1", 0.6639461929735759), ("submission/system_2", 0.6653202926501359)]


def official(path):
    """What the official code printed: (machine, row) -> {column: value}, machine "" for the rows over all."""
    values, machine, header = {}, "", []
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if len(row) == 1:
                machine = row[0]
            elif not row:
                machine = ""
            elif row[0] in ("section", ""):
                header = row[1:]
            else:
                values[machine, row[0]] = {
                    name: float(value) for name, value in zip(header, row[1:], strict=False) if name and value
                }
                if not header[0] and row[0].startswith("official"):
                    values[machine, row[0]] = float(row[-1])
    return values


def ours(folder, ground_truth=None):
    """The long form of a folder, its rows found by (machine, section, domain, metric, mean)."""
    clips = read_challenge(Path(FOLDER, folder), ground_truth)
    figures = joined(machine_figures(machine, frame) for machine, frame in clips.items())
    table = rows(figures, list(clips), Metrics(resamples=0))
    return table.set_index(["machine", "section", "domain", "metric", "mean"])["value"].to_dict()


def agrees(found, expected):
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


def test_every_value_of_the_baseline():
    theirs = official(Path(FOLDER, "dev_baseline/result.csv"))
    found = ours("dev_baseline")
    sections = 0
    for (machine, row), values in theirs.items():
        assert len(values) == 9
        over_all = not machine
        for column, value in values.items():
            metric, domain = KEYS[column]
            mean = row.split()[0] if over_all or "mean" in row else ""
            section = "" if mean else row
            agrees(found[machine, section, domain, metric, mean], value)
            sections += not mean
    assert sections == 189


@pytest.mark.parametrize(("folder", "omega"), SYSTEMS)
def test_every_value_of_a_submission_that_the_evaluator_computes_rightly(folder, omega):
    theirs = official(Path(FOLDER, f"{folder}_official_result.csv"))
    found = ours(folder, Path(FOLDER, "ground_truth"))
    agrees(found["", "", "all", "omega", "harmonic"], omega)
    agrees(found["", "", "all", "omega", "harmonic"], theirs.pop(("", "official score")))
    theirs.pop(("", "official score ci95"))
    compared = 0
    for (machine, row), values in theirs.items():
        if machine and row.startswith(("source", "target")):
            continue  # wrong by its own definition, see below
        for column, value in values.items():
            if row[0].isdigit():
                metric, domain = KEYS[column]
                agrees(found[machine, row, domain, metric, ""], value)
            else:
                # The official means hold the values of both domains, the one pAUC of a section twice.
                metric = KEYS[column][0]
                domain, mean = row.split()[:1][0], "harmonic"
                if domain in ("arithmetic", "harmonic"):
                    domain, mean = "total", domain
                domain = "all" if metric == "pauc" else domain
                agrees(found[machine, "", domain, metric, mean], value)
            compared += 1
    assert compared == 7 * 3 * 10 + 7 * 2 * 5 + 4 * 5


@pytest.mark.parametrize(("folder", "omega"), SYSTEMS)
def test_the_evaluators_domain_means_of_a_machine_are_of_other_values(folder, omega):
    """It halves the number of sections, not of values: of three sections "source" is the first section's value alone,
    and "target" the harmonic mean of the five others, two of them of the source domain."""
    theirs = official(Path(FOLDER, f"{folder}_official_result.csv"))
    found = ours(folder, Path(FOLDER, "ground_truth"))
    different = 0
    for machine in {machine for machine, _ in theirs if machine}:
        auc = [found[machine, section, domain, "auc", ""] for domain in ("source", "target") for section in
               ("03", "04", "05")]  # fmt: skip
        agrees(theirs[machine, "source harmonic mean"]["AUC"], auc[0])
        agrees(theirs[machine, "target harmonic mean"]["AUC"], 5 / sum(1 / value for value in auc[1:]))
        agrees(found[machine, "", "source", "auc", "harmonic"], 3 / sum(1 / value for value in auc[:3]))
        agrees(found[machine, "", "target", "auc", "harmonic"], 3 / sum(1 / value for value in auc[3:]))
        different += abs(found[machine, "", "source", "auc", "harmonic"] - auc[0]) > 1e-3
    assert different >= 6


def test_the_order_of_rows_does_not_matter(tmp_path):
    """Half of the files are turned round, which would exchange scores if they were joined by order."""
    for number, path in enumerate(sorted(Path(FOLDER, "submission/system_1").glob("*.csv"))):
        lines = path.read_text().splitlines(keepends=True)
        (tmp_path / path.name).write_text("".join(lines[::-1] if number % 2 else lines))
    assert ours(tmp_path, Path(FOLDER, "ground_truth"))["", "", "all", "omega", "harmonic"] == pytest.approx(
        SYSTEMS[0][1], abs=1e-12
    )


def test_the_interval_of_the_official_score_is_not_the_evaluators():
    """Its ci95 says 4e-6, for 50 clips of a kind and section; the bootstrap says about 0.016."""
    clips = read_challenge(Path(FOLDER, "submission/system_1"), Path(FOLDER, "ground_truth"))
    figures = joined(machine_figures(machine, frame, resamples=300) for machine, frame in clips.items())
    table = rows(figures, list(clips), Metrics())
    omega = table[(table["metric"] == "omega") & (table["machine"] == "") & (table["mean"] == "harmonic")].iloc[0]
    assert 0.012 < (omega["high"] - omega["low"]) / 2 < 0.02
    assert FIGURES.index(("omega", "all")) == 8
    assert np.isfinite(table["value"]).all()


def test_the_script_on_the_baseline(tmp_path):
    command = [sys.executable, SCRIPT, "--scores", Path(FOLDER, "dev_baseline"), "--out", tmp_path / "result.csv"]
    done = subprocess.run([*map(str, command), "--resamples", "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| ToyCar   | 00              | 65.07 | 86.92      | 43.22" in done.stdout
    assert len(pd.read_csv(tmp_path / "result.csv")) > 189
