"""The figures show what the tables say, whatever a machine lacks."""

import numpy as np
import pandas as pd
import pytest
from finished import TITLES, make_machine

from asd.cache import open_cache
from asd.features import open_features
from asd.report import figures
from asd.results.metrics import FIGURES, section_figures
from asd.scores import read_scores
from asd.settings import LogMel


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return make_machine(tmp_path_factory.mktemp("machine"))


def scored(clips: list[tuple]) -> pd.DataFrame:
    """Scores of (domain, label, score), of one section."""
    table = pd.DataFrame(clips, columns=["domain", "label", "score"])
    table = table.assign(section="00", split="test", part="development", decision=0)
    return table.assign(file=[f"{row}.wav" for row in range(len(table))])


def test_the_roc_curves_enclose_the_auc_of_the_tables(machine):
    scores = read_scores(machine.of("scores", "global", "csv"))
    figure = figures.roc(scores, 0.1, "fan")
    assert len(figure.axes) == 2
    for axes, section in zip(figure.axes, ("00", "01"), strict=True):
        assert axes.get_title() == f"section {section}"
        test = scores[(scores["split"] == "test") & (scores["section"] == section)]
        expected = dict(zip(FIGURES, section_figures(test)[:, 0], strict=True))
        lines = {line.get_label().split(",")[0]: line for line in axes.lines}
        for domain in ("source", "target"):
            area = expected["auc", domain]
            assert np.trapezoid(*lines[domain].get_data()[::-1]) == pytest.approx(area)
            assert lines[domain].get_label() == f"{domain}, AUC {100 * area:.1f}"
        (shaded,) = axes.patches
        assert shaded.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(0.1)


def test_the_distributions_count_every_test_clip_and_show_the_threshold():
    table = scored(
        [("source", "normal", 1), ("source", "anomaly", 3), ("source", "anomaly", 4), ("target", "normal", 2)]
    )
    source, target = figures.distributions(table, 2.5, "fan").axes
    assert [text.get_text() for text in source.get_legend().get_texts()] == ["normal (1)", "anomaly (2)", "threshold"]
    assert [text.get_text() for text in target.get_legend().get_texts()] == ["normal (1)", "threshold"]
    assert source.lines[0].get_xdata()[0] == 2.5


@pytest.mark.parametrize(
    "clips",
    [
        [("", "", 1.0), ("", "", 2.0)],
        [("source", "normal", 1.0), ("source", "normal", 1.0)],
        [("target", "anomaly", 1.0)],
        [],
    ],
)
def test_what_is_lacking_is_left_out(clips, tmp_path):
    table = scored(clips)
    figures.save(figures.roc(table, 0.1, "fan"), tmp_path, "roc")
    figures.save(figures.distributions(table, np.inf, "fan"), tmp_path, "scores")
    assert "threshold" not in (tmp_path / "scores.svg").read_text()
    assert "undefined: needs normal" in (tmp_path / "roc.svg").read_text()


def test_where_there_is_a_curve_nothing_is_undefined(machine):
    figure = figures.roc(read_scores(machine.of("scores", "global", "csv")), 0.1, "fan")
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == []


def test_a_network_that_was_not_trained(tmp_path):
    columns = ["epoch", "rate", "loss", "section_accuracy", "attribute_accuracy"]
    figure = figures.training({"global": pd.DataFrame(columns=columns, dtype=float)})
    assert "not trained" in [text.get_text() for text in figure.axes[0].texts]


def test_average_spectra(machine):
    with open_cache(machine.cache) as cache:
        groups = figures.mean_spectra(cache)
        chosen = (cache.clips["section"] == "01") & (cache.clips["domain"] == "target")
        rows = np.flatnonzero(chosen & (cache.clips["label"] == "anomaly"))
        np.testing.assert_allclose(groups["01"]["target", "anomaly"], cache.read_logmel(rows).mean((0, 2)), rtol=1e-5)
    assert list(groups["01"]) == [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]


def test_the_typical_clip_is_in_the_middle_and_the_other_has_the_highest_score():
    clips = [
        ("source", "normal", 5.0),
        ("source", "normal", 1.0),
        ("source", "normal", 2.0),
        ("source", "anomaly", 9.0),
    ]
    assert figures.telling_clips(scored(clips), "00") == {"source, typical": 2, "source, highest score": 3}


def test_an_anomaly_is_not_typical_and_no_clip_is_shown_twice():
    clips = [("source", "normal", 5.0), ("target", "anomaly", 1.0), ("", "", 2.0), ("", "", 3.0)]
    assert figures.telling_clips(scored(clips), "00") == {
        "source, typical": 0,
        "target, highest score": 1,
        "unknown, typical": 3,
    }


def test_a_section_without_test_clips_has_an_empty_row():
    noise = np.random.default_rng(0).normal(-30, 5, (64, 20))
    for sections in ({"00": {"typical": (noise, "normal")}, "01": {}}, {"00": {}}):
        figure = figures.spectrograms(sections, ["typical"], LogMel(mels=64))
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert said == ["no test clips"]


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_epochs_are_whole_numbers(epochs):
    curve = pd.DataFrame({"epoch": range(1, epochs + 1), "loss": 1.0, "section_accuracy": 0.5})
    figure = figures.training({"global": curve})
    low, high = figure.axes[1].get_xlim()
    shown = [tick for tick in figure.axes[1].get_xticks() if low <= tick <= high]
    assert shown
    assert all(tick == round(tick) for tick in shown)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_map_is_the_same_every_time(count):
    embeddings = np.random.default_rng(0).standard_normal((count, 60)).astype(np.float32)
    first, second = figures.flattened(embeddings), figures.flattened(embeddings)
    assert first.shape == (count, 2)
    np.testing.assert_array_equal(first, second)


def test_the_map_keeps_what_belongs_together():
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 1], 30)
    points = figures.flattened(generator.standard_normal((60, 20)) + 20 * groups[:, None])
    centres = np.stack([points[groups == one].mean(0) for one in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, groups)


def test_the_ticks_of_a_mel_axis_agree_with_librosa():
    from librosa import mel_frequencies

    places, names = figures.mel_ticks(LogMel(mels=128))
    assert names == ["0.5", "1", "2", "4"]
    centres = mel_frequencies(130, fmin=0, fmax=8000)[1:-1]
    np.testing.assert_allclose(np.interp(places, np.arange(128), centres), [500, 1000, 2000, 4000], rtol=1e-3)


def test_all_figures_of_a_machine_as_svg_and_png_twice_the_same(machine, tmp_path):
    scores = {path.parent.name: read_scores(path) for path in machine.scores}
    curves = {path.parent.name: pd.read_csv(path) for path in machine.curves}
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "global", "h5")) as features:
        for name, figure in figures.machine_figures(cache, features, curves, scores, TITLES, 0.1):
            figures.save(figure, tmp_path, name)
    figures.save(figures.training(curves), tmp_path / "again", "training")
    kinds = {f"{kind}-{model}" for kind in ("roc", "scores") for model in TITLES}
    kinds |= {"map", "training", "spectra", "spectrograms"}
    assert {path.stem for path in tmp_path.glob("*.svg")} == {path.stem for path in tmp_path.glob("*.png")} == kinds
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    svg = (tmp_path / "map.svg").read_text()
    test = np.flatnonzero(scores["global"]["split"] == "test")
    assert all(f'"#fan-{row}"' in svg for row in test)
    assert svg.count("#fan-") == len(test)
