"""The audit of the paper's tables, against what was found by hand; ours beside them."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from asd.errors import InputError
from asd.results.paper import audit, read_tables, side_by_side, versus
from asd.results.tables import AVERAGE, BEST, TABLES, write_percentages

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "resources/paper"


@pytest.fixture(scope="module")
def printed():
    return read_tables(PAPER)


@pytest.fixture(scope="module")
def checks(printed):
    return audit(printed)


def test_two_totals_are_inconsistent(checks):
    totals = checks[checks["check"] == "total"]
    assert len(totals) == 42
    off = totals[~totals["agrees"]]
    found = off[["table", "model", "machine", "printed"]].to_numpy().tolist()
    assert found == [["auc_total", "CNN-Local", "ToyTrain", 66.12], ["pauc_total", "CNN-Local", "ToyTrain", 60.51]]
    assert off["computed"].round(2).tolist() == [60.51, 55.92]


@pytest.mark.parametrize("check", ["average", "best"])
def test_averages_and_maxima_are_as_printed(checks, check):
    rows = checks[checks["check"] == check]
    assert len(rows) == {"average": 24, "best": 42}[check]
    assert rows["agrees"].all()


def test_our_best_is_not_one_system(checks):
    system = checks[(checks["check"] == "one_system") & (checks["table"] == "auc_total")].set_index("machine")
    assert system["model"].to_dict() == {
        "ToyCar": "CNN-Local",
        "ToyTrain": "CNN-Local",
        "bearing": "CNN-Local",
        "fan": "CNN-OE",
        "gearbox": "CNN-OE",
        "slider": "CNN-OE",
        "valve": "CNN-Global",
        AVERAGE: "",
    }
    averages = checks[(checks["check"] == "one_system") & (checks["machine"] == AVERAGE)].set_index("table")
    assert averages["computed"].round(2).to_dict() == {
        "auc_total": 79.73,
        "auc_source": 81.61,
        "auc_target": 77.66,
        "pauc_total": 70.56,
        "pauc_source": 73.56,
        "pauc_target": 67.22,
    }
    assert averages["printed"].to_dict()["pauc_total"] == 70.65


def test_with_the_cell_put_right_another_model_is_the_best(checks):
    system = checks[(checks["check"] == "one_system_corrected") & (checks["table"] == "auc_total")].set_index("machine")
    assert system.loc["ToyTrain", ["model", "computed"]].tolist() == ["CNN-OE", pytest.approx(63.81, abs=0.011)]
    assert system.loc[AVERAGE, "computed"] == pytest.approx(79.40, abs=0.005)


def test_versus_is_over_the_machines_of_both(printed):
    ours = {name: table[["fan", "valve", AVERAGE]].drop(columns=AVERAGE) + 1 for name, table in printed.items()}
    ours["auc_total"].loc["CNN-OE", "fan"] = float("nan")
    ours["auc_total"].loc["Ensemble"] = 50.0
    cells = versus(ours, printed)
    assert set(cells["machine"]) == {"fan", "valve", AVERAGE}
    assert set(cells["model"]) == {"CNN-Global", "CNN-Local", "CNN-OE", BEST}
    rest = cells[cells["ours"].notna()]
    assert rest["difference"].tolist() == pytest.approx([1.0] * len(rest))
    mean = cells[(cells["table"] == "auc_total") & (cells["model"] == "CNN-OE") & (cells["machine"] == AVERAGE)]
    assert mean["paper"].item() == 67.88
    assert side_by_side(cells)["auc_total"].loc["CNN-OE", "fan"] == "- / 75.35"


def test_versus_nothing_in_common(printed):
    ours = {name: pd.DataFrame({"pump": [1.0]}, index=["CNN-OE"]) for name in TABLES}
    assert versus(ours, printed).empty


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"auc_total\.csv"):
        read_tables(tmp_path)
    (tmp_path / "auc_total.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"first column must be Model; found a"):
        read_tables(tmp_path)
    (tmp_path / "auc_total.csv").write_text("Model,fan\nCNN-OE,much\n")
    with pytest.raises(InputError, match=r"auc_total\.csv"):
        read_tables(tmp_path)


def test_the_script(tmp_path, printed):
    for name, table in printed.items():
        write_percentages(tmp_path / f"{name}.csv", table[["fan", "valve"]].assign(**{AVERAGE: 1.0}))
    command = [sys.executable, ROOT / "workflow/scripts/compare_paper.py", "--tables", tmp_path, "--paper", PAPER]
    command += ["--versus", tmp_path / "versus.csv", "--audit", tmp_path / "audit.csv"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "75.35 / 75.35" in done.stdout
    assert "66.12" in done.stdout
    assert pd.read_csv(tmp_path / "versus.csv")["difference"].abs().max() == 0
    assert len(pd.read_csv(tmp_path / "audit.csv")) == 42 + 24 + 42 + 2 * 48
