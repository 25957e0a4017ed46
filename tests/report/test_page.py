"""What the page says: tables, choices, provenance."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts

from asd.errors import InputError
from asd.report import page
from asd.settings import load


def figure(machine: str, value: float, title: str = "CNN-Global", selection: str = "", **others: object) -> dict:
    """A row of the long form."""
    row = {"model": title.lower(), "title": title, "machine": machine, "part": "development", "section": ""}
    row |= {"domain": "total", "metric": "auc", "mean": "harmonic", "selection": selection}
    return row | {"value": value, "low": value - 0.1, "high": value + 0.1} | others


def test_tables_show_percent_with_intervals_and_the_best_model():
    metrics = pd.DataFrame(
        [
            figure("fan", 0.7),
            figure("valve", np.nan, low=np.nan, high=np.nan),
            figure("", 0.7, mean="machines"),
            figure("", 0.1, mean="arithmetic"),
            figure("fan", 0.6, "CNN-OE"),
            figure("fan", 0.9, "Ensemble", "in_sample"),
            figure("fan", 0.8, "Ensemble", "cross_fitted", low=np.nan, high=np.nan),
            figure("fan", 0.2, part="evaluation"),
            figure("fan", 0.3, metric="pauc_own"),
            figure("fan", 0.4, metric="pauc_both"),
            figure("fan", np.nan, domain="target"),
        ]
    )
    auc, pauc = page.result_tables(metrics, "own")  # and none of what has no value
    assert [(table["title"], table["domain"]) for table in (auc, pauc)] == [
        ("AUC, source and target (harmonic mean)", "total"),
        ("pAUC, source and target (harmonic mean)", "total"),
    ]
    assert auc["columns"] == ["fan", "valve", "average"]
    assert [row["title"] for row in auc["rows"]] == [
        "CNN-Global",
        "CNN-OE",
        "Ensemble, chosen by these labels",
        "Ensemble, cross-fitted",
    ]
    fan, valve, average = auc["rows"][0]["cells"]
    assert fan == {"value": "70.0", "interval": "60–80", "best": True}
    assert average["value"] == "70.0"
    assert valve == {"value": "–", "interval": "", "best": False}
    assert [row["cells"][0]["best"] for row in auc["rows"]] == [True, False, False, False]
    assert pauc["columns"] == ["fan"]
    assert pauc["rows"][0]["cells"][0]["value"] == "30.0"


def test_models_that_are_equally_good_are_both_the_best():
    rows = [figure("fan", 0.7), figure("fan", 0.7, "CNN-OE"), figure("fan", 0.6, "CNN-Local")]
    (table,) = page.result_tables(pd.DataFrame([*rows, figure("", 0.7, mean="machines")]), "both")
    assert [row["cells"][0]["best"] for row in table["rows"]] == [True, True, False]


def test_without_labels_there_are_no_tables():
    rows = [figure("fan", np.nan), figure("", np.nan, mean="machines")]
    assert page.result_tables(pd.DataFrame(rows), "both") == []


def test_a_table_of_all_clips_says_so_in_its_title():
    every = [figure(machine, 0.7, domain="all") for machine in ("fan", "valve")]
    rows = [figure("fan", np.nan), figure("valve", np.nan), figure("", np.nan, mean="machines"), *every]
    (table,) = page.result_tables(pd.DataFrame(rows), "both")
    assert (table["title"], table["columns"][:2]) == ("AUC, all clips", ["fan", "valve"])
    (table,) = page.result_tables(pd.DataFrame([figure("fan", 0.7), *rows[1:]]), "both")
    assert table["title"] == "AUC, source and target (harmonic mean)"
    assert table["columns"] == ["fan", "valve (all clips)", "average"]


def test_a_remark_on_a_section_stands_once():
    table = pd.DataFrame(
        [("fan", "00", "louder"), ("fan", "00", "louder"), ("fan", "01", ""), ("valve", "00", "louder")],
        columns=["machine", "section", "remark"],
    )
    assert page.remarks(table) == ["fan, section 00: louder", "valve, section 00: louder"]


def test_the_systems_of_each_machine_and_their_average():
    rows = [figure("fan", 0.7), figure("valve", 0.5), figure("", 0.6, mean="machines")]
    rows.append(figure("fan", 0.2, "Ensemble", "cross_fitted"))
    found = page.systems(pd.DataFrame(rows), "both")
    assert list(found) == ["fan", "valve", "average"]
    assert found["fan"]["AUC"]["value"].tolist() == [0.7]
    one = page.systems(pd.DataFrame([figure("fan", 0.7), figure("", 0.7, mean="machines")]), "both")
    assert list(one) == ["fan"]


def test_models_for_which_no_network_is_trained():
    configuration = {
        "machines": ["fan"],
        "networks": {"global": {"epochs": 3}, "raw": {"epochs": 0}},
        "spectra": {"mean": {"pool": ["mean"]}},
        "models": {
            "global": {"title": "CNN-Global", "network": "global", "detector": "gaussian"},
            "raw": {"title": "Untrained", "network": "raw", "detector": "gaussian"},
            "spectrum": {"title": "Spectrum", "spectrum": "mean", "detector": "gaussian"},
            "one": {"title": "One", "members": ["spectrum", "global"]},
            "two": {"title": "Two", "members": ["spectrum", "raw"]},
        },
        "run_models": ["global", "raw", "spectrum", "one", "two"],
    }
    assert page.untrained(load(configuration)) == {"Untrained", "Spectrum", "Two"}


def scored(*test: tuple[str, int]) -> dict[str, pd.DataFrame]:
    """Scores of the machine fan: five training recordings, and test recordings (label, decision)."""
    rows = [("train", "normal", 0)] * 5 + [("test", *one) for one in test]
    return {"fan": pd.DataFrame(rows, columns=["split", "label", "decision"])}


def rate(metric: str, some: int, every: int, **others: object) -> dict:
    """A row of `asd.results.alarms`."""
    found = {"metric": metric, "domain": "all", "mean": "pooled", "over": f"{some} of {every} clips", "model": "oe"}
    return figure("fan", some / every, "CNN-OE", **(found | {"low": 0.125, "high": 0.875} | others))


def test_the_verdict_says_what_was_found():
    selection = pd.DataFrame([{"machine": "fan", "model": "oe", "criterion": "auc_total"}])
    rows = [
        figure("fan", 0.7, "Ensemble", "in_sample", model="ensemble"),
        figure("fan", 0.65, "Ensemble", "cross_fitted", model="ensemble", low=np.nan, high=np.nan),
        figure("fan", 0.1, "CNN-OE", model="oe"),
        rate("found", 2, 3),
        rate("false_alarms", 1, 2),
        rate("found", 3, 3, model="global"),
        rate("found", 1, 3, section="00", mean=""),
    ]
    scores = scored(("anomaly", 1), ("anomaly", 0), ("anomaly", 1), ("normal", 1), ("normal", 0), ("", 1), ("", -1))
    (row,) = page.verdicts(scores, selection, pd.DataFrame(rows), {"oe": "CNN-OE"})
    assert (row["title"], row["model"]) == ("CNN-OE", "oe")
    assert (row["flagged"], row["test"], row["undecided"], row["labelled"], row["training"]) == (4, 7, 1, 5, 5)
    assert row["found"] == {"value": "2 of 3", "interval": "13–88 %"}
    assert row["alarms"] == {"value": "1 of 2", "interval": "13–88 %"}
    assert row["auc"] == {"value": "70.0", "interval": "60–80"}
    assert row["unseen"] == {"value": "65.0", "interval": ""}
    assert not row["all_clips"]


def test_the_verdict_as_text_is_a_table():
    cells = {"found": {"value": "2 of 2"}, "alarms": page.NOTHING, "auc": page.NOTHING}
    row = {"flagged": 3, "test": 4, "machine": "fan_1", "title": 'The "best" *|`'}
    html = publish_parts(page.verdict_text([row | cells]), writer="html")["html_body"]
    assert "3 of 4 recordings sound anomalous" in html
    assert re.findall(r"<t[dh][^>]*>(?:<p>)?(.*?)(?:</p>)?</t", html)[-6:] == [
        "fan_1", "3 of 4", "2 of 2", "–", "–", "The &quot;best&quot; *|`",
    ]  # fmt: skip
    assert "system-message" not in html


def test_the_verdict_without_domains_is_that_of_all_clips():
    selection = pd.DataFrame([{"machine": "fan", "model": "oe", "criterion": "auc_all"}])
    ensemble = {"title": "Ensemble", "selection": "in_sample", "model": "ensemble"}
    rows = [figure("fan", np.nan, **ensemble), figure("fan", 0.75, domain="all", **ensemble)]
    (row,) = page.verdicts(scored(("anomaly", 1)), selection, pd.DataFrame(rows), {"oe": "CNN-OE"})
    assert row["auc"]["value"] == "75.0"
    assert row["all_clips"]


def test_beside_the_paper():
    cells = pd.DataFrame(
        [("pauc_source", "CNN-OE", "fan", 60.0, 65.5), ("pauc_source", "CNN-OE", "Total (Ave.)", 61.0, 65.0)],
        columns=["table", "model", "machine", "paper", "ours"],
    )
    assert page.beside_paper(cells) == [
        {
            "title": "pAUC, source",
            "columns": ["fan", "Total (Ave.)"],
            "rows": [("CNN-OE", [("65.5", "60.0"), ("65.0", "61.0")])],
        }
    ]
    assert page.beside_paper(cells.iloc[:0]) == []


def benchmark(path: Path, second: int, **values: object) -> None:
    """A file as Snakemake writes it, at a time of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\t".join(values) + "\n" + "\t".join(map(str, values.values())) + "\n")
    os.utime(path, (second, second))


def test_stages_sum_their_jobs_in_the_order_of_the_run(tmp_path):
    results, data, weights = (
        tmp_path / name for name in ("results/benchmarks", "data/demo", "data/weights/benchmarks")
    )
    benchmark(results / "train/global/fan.tsv", 3, s=10.5, max_rss=100, cpu_time=20)
    benchmark(results / "train/oe/fan.tsv", 4, s=2, max_rss=300.5, cpu_time=3)
    benchmark(results / "tables.tsv", 5, s=1, max_rss="-", cpu_time="-")
    benchmark(data / "logmel/1f3e/fan.tsv", 2, s=4, max_rss=50, cpu_time=5)
    benchmark(weights / "lite1-package.tsv", 1, s=1, max_rss=1, cpu_time=1)
    first, logmel, train, tables = page.stages([results, data, weights, tmp_path / "missing"])
    assert (first["stage"], logmel["stage"], tables["stage"]) == ("weights", "logmel", "tables")
    assert train == {"stage": "train", "jobs": 2, "seconds": 12.5, "longest": 10.5, "cpu": 23, "memory": 300.5}
    assert tables["seconds"] == 1
    assert tables["memory"] is tables["cpu"] is None


def test_links_of_the_map_are_marks_and_no_stops_for_the_keyboard():
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg><metadata>when</metadata><a xlink:href="#fan-3"><use/></a></svg>'
    assert page.inlined(svg) == '<svg><a data-clip="fan-3"><use/></a></svg>'


def test_a_figure_has_a_caption_and_an_alternative_text():
    said = page.figure_of(Path("fan/roc-oe.svg"), "fan", "roc-oe", {"oe": "CNN-OE"})
    assert (said["machine"], said["kind"], said["model"], said["title"]) == ("fan", "roc", "oe", "ROC, CNN-OE")
    assert said["alt"].startswith("ROC, CNN-OE of fan. ")
    with pytest.raises(InputError, match=r"fan/pie\.svg: found no such kind of figure"):
        page.figure_of(Path("fan/pie.svg"), "fan", "pie", {})


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_damaged_list_of_clips_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "clips.json").write_text(text)
    with pytest.raises(InputError, match=r"clips\.json: not a readable list of clips .* delete .* and run again"):
        page.read_clips(tmp_path)


def test_every_seed_that_counts_is_named():
    networks = {"global": {"seed": 7}, "oe": {"warm_start": "first"}, "first": {}, "unused": {}}
    models = {"global": {"title": "global", "network": "global", "detector": "gaussian"},
              "oe": {"title": "oe", "network": "oe", "detector": "exposure"},
              "none": {"title": "none", "network": "unused", "detector": "gaussian"},
              "both": {"title": "both", "members": ["global", "oe"], "fuse": "mean"}}  # fmt: skip
    configuration = {
        "machines": ["fan"],
        "networks": networks,
        "models": models,
        "run_models": ["both", "global", "oe"],
    }
    settings = load(configuration | {"train": {"seed": 3}})
    assert page.seeds(settings) == {
        "metrics.seed": 0,
        "dataset.demo.seed": 2022,
        "networks.global.seed": 7,
        "networks.oe.seed": 3,
        "networks.first.seed": 3,
    }


def test_versions_are_those_that_run():
    import torch

    found = page.versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert re.match(r"3\.\d+\.\d+", found["Python"])
