import numpy as np
import pandas as pd
from conftest import call

from asd.results.suspicious import deviations, ranked
from asd.scores import write_scores


def scores(training: list[float], test: list[float]) -> pd.DataFrame:
    split = ["train"] * len(training) + ["test"] * len(test)
    files = [f"{kind}{index}.wav" for index, kind in enumerate(split)]
    table = pd.DataFrame({"file": files, "section": "00", "split": split, "domain": "", "label": ""})
    return table.assign(score=training + test, decision=0)


def test_deviations():
    normal = pd.DataFrame({"score": np.random.default_rng(0).normal(50, 7, 20000)})
    np.testing.assert_allclose(deviations(np.array([50, 57, 36]), normal), [0, 1, -2], atol=0.05)
    assert np.isnan(deviations(np.array([1.0]), normal[:4])).all()
    assert np.isnan(deviations(np.array([1.0]), normal[:5].assign(score=[1, 2, 3, 4, np.nan]))).all()
    assert np.isnan(deviations(np.array([1.0]), pd.DataFrame({"score": np.ones(10)}))).all()


def test_deviations_count_recordings():
    training = pd.DataFrame({"score": np.arange(10.0), "recording": [*"aabbccdd", "e", ""]})
    assert np.isnan(deviations(np.array([1.0]), training[:8])).all()
    assert deviations(np.array([4.5]), training).tolist() == [0.0]


def test_machines_of_different_units_are_ranked_together():
    training = [10.0, 11, 12, 13, 14]
    table = ranked(
        {
            "fan": scores(training, [12, 15]),
            "press": scores([1000 * one for one in training], [20000, 11000]),
            "new": scores([1.0, np.nan], [7, 9]),
            "newer": scores([1.0], [3, 4]).assign(decision=[0, 0, 1]),
        }
    )
    assert list(zip(table["machine"], table["score"], strict=True)) == [
        ("press", 20000),
        ("fan", 15),
        ("fan", 12),
        ("press", 11000),
        ("newer", 4),
        ("new", 9),
        ("new", 7),
        ("newer", 3),
    ]
    assert list(table["rank"]) == list(range(1, 9))
    assert table["deviations"].isna().tolist() == [False] * 4 + [True] * 4


def test_sections_of_different_units_are_ranked_together():
    loud = scores([100.0, 200, 300, 400, 500], [450, 310])
    soft = scores([1.0, 2, 3, 4, 5], [9, 3.5]).assign(section="01")
    table = ranked({"fan": pd.concat([loud, soft], ignore_index=True)})
    assert table["score"].tolist() == [9, 450, 3.5, 310]
    np.testing.assert_allclose(table["deviations"], np.array([6, 1.5, 0.5, 0.1]) / 1.4826)


def test_what_is_not_decided_comes_last(tmp_path):
    few = scores([1.0, 2], [9, 3]).assign(decision=-1)
    table = ranked({"new": few, "fan": scores([1.0, 2, 3, 4, 4], [2.5]), "other": scores([1.0], [2])})
    assert list(zip(table["machine"], table["score"], strict=True)) == [
        ("fan", 2.5),
        ("other", 2),
        ("new", 9),
        ("new", 3),
    ]


def test_why_a_section_is_not_decided_is_said(tmp_path, capsys):
    few = scores([1.0, 2], [9, 3]).assign(section="01")
    clips = pd.concat([few, scores([1.0, 2, 3, 4, 4], [2.5])], ignore_index=True)
    clips = clips.assign(part="development", recording="")
    write_scores(tmp_path / "fan.csv", clips, clips["score"].to_numpy(), {"00": 9.0, "01": np.inf})
    call("suspicious", scores=[tmp_path / "fan.csv"], caches=[], out=tmp_path / "suspicious.csv")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fan, section")]
    assert said == [
        "fan, section 01: 2 scored training recordings are too few for a threshold (5 are needed); nothing is decided"
    ]
