"""The tables: the paper's own, derived; hand values; cells that cannot be computed; the script."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean
from scored import SELECTION, TITLES, all_scores, chosen, long_form, row
from sklearn.metrics import roc_auc_score

from asd.errors import InputError
from asd.results import long_form as form
from asd.results import tables
from asd.results.alarms import alarms
from asd.results.metrics import percent
from asd.settings import Metrics

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "resources/paper"
MACHINES = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]


def paper(name):
    return tables.read_percentages(PAPER / f"{name}.csv")


def models(table):
    return table.drop(index=tables.BEST, columns=tables.AVERAGE)


@pytest.mark.parametrize("metric", ["auc", "pauc"])
def test_tables_3_and_4_follow_from_5_to_8(metric):
    """Each total is the harmonic mean of its domains, but for the two cells known to be misprinted."""
    derived = tables.total(models(paper(f"{metric}_source")), models(paper(f"{metric}_target")))
    printed = models(paper(f"{metric}_total"))
    off = (derived - printed).abs() > 0.011
    assert off.sum(axis=None) == 1
    assert off.loc["CNN-Local", "ToyTrain"]
    right = {"auc": 60.51, "pauc": 55.92}[metric]
    assert derived.loc["CNN-Local", "ToyTrain"] == pytest.approx(right, abs=0.005)


def test_titles_and_machines_are_text(tmp_path):
    (tmp_path / "auc.csv").write_text("Model,1,NA\nNA,50.0,\n2,40.5,1\n")
    table = tables.read_percentages(tmp_path / "auc.csv")
    assert (list(table.index), list(table.columns)) == (["NA", "2"], ["1", "NA"])
    np.testing.assert_array_equal(table.to_numpy(), [[50, np.nan], [40.5, 1]])


@pytest.mark.parametrize("name", tables.TABLES)
def test_best_and_average_follow_from_the_models(name):
    printed = paper(name)
    best = tables.best(models(printed))
    pd.testing.assert_series_equal(best, printed.loc[tables.BEST, MACHINES], check_names=False)
    average = tables.average(printed[MACHINES])
    np.testing.assert_allclose(average, printed[tables.AVERAGE], atol=0.0101)


def test_published_tables():
    metrics = long_form(all_scores(), SELECTION, Metrics(resamples=0, splits=2))
    table = tables.published(tables.cells(metrics, "auc_source"))
    assert list(table.index) == ["CNN-Global", "CNN-OE", "Our Best", "Ensemble"]
    assert list(table.columns) == ["fan", "valve", "slider", "Total (Ave.)"]
    for machine, model in zip(SELECTION["machine"], SELECTION["model"], strict=True):
        assert table.loc["Ensemble", machine] == table.loc[TITLES[model], machine]
        assert table.loc["Our Best", machine] == table.loc[["CNN-Global", "CNN-OE"], machine].max()
    assert table.loc["CNN-OE", "Total (Ave.)"] == pytest.approx(table.loc["CNN-OE"].iloc[:3].mean())
    both, own = (tables.cells(metrics, "pauc_source", reading) for reading in ("both", "own"))
    assert (both != own).any(axis=None)


def test_intervals_in_the_text():
    metrics = long_form(all_scores(), SELECTION, Metrics(resamples=50, splits=4))
    text = tables.with_intervals(metrics, "auc", "total")
    assert list(text.index) == ["CNN-Global", "CNN-OE", "Ensemble, in sample", "Ensemble, cross-fitted"]
    assert list(text.columns) == ["fan", "valve", "slider", "Total (Ave.)"]
    own = row(metrics, model="oe", machine="fan", metric="auc", domain="total")
    assert text.loc["CNN-OE", "fan"] == f"{100 * own['value']:.1f} ({100 * own['low']:.1f}-{100 * own['high']:.1f})"
    lines = tables.markdown(text).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("| ---")


def test_undefined_cells_are_empty_and_named(tmp_path, caplog):
    scores = all_scores()
    for by_machine in scores.values():
        fan, valve = by_machine["fan"], by_machine["valve"]
        by_machine["fan"] = fan[fan["label"] == "normal"]
        by_machine["valve"] = valve[(valve["domain"] == "source") | (valve["section"] == "00")]
    metrics = long_form(scores, SELECTION, Metrics(resamples=3, splits=2))
    table = tables.published(tables.cells(metrics, "auc_target"))
    tables.name_empty({"auc_target": table})
    tables.write_percentages(tmp_path / "auc_target.csv", table)
    lines = (tmp_path / "auc_target.csv").read_text().splitlines()
    assert lines[0] == "Model,fan,valve,slider,Total (Ave.)"
    assert all(line.split(",")[1] == "" and line.split(",")[4] != "" for line in lines[1:])
    assert table.loc["CNN-OE", "Total (Ave.)"] == pytest.approx(table.loc["CNN-OE", ["valve", "slider"]].mean())
    assert row(metrics, model="oe", machine="valve", metric="auc", domain="target")["over"] == "00"
    mean = row(metrics, model="oe", machine="", metric="auc", domain="target", mean="machines")
    assert mean["over"] == "valve slider"
    overall = row(metrics, model="oe", machine="", metric="auc", domain="target")
    assert overall["over"] == "valve/00 slider/00 slider/01"
    assert "fan, section 00, development: no anomalous clips" in caplog.text
    assert "valve, section 01, development: no normal clips of the target domain" in caplog.text
    assert "auc_target, every row: empty for fan; Total (Ave.) is over valve, slider" in caplog.text
    pd.testing.assert_frame_equal(tables.read_percentages(tmp_path / "auc_target.csv"), table.round(2))


def test_no_labels_at_all_gives_empty_tables(caplog):
    scores = {
        model: {machine: clips.assign(label="", domain="") for machine, clips in by_machine.items()}
        for model, by_machine in all_scores().items()
    }
    metrics = long_form(scores, SELECTION, Metrics(resamples=3, splits=2))
    assert tables.published(tables.cells(metrics, "auc_total")).isna().all(axis=None)
    assert "fan, development: no labelled test clips" in caplog.text


def without_domains(scores, *machines, domain=""):
    """The scores, with the test clips of some machines of one domain or of an unknown one."""
    return {
        model: {
            name: clips.assign(domain=clips["domain"].where(clips["split"] == "train", domain) if name in machines
                               else clips["domain"])
            for name, clips in by_machine.items()
        }
        for model, by_machine in scores.items()
    }  # fmt: skip


@pytest.mark.parametrize("domain", ["", "source"])
def test_labels_without_domains_give_the_figures_of_all_clips(domain):
    scores = without_domains(all_scores(), *SELECTION["machine"], domain=domain)
    metrics = long_form(scores, SELECTION, Metrics(resamples=20, splits=2))
    table = tables.published(tables.cells(metrics, "auc_total"))
    assert list(table.columns) == ["fan (all clips)", "valve (all clips)", "slider (all clips)", "Total (Ave.)"]
    clips = scores["oe"]["valve"].query("split == 'test'")
    areas = [roc_auc_score(own["label"] == "anomaly", own["score"]) for _, own in clips.groupby("section")]
    assert table.loc["CNN-OE", "valve (all clips)"] == pytest.approx(100 * hmean(areas))
    assert table.loc["CNN-OE", "Total (Ave.)"] == pytest.approx(table.loc["CNN-OE"].iloc[:3].mean())
    text = tables.with_intervals(metrics, "auc", "total")
    assert text.loc["CNN-OE", "valve (all clips)"].startswith(f"{100 * hmean(areas):.1f} (")
    assert text.loc["CNN-OE", "Total (Ave.)"].startswith(f"{table.loc['CNN-OE', 'Total (Ave.)']:.1f} (")
    said = tables.page(metrics, alarms(scores, TITLES, 0.95), 0.95)
    assert "Not computed, since labels or domains are missing: Official score of each machine" in said
    assert tables.cells(metrics, "pauc_total").notna().all(axis=None)
    assert tables.cells(metrics, "auc_target").isna().all(axis=None)


def test_unlike_figures_have_no_average():
    """A machine without domains has the figure of all its clips; it and those of both domains have no common mean."""
    metrics = long_form(without_domains(all_scores(), "valve"), SELECTION, Metrics(resamples=3, splits=2))
    table = tables.published(tables.cells(metrics, "auc_total"))
    assert list(table.columns) == ["fan", "valve (all clips)", "slider", "Total (Ave.)"]
    assert table.iloc[:, :3].notna().all(axis=None)
    assert table["Total (Ave.)"].isna().all()
    assert set(tables.with_intervals(metrics, "auc", "total")["Total (Ave.)"]) == {""}


def test_rows_that_lack_the_same_are_named_together(caplog):
    table = pd.DataFrame({"fan": [1, np.nan, np.nan], "valve": 1.0, tables.AVERAGE: 1.0}, index=["A", "B", "C"])
    tables.name_empty({"auc_total": table})
    assert caplog.messages == ["auc_total, B, C: empty for fan; Total (Ave.) is over valve"]
    caplog.clear()
    tables.name_empty({"auc_total": table, "pauc_total": table, "auc_source": table.assign(valve=np.nan)})
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "auc_total, pauc_total, B, C",
        "auc_source, A",
        "auc_source, B, C",
    ]


def test_without_labels_the_page_says_so_in_a_line():
    scores = {
        model: {machine: clips.assign(label="", domain="") for machine, clips in by_machine.items()}
        for model, by_machine in all_scores().items()
    }
    metrics = long_form(scores, SELECTION, Metrics(resamples=0, splits=0))
    said = tables.page(metrics, alarms(scores, TITLES, 0.95), 0.95)
    assert said.startswith("Not computed, since labels or domains are missing: AUC, ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("unknown", "title"), [
    (["fan", "valve", "slider"], "**AUC of all clips**, percent"),
    (["fan"], "**AUC, harmonic mean of source and target, or of all clips if the column says so**, percent"),
    ([], "**AUC, harmonic mean of source and target**, percent"),
])  # fmt: skip
def test_a_title_says_what_the_columns_are(unknown, title):
    scores = {
        model: {
            machine: clips.assign(domain="") if machine in unknown else clips for machine, clips in by_machine.items()
        }
        for model, by_machine in all_scores().items()
    }
    metrics = long_form(scores, SELECTION, Metrics(resamples=0, splits=2))
    assert title in tables.page(metrics, alarms(scores, TITLES, 0.95), 0.95)


@pytest.mark.parametrize("value", [0.7025, 0.7025 - 1e-12, 0.7025 + 1e-12, 2.81 / 4])
def test_a_figure_has_one_rounding(value, tmp_path):
    assert percent(value) == "70.3"
    assert percent(value, 2) == "70.25"
    tables.write_percentages(tmp_path / "a.csv", pd.DataFrame({"fan": [value, value / 10, np.nan]}) * 100)
    assert (tmp_path / "a.csv").read_text().split() == [",fan", "0,70.25", "1,7.03", "2,"]


def test_percent_rounds_as_people_do():
    assert [percent(one) for one in (0, 1, 0.00049, 0.0005, 0.99949, 0.9996)] == [
        "0.0", "100.0", "0.0", "0.1", "99.9", "100.0",
    ]  # fmt: skip


def test_a_selection_of_other_machines_is_refused(tmp_path):
    chosen(fan="oe").to_csv(tmp_path / "selection.csv", index=False)
    with pytest.raises(InputError, match=r"each of the machines fan, valve, slider; found fan: oe"):
        tables.read_selection(tmp_path / "selection.csv", all_scores())
    chosen(fan="oe", valve="other", slider="oe").to_csv(tmp_path / "selection.csv", index=False)
    with pytest.raises(InputError, match=r"valve: other"):
        tables.read_selection(tmp_path / "selection.csv", all_scores())
    (tmp_path / "selection.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"found the columns a, b; expected machine, model"):
        tables.read_selection(tmp_path / "selection.csv", all_scores())


def test_the_script(tmp_path):
    paths = []
    for model, by_machine in all_scores().items():
        for machine, clips in by_machine.items():
            paths.append(tmp_path / "scores" / model / f"{machine}.csv")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            clips.assign(threshold=0.5).to_csv(paths[-1], index=False)
    SELECTION.to_csv(tmp_path / "selection.csv", index=False)
    command = [sys.executable, ROOT / "workflow/scripts/tables.py", "--scores", *paths]
    command += ["--models", "global", "oe", "--titles", "CNN-Global", "CNN-OE", "--paper-models", "global", "oe"]
    command += ["--selection", tmp_path / "selection.csv", "--out-dir", tmp_path / "tables", "--resamples", "20"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in tables.TABLES:
        table = tables.read_percentages(tmp_path / "tables" / f"{name}.csv")
        assert list(table.index) == ["CNN-Global", "CNN-OE", "Our Best", "Ensemble"]
    metrics = pd.read_csv(tmp_path / "tables/metrics.csv", dtype={"section": str}, keep_default_na=False)
    assert list(metrics.columns) == list(form.COLUMNS)
    assert (tmp_path / "tables/summary.md").read_text() in done.stdout
    assert done.stdout.count("| CNN-Global ") == 3 + 3  # three figures, and the decisions on three machines
    assert done.stdout.count("| Ensemble, cross-fitted ") == 3
    pairs = pd.read_csv(tmp_path / "tables/comparison.csv", keep_default_na=False)
    assert set(pairs["machine"]) == {"", "fan", "valve", "slider"}
    assert pairs["probability"].between(0, 1).all()
