"""The leaderboard: ranks and differences by hand values, costs, who is compared with whom, and the script."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import call, merged
from ranked import HOSTILE, make_leaderboard, write_submission
from scipy.stats import ttest_ind
from scored import scored
from sklearn.metrics import roc_auc_score

from asd.errors import InputError
from asd.expansion import expand
from asd.report import figures
from asd.results import leaderboard, leaderboard_texts
from asd.results.leaderboard import Entry
from asd.results.long_form import part_figures
from asd.results.metrics import compare
from asd.settings import Metrics, load

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "resources/published/figures.csv"
FOLDER = os.environ.get("ASD_EVALUATION_DATA", "")
SETTINGS = Metrics(resamples=50)


def systems(**shift: float) -> dict:
    """System -> machine -> scores of two sections; the anomalies of a system lie so much higher than normal clips."""
    made = {}
    for number, (name, distance) in enumerate(shift.items()):
        made[name] = {}
        for machine in ("fan", "valve"):
            clips = scored(number, sections=("00", "01"), kind=12)
            made[name][machine] = clips.assign(score=clips["score"] + distance * (clips["label"] == "anomaly"))
    return made


def by_title(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("system")


# --- ranks --------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1; no value below one before it, none above 1."""
    np.testing.assert_allclose(leaderboard.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(leaderboard.holm(np.array([0.9, 0.6])), [1, 1])
    assert leaderboard.holm(np.array([])).size == 0


def test_a_difference_of_runs_alone_is_welchs_test():
    """If the clips make (almost) no difference, what is left is Welch's t test of the runs."""
    first, second = [0.5, 0.6, 0.8], [0.4, 0.45]
    still = 1e-9 * np.random.default_rng(0).normal(size=50)
    runs = [np.array(one)[:, None] + np.append(0, still) * sign for one, sign in ((first, 1), (second, -1))]
    value, low, high, p = leaderboard.difference(*runs, level=0.95)
    expected = ttest_ind(first, second, equal_var=False)
    assert value == pytest.approx(np.mean(first) - np.mean(second))
    assert p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6)


def test_a_difference_of_single_runs_is_that_of_the_paired_bootstrap():
    rng = np.random.default_rng(0)
    first, second = 0.8 + rng.normal(0, 0.02, 201), 0.75 + rng.normal(0, 0.02, 201)
    expected = compare(first, second, 0.95)
    value, low, high, p = leaderboard.difference(first[None], second[None], 0.95)
    assert (value, low, high) == pytest.approx([float(one) for one in expected[:3]])
    assert p == pytest.approx(2 * (1 - expected[3]))


def test_nothing_is_said_of_a_difference_that_no_resample_changes():
    same = np.full((1, 21), 0.7)
    assert np.isnan(leaderboard.difference(same, same - 0.1, 0.95)[1:]).all()
    assert np.isnan(leaderboard.difference(same[:, :1], same[:, :1] - 0.1, 0.95)[1:]).all()


def test_ranks_by_hand():
    """A is better than C and D, B than D: A may be first or second, B first to third, C second to fourth."""
    pairs = [
        ("A", "B", 0.1, 0),
        ("C", "A", -0.2, 1),
        ("A", "D", 0.3, 1),
        ("B", "C", 0.1, 0),
        ("D", "B", -0.2, 1),
        ("C", "D", 0.1, 0),
    ]
    table = pd.DataFrame(pairs, columns=["first", "second", "difference", "real"]).assign(p=0.01)
    ranks = leaderboard.ranks(pd.Series({"B": 0.7, "A": 0.8, "D": 0.5, "C": 0.6}), table.astype({"real": bool}))
    assert ranks.loc[list("ABCD"), "rank"].tolist() == [1, 2, 3, 4]
    assert ranks.loc[list("ABCD"), "rank_low"].tolist() == [1, 1, 2, 3]
    assert ranks.loc[list("ABCD"), "rank_high"].tolist() == [2, 3, 4, 4]
    assert ranks.loc[list("ABCD"), "better_than"].tolist() == ["3-4", "4", "", ""]


def test_the_figures_are_the_official_ones():
    scores = systems(good=3, poor=0)
    table, pairs = leaderboard.board(
        [Entry("Poor", ("poor",)), Entry("Good", ("good",))], part_figures(scores, "development", SETTINGS), SETTINGS
    )
    assert table["system"].tolist() == ["Good", "Poor"]
    found = by_title(table)
    for title, name in (("Good", "good"), ("Poor", "poor")):
        values = {"auc_source": [], "auc_target": [], "pauc": []}
        for clips in scores[name].values():
            test = clips[clips["split"] == "test"]
            for _, own in test.groupby("section"):
                label = own["label"] == "anomaly"
                for domain in ("source", "target"):
                    here = label | (own["domain"] == domain)
                    values[f"auc_{domain}"].append(roc_auc_score(label[here], own["score"][here]))
                values["pauc"].append(roc_auc_score(label, own["score"], max_fpr=0.1))
        for column, numbers in values.items():
            assert found.loc[title, column] == pytest.approx(len(numbers) / np.sum(1 / np.array(numbers)))
        every = np.concatenate(list(values.values()))
        assert found.loc[title, "omega"] == pytest.approx(len(every) / np.sum(1 / every))
        assert found.loc[title, "omega_low"] < found.loc[title, "omega"] < found.loc[title, "omega_high"]
    assert found.loc["Good", ["rank", "rank_low", "rank_high", "better_than"]].tolist() == [1, 1, 1, "2"]
    (pair,) = pairs.itertuples()
    assert (pair.first, pair.second, pair.real) == ("Poor", "Good", True)
    assert pair.difference == pytest.approx(found.loc["Poor", "omega"] - found.loc["Good", "omega"])


def test_mean_and_deviation_over_the_seeds():
    """Seeds that differ widely leave no difference real, though each run is far better than the other system."""
    scores = systems(first=1.5, second=6, other=1)
    figures = part_figures(scores, "development", SETTINGS)
    single = by_title(leaderboard.board([Entry(name, (name,)) for name in scores], figures, SETTINGS)[0])["omega"]
    rows = [Entry("Both", ("first", "second")), Entry("Other", ("other",))]
    table, pairs = leaderboard.board(rows, figures, SETTINGS)
    both = by_title(table).loc["Both"]
    assert both["omega"] == pytest.approx((single["first"] + single["second"]) / 2)
    assert both["omega_deviation"] == pytest.approx(abs(single["first"] - single["second"]) / np.sqrt(2))
    assert both["runs"] == 2
    assert np.isnan(by_title(table).loc["Other", "omega_deviation"])
    assert not pairs["real"].any()
    assert by_title(table)["rank_low"].tolist() == [1, 1]


def test_what_was_chosen_by_labels_has_no_rank_and_is_compared_with_nothing():
    figures = part_figures(systems(a=2, b=1, c=3), "development", SETTINGS)
    rows = [Entry("A", ("a",)), Entry("B", ("b",)), Entry("C", ("c",), labels="its threshold")]
    table, pairs = leaderboard.board(rows, figures, SETTINGS)
    assert table["system"].tolist() == ["A", "B", "C"]
    assert table["rank"].tolist()[:2] == [1, 2]
    assert table["rank"].isna().tolist() == [False, False, True]
    assert pairs[["first", "second"]].to_numpy().tolist() == [["A", "B"]]


def test_without_resamples_there_are_no_ranges():
    settings = Metrics(resamples=0)
    table, pairs = leaderboard.board(
        [Entry("A", ("a",)), Entry("B", ("b",))], part_figures(systems(a=3, b=0), "development", settings), settings
    )
    assert table["rank"].tolist() == [1, 2]
    assert table["rank_low"].isna().all()
    assert not pairs["real"].any()
    assert leaderboard_texts.texts(table, ranked=True)["Rank"].tolist() == ["1", "2"]


def test_a_corpus_without_domains_is_ranked_by_the_auc_of_all_clips():
    scores = {
        name: {machine: clips.assign(domain="") for machine, clips in machines.items()}
        for name, machines in systems(a=1, b=2).items()
    }
    table, _ = leaderboard.board(
        [Entry("A", ("a",)), Entry("B", ("b",))], part_figures(scores, "development", SETTINGS), SETTINGS
    )
    assert table["system"].tolist() == ["B", "A"]
    values = []
    for clips in scores["b"].values():
        test = clips[clips["split"] == "test"]
        values += [roc_auc_score(own["label"] == "anomaly", own["score"]) for _, own in test.groupby("section")]
    assert table["auc"][0] == pytest.approx(len(values) / np.sum(1 / np.array(values)))
    assert "omega" not in table
    assert "AUC, all clips" in leaderboard_texts.texts(table, ranked=True)
    assert figures.against_time(table) is None  # no times


# --- rows ---------------------------------------------------------------------------------------------------


def default(**changes) -> dict:
    return merged(yaml.safe_load((ROOT / "config/config.yaml").read_text()), changes)


def test_the_seeds_of_a_sweep_are_the_runs_of_a_row():
    settings = load(expand(default(sweep={"seeds": [1, 2]})))
    rows = {row.title: row for row in leaderboard.entries(settings, {"spectrum": "the decays"})}
    assert list(rows) == [settings.models[name].title for name in default()["run_models"]]
    assert rows["CNN-Global"].runs == ("global-seed_1", "global-seed_2")
    assert rows["Level"].runs == ("level",)
    assert {title: row.network for title, row in rows.items()} == {
        "Level": "none",
        "Nearest spectrum": "none",
        "Untrained network": "untrained",
        "Spectrum": "none",
        "CNN-Global": "trained",
        "CNN-Local": "trained",
        "CNN-OE": "trained",
        "Fusion": "trained",
    }
    assert rows["Spectrum"].labels == "the decays"
    assert rows["Fusion"].labels == "of Spectrum: the decays"
    assert rows["CNN-Global"].labels == ""


def test_names_that_the_configuration_does_not_know_are_refused():
    for block, said in (
        ({"chosen_by_labels": {"globl": "x"}}, "leaderboard.chosen_by_labels: 'globl' is not an entry of models"),
        ({"submissions": {"CNN-Global": "/x"}}, "leaderboard.submissions: 'CNN-Global' is the name of a model"),
    ):
        with pytest.raises(InputError, match=said):
            load(default(leaderboard=block))


def test_costs_are_sums_of_jobs(tmp_path):
    def job(name: str, seconds: object, memory: object) -> str:
        (tmp_path / name).write_text(f"s\tmax_rss\n99\t99\n{seconds}\t{memory}\n")
        return str(tmp_path / name)

    clips = pd.DataFrame({"file": ["a", "b", "c", "d"]})
    scores = {"one": {"fan": clips, "valve": clips}, "two": {"fan": clips, "valve": clips}}
    jobs = {
        "one": {"training": [job("a", 10, 500), job("b", 5, 900)], "scoring": [job("c", 4, 100)]},
        "two": {"training": [job("d", 25, 500)], "scoring": [job("e", 12, 100)]},
    }
    row = leaderboard.with_costs(Entry("A", ("one", "two")), jobs, scores, 7)
    assert (row.training_seconds, row.clip_seconds, row.parameters, row.memory_mb) == (20, 1, 7, 900)
    jobs["one"]["scoring"].append(str(tmp_path / "missing"))
    row = leaderboard.with_costs(Entry("A", ("one", "two")), jobs, scores, 7)
    assert row.training_seconds == 20
    assert np.isnan(row.clip_seconds)
    short = job("short", "-", "-")  # a job that was too short for Snakemake to measure its memory
    row = leaderboard.with_costs(Entry("A", ("one",)), {"one": {"training": [short], "scoring": []}}, scores, 7)
    assert np.isnan(row.memory_mb)


def test_the_choice_by_labels_takes_the_best_of_each_machine_seed_by_seed():
    scores = systems(a1=0, a2=0, b=0)
    better = systems(x=5)["x"]
    scores["a1"]["fan"] = scores["b"]["valve"] = scores["a2"]["valve"] = better["fan"]
    found = part_figures(scores, "development", Metrics(resamples=0))
    row, made = leaderboard.chosen([Entry("A", ("a1", "a2")), Entry("B", ("b",))], scores, found)
    assert row.labels.endswith("by the labels of the development part")
    first, second = (made[run] for run in row.runs)
    np.testing.assert_array_equal(first.of("fan").values, found["a1"].of("fan").values)
    np.testing.assert_array_equal(first.of("valve").values, found["b"].of("valve").values)
    np.testing.assert_array_equal(second.of("valve").values, found["a2"].of("valve").values)  # the first of equal ones
    assert leaderboard.chosen([Entry("A", ("a1",))], scores, found) is None


# --- who is compared with whom ------------------------------------------------------------------------------


def test_parts_are_never_in_one_table():
    ours = {"a": {"fan": scored(1)}, "b": {"fan": scored(2)}}
    development = {"fan": scored(3).drop(columns="recording")}
    evaluation = {"fan": scored(4).assign(part="evaluation").drop(columns="recording")}
    found = leaderboard.parts(ours, {"dev": development, "eval": evaluation})
    assert {part: list(here) for part, here in found.items()} == {
        "development": ["a", "b", "dev"],
        "evaluation": ["eval"],
    }
    assert all(
        set(clips["split"]) == {"test"} for here in found.values() for one in here.values() for clips in one.values()
    )


def test_a_strangers_clips_are_resampled_by_our_recordings():
    ours = scored(1)
    ours["recording"] = [f"r{number // 3}" for number in range(len(ours))]
    found = leaderboard.parts({"a": {"fan": ours}}, {"x": {"fan": scored(1).drop(columns="recording").iloc[::-1]}})
    figures = part_figures(found["development"], "development", SETTINGS)
    np.testing.assert_array_equal(figures["a"].values, figures["x"].values)


def test_other_clips_are_refused():
    other = scored(2).replace(
        {"file": {"section_00_source_test_normal_0000.wav": "section_00_source_test_normal_9999.wav"}}
    )
    with pytest.raises(
        InputError, match=r"scores of fan: the models a and x .* section_00_source_test_normal_0000.wav"
    ):
        leaderboard.parts({"a": {"fan": scored(1)}}, {"x": {"fan": other}})
    with pytest.raises(InputError, match="x and y are not of the same machines; only one has valve"):
        leaderboard.parts({}, {"x": {"fan": scored(1)}, "y": {"fan": scored(1), "valve": scored(2)}})


# --- published figures --------------------------------------------------------------------------------------


def test_the_published_figures_are_whole():
    table = pd.read_csv(PUBLISHED, keep_default_na=False)
    assert list(table.columns) == list(leaderboard.PUBLISHED)
    assert (table["source"] != "").all()
    assert set(table["part"]) == {"development", "evaluation"}
    assert not table.duplicated(["dataset", "part", "system"]).any()
    numbers = table[[*leaderboard.SHOWN]].apply(pd.to_numeric)
    assert (numbers.notna().any(axis=1)).all()
    assert numbers.stack().dropna().between(20, 100).all()
    known = numbers.dropna()
    official = 3 / (1 / known[["auc_source", "auc_target", "pauc"]]).sum(axis=1)
    assert len(known) == 2
    np.testing.assert_allclose(known["omega"], official, atol=0.051)


def test_the_papers_rows_are_those_of_its_tables():
    rows = leaderboard.read_published(PUBLISHED, "dcase2022", "development").set_index("system")
    for model in ("CNN-Global", "CNN-Local", "CNN-OE"):
        for domain in ("source", "target"):
            machines = pd.read_csv(ROOT / f"resources/paper/auc_{domain}.csv", index_col=0).loc[model].iloc[:7]
            assert rows.loc[f"{model} (the paper)", f"auc_{domain}"] == pytest.approx(
                7 / (1 / machines).sum(), abs=0.051
            )


# --- the script ---------------------------------------------------------------------------------------------


def test_the_page_and_its_tables(tmp_path):
    (tmp_path / "board").mkdir()
    (tmp_path / "board/evaluation.csv").write_text("of an earlier run")
    page = make_leaderboard(tmp_path)
    names = {f"development{end}" for end in (".csv", "-differences.csv", ".md", ".svg", ".png")}
    assert {path.name for path in page.parent.iterdir()} == {"index.html", *names}
    table = by_title(pd.read_csv(page.with_name("development.csv")))
    assert list(table.index) == ["Spectrum", HOSTILE, "Worse", leaderboard.BEST, "Tuned"]
    # The hostile system has the ranks of the scores of the first of two runs, and so does what was tuned.
    assert table.loc[HOSTILE, "omega"] == table.loc["Tuned", "omega"]
    assert table.loc["Spectrum", "runs"] == 2
    clips = sum(1 for _ in (tmp_path / "scores/global/fan.csv").open()) - 1
    assert table.loc["Spectrum", "clip_seconds"] == pytest.approx(45 / clips)
    assert table.loc["Spectrum", ["training_seconds", "memory_mb"]].tolist() == [3, 800]
    assert np.isnan(table.loc["Tuned", "clip_seconds"])
    text = page.with_name("development.md").read_text()
    assert "| the pooling" in text
    assert "window.hacked=1> \\| b |" in text
    assert text.index("| Worse") < text.index("Without a rank") < text.index("| Tuned")
    html = page.read_text()
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_a_submission_that_does_not_fit_is_named(tmp_path):
    call(
        "leaderboard",
        submissions={"A": write_submission(tmp_path / "a", scored(1))},
        out=tmp_path / "a.html",
        settings=SETTINGS,
    )
    write_submission(tmp_path / "b", scored(2).query("file != 'section_01_source_test_normal_0001.wav'"))
    both = {"A": tmp_path / "a", "B": tmp_path / "b"}
    with pytest.raises(InputError, match=r"models A and B .* section_01_source_test_normal_0001\.wav"):
        call("leaderboard", submissions=both, out=tmp_path / "b.html", settings=SETTINGS)
    assert not (tmp_path / "b.html").exists()
    with pytest.raises(InputError, match="nothing to compare"):
        call("leaderboard", out=tmp_path / "b.html", settings=SETTINGS)


@pytest.mark.skipif(not FOLDER, reason="ASD_EVALUATION_DATA is not set (see tests/challenge/test_conformance.py)")
def test_real_systems(tmp_path):
    """Of the development and of the evaluation part: two tables, with the scores that the official code computes."""
    folder = Path(FOLDER)
    call(
        "leaderboard",
        submissions={
            "Autoencoder": folder / "dev_baseline",
            "System 1": folder / "submission/system_1",
            "System 2": folder / "submission/system_2",
        },
        ground_truth=folder / "ground_truth",
        kind="dcase2022",
        out=tmp_path / "index.html",
        settings=Metrics(resamples=200),
    )
    development, evaluation = (
        by_title(pd.read_csv(tmp_path / f"{part}.csv")) for part in ("development", "evaluation")
    )
    assert list(development.index) == ["Autoencoder"]
    assert evaluation["omega"].to_dict() == pytest.approx(
        {"System 2": 0.6653202926501359, "System 1": 0.6639461929735759}
    )
    assert evaluation["rank_high"].tolist() == [2, 2]  # 0.14 points, with intervals of three
    html = (tmp_path / "index.html").read_text()
    assert html.index("Autoencoder</th>") < html.index("EAT with LoRA") < html.index("System 1</th>")
