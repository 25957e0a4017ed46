"""What the page says: tables, choices, provenance."""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asd.errors import InputError
from asd.report import page
from asd.settings import load


def figure(machine: str, value: float, title: str = "CNN-Global", selection: str = "", **others: object) -> dict:
    """A row of the long form."""
    row = {"title": title, "machine": machine, "part": "development", "domain": "total", "metric": "auc"}
    row |= {"value": value, "low": value - 0.1, "high": value + 0.1, "mean": "harmonic", "selection": selection}
    return row | others


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
        ]
    )
    tables = page.result_tables(metrics, "own")
    assert [(table["title"], table["domain"]) for table in tables] == [
        (title, domain) for title in ("AUC", "pAUC") for domain in ("total", "source", "target")
    ]
    auc, pauc = tables[0], tables[3]
    assert auc["columns"] == ["fan", "valve", "average"]
    assert [row["title"] for row in auc["rows"]] == [
        "CNN-Global",
        "CNN-OE",
        "Ensemble, chosen by these labels",
        "Ensemble, cross-fitted",
    ]
    fan, valve, average = auc["rows"][0]["cells"]
    assert fan["value"] == average["value"] == pytest.approx(70)
    assert (fan["low"], fan["high"]) == (pytest.approx(60), pytest.approx(80))
    assert valve["value"] is None
    assert [row["cells"][0]["best"] for row in auc["rows"]] == [True, False, False, False]
    assert pauc["rows"][0]["cells"][0]["value"] == pytest.approx(30)


def test_models_that_are_equally_good_are_both_the_best():
    rows = [figure("fan", 0.7), figure("fan", 0.7, "CNN-OE"), figure("fan", 0.6, "CNN-Local")]
    table = page.result_tables(pd.DataFrame([*rows, figure("", 0.7, mean="machines")]), "both")[0]
    assert [row["cells"][0]["best"] for row in table["rows"]] == [True, True, False]


def test_the_choice_says_why_and_what_it_is_worth_on_other_clips():
    rows = [figure("fan", 0.7), figure("fan", 0.65, "Ensemble", "cross_fitted")]
    selection = pd.DataFrame(
        [
            {
                "machine": "fan",
                "model": "oe",
                "reason": "labels",
                "criterion": "auc_total",
                "global": "0.5",
                "oe": "0.7",
            },
            {"machine": "valve", "model": "global", "reason": "fallback", "criterion": "", "global": "", "oe": ""},
        ]
    )
    tables = page.result_tables(pd.DataFrame(rows), "both")
    fan, valve = page.choices(selection, {"global": "CNN-Global", "oe": "CNN-OE"}, tables)
    assert fan["title"] == "CNN-OE"
    assert fan["values"] == {"CNN-Global": pytest.approx(50), "CNN-OE": pytest.approx(70)}
    assert fan["cross_fitted"] == pytest.approx(65)
    assert "harmonic mean" in fan["reason"]
    assert valve["values"] == {"CNN-Global": None, "CNN-OE": None}
    assert valve["cross_fitted"] is None
    assert "fallback" in valve["reason"]


def test_beside_the_paper():
    cells = pd.DataFrame(
        [("pauc_source", "CNN-OE", "fan", 60.0, 65.5), ("pauc_source", "CNN-OE", "Total (Ave.)", 61.0, 65.0)],
        columns=["table", "model", "machine", "paper", "ours"],
    )
    assert page.beside_paper(cells) == [
        {
            "title": "pAUC, source",
            "columns": ["fan", "Total (Ave.)"],
            "rows": [("CNN-OE", [(65.5, 60.0), (65.0, 61.0)])],
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
    said = page.figure_of(Path("results/figures/fan/roc-oe.svg"), {"oe": "CNN-OE"})
    assert (said["machine"], said["kind"], said["model"]) == ("fan", "roc", "oe")
    assert said["alt"].startswith("ROC curves of fan, CNN-OE. ")
    with pytest.raises(InputError, match=r"fan/pie\.svg: found no such kind of figure"):
        page.figure_of(Path("fan/pie.svg"), {})


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_damaged_list_of_clips_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "clips.json").write_text(text)
    with pytest.raises(InputError, match=r"clips\.json: not a readable list of clips .* delete .* and run again"):
        page.read_clips(tmp_path)


def test_every_seed_is_named():
    networks = {"global": {"seed": 7}, "oe": {}}
    models = {"global": {"title": "", "network": "global", "detector": "gaussian"}}
    configuration = {"machines": ["fan"], "networks": networks, "models": models, "run_models": ["global"]}
    settings = load(configuration | {"train": {"seed": 3}})
    assert page.seeds(settings) == {
        "metrics.seed": 0,
        "dataset.demo.seed": 2022,
        "networks.global.seed": 7,
        "networks.oe.seed": 3,
    }


def test_versions_are_those_that_run():
    import torch

    found = page.versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert re.match(r"3\.\d+\.\d+", found["Python"])


def a_page(folder: Path) -> Path:
    """A page that shows a figure and one clip of a machine, with what it shows beside it."""
    for name in ("figures/fan/map.svg", "clips/fan/3.flac", "clips/fan/3.webp", "clips/fan/frame.svg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "clips/fan/clips.json").write_text("{}")
    said = json.dumps({"machines": [{"folder": "clips/fan", "text": 'src="figures/none.svg"'}]})
    figure = '<a href="figures/fan/map.svg" aria-label="Large"><img src="figures/fan/map.svg" alt=""></a>'
    (folder / "index.html").write_text(f"<body>{figure}{page.DATA}{said}</script><script>1</script></body>")
    return folder / "index.html"


def test_the_single_file_holds_every_file_that_the_page_shows(tmp_path):
    made = a_page(tmp_path)
    page.write_single(tmp_path / "out/single.html", made)
    text = (tmp_path / "out/single.html").read_text()
    assert '<a href="#" data-large aria-label="Large"><img src="data:image/svg+xml;base64,' in text
    assert base64.b64encode(b"figures/fan/map.svg").decode() in text
    held = dict(re.findall(r'<script type="[a-z/+]*" id="(clips[^"]*)">(.*?)</script>', text))
    assert {name: base64.b64decode(content).decode() for name, content in held.items()} == {
        name: name for name in ("clips/fan/3.flac", "clips/fan/3.webp", "clips/fan/frame.svg")
    }
    assert text.endswith(made.read_text().partition(page.DATA)[2])


@pytest.mark.parametrize("gone", ["figures/fan/map.svg", "index.html"])
def test_what_the_single_file_lacks_is_named(tmp_path, gone):
    made = a_page(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=rf"{gone}: No such file .*; make the page again"):
        page.write_single(tmp_path / "single.html", made)
    assert not (tmp_path / "single.html").exists()
