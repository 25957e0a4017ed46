"""The figures show what the tables say, whatever a machine lacks."""

import re

import numpy as np
import pandas as pd
import pytest
from finished import make_machine

from asd.cache import open_cache
from asd.features import open_features
from asd.report import figures, machine_figures, sound_figures, style
from asd.results.metrics import FIGURES, percent, section_figures
from asd.scores import read_scores
from asd.settings import LogMel


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return make_machine(tmp_path_factory.mktemp("machine"))


def scored(clips: list[tuple]) -> pd.DataFrame:
    """Scores of test clips (domain, label, score), of one section."""
    table = pd.DataFrame(clips, columns=["domain", "label", "score"])
    table = table.assign(section="00", split="test", part="development", threshold=2.5)
    decision = (table["score"] > 2.5).astype(int)
    return table.assign(decision=decision, file=[f"{row}.wav" for row in range(len(table))])


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_roc_curves_enclose_the_auc_of_the_tables(machine):
    scores = read_scores(machine.of("scores", "global", "csv"))
    figure = figures.roc(scores, 0.1)
    assert len(figure.axes) == 2
    for axes, section in zip(figure.axes, ("00", "01"), strict=True):
        assert axes.get_title("left") == f"section {section}"
        test = scores[(scores["split"] == "test") & (scores["section"] == section)]
        expected = dict(zip(FIGURES, section_figures(test)[:, 0], strict=True))
        lines = {line.get_label(): line for line in axes.lines}
        (said,) = [text.get_text() for text in axes.texts]
        rings = [line.get_data() for line in axes.lines if line.get_marker() == "o"]
        for domain, ring in zip(("source", "target"), rings, strict=True):
            area = expected["auc", domain]
            assert np.trapezoid(*lines[domain].get_data()[::-1]) == pytest.approx(area)
            assert f"{domain} {percent(area)}" in said
            normal = test[(test["domain"] == domain) & (test["label"] == "normal")]["decision"]
            found = test[test["label"] == "anomaly"]["decision"]
            assert (*ring[0], *ring[1]) == pytest.approx((normal.mean(), found.mean()))
        (shaded,) = axes.patches
        assert shaded.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(0.1)


def test_a_legend_stands_once_per_figure(machine):
    scores = read_scores(machine.of("scores", "global", "csv"))
    for figure in (figures.roc(scores, 0.1), figures.distributions(scores)):
        assert [axes.get_legend() for axes in figure.axes] == [None, None]
        (legend,) = figure.legends
        names = [text.get_text() for text in legend.get_texts()]
        assert len(names) == len(set(names))


def test_the_distributions_show_every_clip_and_the_threshold():
    table = scored(
        [("source", "normal", 1), ("source", "anomaly", 3), ("source", "anomaly", 4), ("target", "normal", 2)]
    )
    training = table.iloc[:1].assign(split="train", score=0.5, file="t.wav")
    (axes,) = figures.distributions(pd.concat([table, training], ignore_index=True)).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["training", "target", "source"]
    points = {(name.get_label(), round(y)): x for name in axes.collections for x, y in name.get_offsets()}
    assert points[("training", 0)] == 0.5
    assert points[("normal", 1)] == 2
    assert points[("normal", 2)] == 1
    assert {x for name in axes.collections for x, _ in name.get_offsets()} == {0.5, 1, 2, 3, 4}
    assert [line.get_xdata()[0] for line in axes.lines] == [2.5]


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
    table = scored(clips).assign(threshold=np.inf, decision=-1)
    assert figures.roc(table, 0.1) is None
    style.save(figures.distributions(table), tmp_path, "scores")
    assert "threshold" not in (tmp_path / "scores.svg").read_text()


def test_without_decisions_there_is_no_ring():
    table = scored([("source", "normal", 1.0), ("source", "anomaly", 2.0)]).assign(decision=-1)
    (axes,) = figures.roc(table, 0.1).axes
    assert not [line for line in axes.lines if line.get_marker() == "o"]


@pytest.mark.parametrize(
    ("label", "decision", "word"),
    [
        ("anomaly", 1, "found"),
        ("anomaly", 0, "missed"),
        ("normal", 1, "false alarm"),
        ("normal", 0, "passed"),
        ("", 1, "anomalous"),
        ("", 0, "normal"),
        ("anomaly", -1, "not decided"),
    ],
)
def test_verdicts(label, decision, word):
    assert figures.verdict(label, decision) == word
    assert word in figures.VERDICTS


def test_each_model_has_a_point_with_its_interval():
    table = pd.DataFrame(
        {"title": ["A", "B", "C"], "value": [0.6, 0.8, np.nan], "low": [0.5, np.nan, np.nan], "high": [0.7] * 3}
    )
    nothing = table.assign(value=np.nan)
    (axes,) = figures.systems({"AUC": table, "pAUC": nothing}, {"A"}).axes
    lines = [(list(line.get_xdata()), line.get_color()) for line in axes.lines[:-1]]
    assert lines == [
        ([50, 70], style.GREY), ([60], style.GREY), ([80, 80], style.BLUE), ([80], style.BLUE)
    ]  # fmt: skip
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["A", "B", "C"]
    assert figures.systems({"AUC": nothing}, set()) is None


def test_a_figure_is_as_wide_as_a_phone_and_has_texts_that_can_be_read(machine, tmp_path):
    """Of 390 points a phone's page has 352 for a figure; a point of matplotlib is 4/3 of one."""
    scores = read_scores(machine.of("scores", "global", "csv"))
    style.save(figures.distributions(scores), tmp_path, "scores")
    svg = (tmp_path / "scores.svg").read_text()
    width = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1])
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]
    assert len(sizes) > 10
    assert 4 / 3 * width <= 352
    assert min(sizes) * 4 / 3 >= 11


def test_text_and_axes_are_light_on_a_dark_screen(machine, tmp_path):
    style.save(figures.distributions(read_scores(machine.of("scores", "global", "csv"))), tmp_path, "scores")
    svg = (tmp_path / "scores.svg").read_text()
    (rules,) = re.findall(r"<style>@media \(prefers-color-scheme: dark\)(.*?)</style>", svg)
    for text in re.findall(r"<text ([^>]*)>", svg):
        assert f"fill: {style.INK}" in text
    assert f"[style*='fill: {style.INK}']{{fill:{style.DARK[style.INK]} !important}}" in rules
    assert "#ffffff" not in svg


def test_a_network_that_was_not_trained(tmp_path):
    columns = ["epoch", "rate", "loss", "section_accuracy", "attribute_accuracy"]
    figure = figures.training({"global": pd.DataFrame(columns=columns, dtype=float)})
    assert texts(figure) == ["not trained"]


def test_average_spectra(machine):
    with open_cache(machine.cache) as cache:
        groups = machine_figures.mean_spectra(cache)
        chosen = (cache.clips["section"] == "01") & (cache.clips["domain"] == "target")
        rows = np.flatnonzero(chosen & (cache.clips["label"] == "anomaly"))
        np.testing.assert_allclose(groups["01"]["target", "anomaly"], cache.read_logmel(rows).mean((0, 2)), rtol=1e-5)
    assert list(groups["01"]) == [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]


def test_the_typical_clip_is_in_the_middle_and_of_the_same_domain():
    clips = [
        ("source", "normal", 5.0),
        ("source", "normal", 1.0),
        ("source", "normal", 2.0),
        ("source", "anomaly", 9.0),
        ("target", "normal", 1.5),
    ]
    assert machine_figures.telling_clips(scored(clips), "00") == (2, 3)


def test_where_no_clip_is_normal_another_one_is_typical():
    assert machine_figures.telling_clips(scored([("", "", 2.0), ("", "", 3.0), ("", "", 1.0)]), "00") == (0, 1)
    anomalies = scored([("target", "anomaly", 1.0), ("source", "anomaly", 2.0)])
    assert machine_figures.telling_clips(anomalies, "00") == (0, 1)
    table = scored([("", "", 2.0), ("", "normal", 3.0), ("", "", 1.0)])
    table.loc[1, "split"] = "train"  # known to be normal
    assert machine_figures.telling_clips(table, "00") == (1, 0)
    assert machine_figures.telling_clips(table.iloc[:1], "00") is machine_figures.telling_clips(table, "01") is None


def test_the_difference_is_that_of_the_two_clips():
    typical = np.repeat(np.linspace(-40, -20, 64)[:, None], 20, axis=1)
    louder = typical.copy()
    louder[10:20, 5:8] += 12
    figure = sound_figures.examples({"00": (typical, louder, "anomaly")}, LogMel(mels=64))
    first, second, third = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_allclose(first, typical)
    np.testing.assert_allclose(second, louder)
    np.testing.assert_allclose(third, louder - typical)
    assert figure.axes[2].images[0].get_clim() == (-12, 12)
    assert [axes.get_title("left") for axes in figure.axes] == ["section 00\ntypical", "anomaly", "difference,\n±12 dB"]


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


def test_single_values_are_mapped_on_a_line():
    values = np.random.default_rng(0).standard_normal((20, 1))
    points = figures.flattened(values)
    assert points.shape == (20, 2)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs(values - values.mean())[:, 0])
    assert (points[:, 1] == 0).all()


def test_the_map_keeps_what_belongs_together():
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 1], 30)
    points = figures.flattened(generator.standard_normal((60, 20)) + 20 * groups[:, None])
    centres = np.stack([points[groups == one].mean(0) for one in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, groups)


def test_the_ticks_of_a_mel_axis_agree_with_librosa():
    from librosa import mel_frequencies

    places, names = sound_figures.mel_ticks(LogMel(mels=128))
    assert names == ["0.5", "1", "2", "4"]
    centres = mel_frequencies(130, fmin=0, fmax=8000)[1:-1]
    np.testing.assert_allclose(np.interp(places, np.arange(128), centres), [500, 1000, 2000, 4000], rtol=1e-3)


def test_the_map_is_coloured_by_the_verdict():
    clips = pd.DataFrame(
        [("train", "normal", 0), ("test", "anomaly", 1), ("test", "anomaly", 0), ("test", "normal", 1)],
        columns=["split", "label", "decision"],
    )
    clips = clips.assign(section="00")
    points = np.arange(8.0).reshape(4, 2)
    (axes,) = figures.embedding_map(points, clips, [f"#fan-{row}" for row in range(4)]).axes
    drawn = {one.get_label(): one for one in axes.collections}
    assert {name: one.get_offsets()[0].tolist() for name, one in drawn.items()} == {
        "training": [0, 1],
        "found": [2, 3],
        "missed": [4, 5],
        "false alarm": [6, 7],
    }
    assert drawn["missed"].get_urls() == ["#fan-2"]
    assert len({tuple(one.get_facecolor()[0]) for one in drawn.values()}) == 4


def test_all_figures_of_a_machine_as_svg_and_png_twice_the_same(machine, tmp_path):
    scores = {path.parent.name: read_scores(path) for path in machine.scores}
    curves = {path.parent.name: pd.read_csv(path) for path in machine.curves}
    with open_cache(machine.cache) as cache, open_features(machine.of("features", "global", "h5")) as features:
        for name, figure in machine_figures.machine_figures(cache, features, curves, scores, scores["ensemble"], 0.1):
            style.save(figure, tmp_path, name)
    style.save(figures.training(curves), tmp_path / "again", "training")
    kinds = {f"{kind}-{model}" for kind in ("roc", "scores") for model in ("global", "local")}
    kinds |= {"map", "training", "spectra", "examples"}
    assert {path.stem for path in tmp_path.glob("*.svg")} == {path.stem for path in tmp_path.glob("*.png")} == kinds
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    svg = (tmp_path / "map.svg").read_text()
    test = np.flatnonzero(scores["global"]["split"] == "test")
    assert all(f'"#fan-{row}"' in svg for row in test)
    assert svg.count("#fan-") == len(test)
    heights = {re.search(r' height="([\d.]+)pt"', (tmp_path / f"{name}.svg").read_text())[1]
               for name in ("map", "spectra", "examples", "scores-global")}  # fmt: skip
    assert len(heights) == 1
