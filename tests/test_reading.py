"""What programs and notebooks read: the features row by row, and the example notebook and the page, executed."""

import re
import shutil
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from conftest import call
from finished import TITLES, make_machine

from asd.errors import InputError
from asd.features import open_features
from asd.reading import read_features, read_metrics, read_scores
from asd.settings import Metrics

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with the results of one machine, with the names of the notebook."""
    folder = tmp_path_factory.mktemp("run")
    machine = make_machine(folder / "made", test=3)
    results, models = folder / "results", ["global", "local"]
    for model, name in (("global", "spectrum"), ("local", "global")):
        for kind in ("scores", "features"):
            suffix = "csv" if kind == "scores" else "h5"
            place = results / kind / ("ranked" if (kind, name) == ("features", "spectrum") else name)
            place.mkdir(parents=True)
            shutil.copy(machine.of(kind, model, suffix), place / f"fan.{suffix}")
    (folder / "selection.csv").write_text("machine,model\nfan,global\n")
    call(
        "tables",
        scores=[machine.of("scores", model, "csv") for model in models],
        models=models,
        titles=[TITLES[model] for model in models],
        paper_models=models,
        selection=folder / "selection.csv",
        out_dir=results / "tables",
        settings=Metrics(resamples=20, splits=0),
    )
    return folder


def test_features_row_by_row(run):
    """Windows of 16 of 32 frames: with hop 8 a training clip has three, with hop 2 a test clip has nine."""
    path = run / "results/features/global/fan.h5"
    clips, values = read_features(path)
    assert len(clips) == len(values)
    for file, own in clips.groupby("file"):
        assert own["window"].tolist() == list(range(3 if "_train_" in file else 9))
        assert own["split"].nunique() == 1
    with open_features(path) as features:
        last = features.clips.iloc[-1]
        np.testing.assert_array_equal(values[clips["file"] == last["file"]], features.rows(*features.offsets[-2:]))
    whole, _ = read_features(run / "results/features/ranked/fan.h5")
    assert set(whole["window"]) == {0}
    with pytest.raises(InputError, match=r"metrics\.csv"):
        read_features(run / "results/tables/metrics.csv")


def test_the_page_runs(run, monkeypatch):
    monkeypatch.chdir(run)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["official"]["selection"].tolist() == ["", "", "in_sample"]
    assert len(names["clips"]) == len(names["features"]) == len(names["scores"])


def test_the_notebook_runs(run, monkeypatch):
    monkeypatch.chdir(run)
    matplotlib.use("agg")
    notebook = nbformat.read(ROOT / "examples/figures.ipynb", as_version=4)
    nbformat.validate(notebook)
    names: dict = {}
    drawn = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            exec(cell.source, names)
            drawn.append(names.get("figure"))
    first, second = drawn[1:]
    metrics = read_metrics(Path("results/tables/metrics.csv"))
    chosen = metrics.query(
        "metric == 'auc' and domain == 'total' and section == '' and mean == 'harmonic' and machine != ''"
    )
    value = chosen[chosen["selection"] == ""].set_index("title")["value"]
    (axes,) = first.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(value.index)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), 100 * value)
    scores = read_scores(Path("results/scores/spectrum/fan.csv")).query("split == 'test' and section == '00'")
    shown = np.concatenate([line.get_ydata() for line in second.axes[1].lines[:4]])
    np.testing.assert_allclose(sorted(shown), sorted(scores["score"]))
    assert sum(len(line.get_xdata()) for line in second.axes[0].lines) == len(scores) + 6
    for name in ("figure1.pdf", "figure2.pdf"):
        assert Path(name).read_bytes()[:5] == b"%PDF-"
