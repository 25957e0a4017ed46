"""The tables of a sweep, by hand values, and the script with its figure."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asd.results import sweep_tables
from asd.settings import Variant

ROOT = Path(__file__).parents[2]
AUC = {"oas": [0.6, 0.7, 0.8], "ridge": [0.5, 0.5, 0.9]}


def variants():
    return {
        f"global-covariance_{covariance}-seed_{seed}": Variant(
            model="global",
            title=f"CNN-Global, covariance {covariance}",
            values={"mvg.covariance": covariance},
            seed=seed,
        )
        for covariance in AUC
        for seed in (1, 2, 3)
    }


def metrics():
    """As the tables stage writes it: two machines, of which the second has no labels; an ensemble beside the models."""
    rows = []
    for name, variant in variants().items():
        value = AUC[variant.values["mvg.covariance"]][variant.seed - 1]
        for metric, domain in (("auc", "total"), ("pauc_both", "total"), ("omega", "all")):
            figure = {
                "model": name,
                "title": f"{variant.title}, seed {variant.seed}",
                "metric": metric,
                "domain": domain,
            }
            figure |= {"part": "development", "section": "", "low": 0.1, "high": 0.9, "over": "00", "selection": ""}
            rows.append(figure | {"machine": "fan", "value": value, "mean": "harmonic"})
            undefined = np.nan if variant.seed == 2 else value
            rows.append(figure | {"machine": "valve", "value": undefined, "mean": "harmonic"})
            rows.append(figure | {"machine": "", "value": value, "mean": "machines"})
            rows.append(figure | {"machine": "", "value": 0.0, "mean": "arithmetic"})
    rows.append(rows[0] | {"model": "ensemble", "title": "Ensemble", "value": 0.99})
    return pd.DataFrame(rows)


def test_mean_and_deviation_over_the_seeds():
    table = sweep_tables.spread(metrics(), variants())
    assert list(table.columns[:3]) == ["model", "title", "mvg.covariance"]
    fan = table[(table["machine"] == "fan") & (table["metric"] == "auc")].set_index("mvg.covariance")
    assert list(fan.index) == ["oas", "ridge"]
    np.testing.assert_allclose(fan["value"], [0.7, 1.9 / 3], rtol=1e-12)
    np.testing.assert_allclose(
        fan["deviation"], [0.1, np.sqrt(2 * (2 / 15) ** 2 + (4 / 15) ** 2) / np.sqrt(2)], rtol=1e-12
    )
    assert fan[["seeds", "lowest", "highest"]].to_numpy().tolist() == [[3, 0.6, 0.8], [3, 0.5, 0.9]]


def test_a_figure_that_a_seed_lacks_is_undefined():
    table = sweep_tables.spread(metrics(), variants())
    valve = table[table["machine"] == "valve"]
    assert valve["value"].isna().all()
    assert (valve["seeds"] == 3).all()


def test_the_page():
    page = sweep_tables.page(sweep_tables.spread(metrics(), variants()))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == ["Model", "fan", "valve", "Total (Ave.)"]
    assert lines[2] == ["CNN-Global, covariance oas", "70.0 ± 10.0", "", "70.0 ± 10.0"]
    assert lines[3] == ["CNN-Global, covariance ridge", "63.3 ± 23.1", "", "63.3 ± 23.1"]
    assert "over 3 seeds" in page


def test_one_seed_has_no_spread():
    one = {name: variant for name, variant in variants().items() if variant.seed == 1}
    table = sweep_tables.spread(metrics(), one)
    assert table["deviation"].isna().all()
    page = sweep_tables.page(table)
    assert "±" not in page
    assert "60.0" in page
    assert "One seed" in page


@pytest.mark.parametrize("own", ["both", "own"])
def test_the_script_writes_the_tables_and_the_figure(tmp_path, own):
    rows = metrics().replace({"metric": {"pauc_both": f"pauc_{own}"}})
    rows.to_csv(tmp_path / "metrics.csv", index=False)
    given = json.dumps({name: variant.model_dump() for name, variant in variants().items()})
    script = [sys.executable, ROOT / "workflow/scripts/sweep.py", "--metrics", tmp_path / "metrics.csv"]
    arguments = ["--variants", given, "--pauc-anomalies", own, "--out-dir", tmp_path, "--figures-dir", tmp_path]
    done = subprocess.run([*script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "sweep.md").read_text().strip()
    assert done.stdout.count("70.0 ± 10.0") == 6  # three figures, the machine and the average
    table = pd.read_csv(tmp_path / "sweep.csv")
    expected = sweep_tables.spread(rows, variants())
    np.testing.assert_allclose(table["value"], expected["value"], rtol=1e-12)
    assert "covariance ridge" in (tmp_path / "sweep.svg").read_text()
    assert (tmp_path / "sweep.png").stat().st_size > 5000
