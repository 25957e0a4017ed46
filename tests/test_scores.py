import numpy as np
import pandas as pd
import pytest

from asd.errors import InputError
from asd.scores import COLUMNS, UNDECIDED, read_scores, thresholds_of, write_scores

CLIPS = pd.DataFrame(
    {
        "path": ["a", "b", "c", "d"],
        "file": ["a.wav", "b.wav", "c.wav", "d.wav"],
        "machine": "fan",
        "section": ["00", "00", "00", "01"],
        "split": ["train", "train", "test", "test"],
        "part": "development",
        "domain": ["source", "target", "", "target"],
        "label": ["normal", "normal", "", "anomaly"],
        "attributes": "{}",
        "recording": ["a", "a", "", ""],
    }
)
SCORE = np.array([0.1, np.nan, 1 / 3, 2.5e-7])


@pytest.fixture
def path(tmp_path):
    write_scores(tmp_path / "fan.csv", CLIPS, SCORE, {"00": 0.2, "01": 1e-7})
    return tmp_path / "fan.csv"


def test_the_file_as_text(path):
    assert path.read_text().splitlines() == [
        "file,section,split,part,domain,label,recording,score,decision,threshold",
        "a.wav,00,train,development,source,normal,a,0.1,0,0.2",
        "b.wav,00,train,development,target,normal,a,,,0.2",
        "c.wav,00,test,development,,,,0.3333333333333333,1,0.2",
        "d.wav,01,test,development,target,anomaly,,2.5e-07,1,1e-07",
    ]


def test_round_trip(path):
    table = read_scores(path)
    assert list(table.columns) == COLUMNS
    np.testing.assert_array_equal(table["score"], SCORE)
    assert table["score"].dtype == np.float64
    assert table["decision"].tolist() == [0, UNDECIDED, 1, 1]
    assert table["threshold"].tolist() == [0.2, 0.2, 0.2, 1e-7]
    assert thresholds_of(table) == {"00": 0.2, "01": 1e-7}
    for column in COLUMNS[:7]:
        assert table[column].tolist() == CLIPS[column].tolist()


def test_without_a_threshold_nothing_is_decided(tmp_path):
    write_scores(tmp_path / "s.csv", CLIPS, SCORE, {"00": np.inf, "01": 1.0})
    assert "c.wav,00,test,development,,,,0.3333333333333333,,\n" in (tmp_path / "s.csv").read_text()
    table = read_scores(tmp_path / "s.csv")
    assert table["decision"].tolist() == [UNDECIDED, UNDECIDED, UNDECIDED, 0]
    assert thresholds_of(table) == {"00": np.inf, "01": 1.0}


def test_every_digit_comes_back(tmp_path):
    score = np.random.default_rng(0).standard_normal(2000) * 10.0 ** np.random.default_rng(1).integers(-300, 300, 2000)
    clips = CLIPS.iloc[[2] * 2000].assign(file=[f"{number}.wav" for number in range(2000)])
    write_scores(tmp_path / "s.csv", clips, score, {"00": 0.0})
    np.testing.assert_array_equal(read_scores(tmp_path / "s.csv")["score"], score)


def test_a_score_on_the_threshold_is_normal(tmp_path):
    write_scores(tmp_path / "s.csv", CLIPS, np.array([1.0, 2.0, 2.0, 3.0]), {"00": 2.0, "01": 2.0})
    assert read_scores(tmp_path / "s.csv")["decision"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_test_clip_without_a_score_is_not_written(tmp_path, score):
    with pytest.raises(InputError, match=r"s\.csv: d\.wav: no usable score \(1 such\)"):
        write_scores(tmp_path / "s.csv", CLIPS, np.array([1, np.nan, 1, score]), {"00": 2.0, "01": 2.0})
    assert not list(tmp_path.iterdir())


def test_no_decision_by_a_threshold_that_is_no_number(tmp_path):
    with pytest.raises(InputError, match=r"fan\.csv: a threshold is not a number"):
        write_scores(tmp_path / "fan.csv", CLIPS, SCORE, {"00": 1.0, "01": np.nan})
    assert not list(tmp_path.iterdir())


def test_an_infinite_training_score_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.wav: no usable score"):
        write_scores(tmp_path / "s.csv", CLIPS, np.array([np.inf, 1, 1, 1]), {"00": 2.0, "01": 2.0})


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (",threshold\n", ",limit\n", r"found the columns .*limit; expected file, section"),
        ("00,test,", "00,tset,", r"row 4: split: found 'tset'; expected train, test"),
        (
            "test,development,,",
            "test,development,moon,",
            r"row 4: domain: found 'moon'; expected source, target, nothing",
        ),
        (",anomaly,", ",broken,", r"row 5: label: found 'broken'"),
        ("e-07,1", "e-07,2", r"row 5: decision: found '2'; expected 0, 1, nothing"),
        ("e-07,1", "e-07,", r"row 5: decision: found ''; expected 0 or 1 if there are a score and a threshold"),
        ("1,1e-07", "1,", r"row 5: decision: found '1'; expected 0 or 1 if there are a score and a threshold"),
        ("1,1e-07", "1,low", r"row 5: decision: found '1'; expected"),
        ("1,1e-07", "1,nan", r"row 5: threshold: expected a number, or nothing"),
        ("b.wav", "a.wav", r"row 3: a\.wav a second time"),
        ("2.5e-07", "loud", r"d\.wav: no usable score"),
        ("2.5e-07", "", r"d\.wav: no usable score"),
        ("2.5e-07", "inf", r"d\.wav: no usable score"),
        (",0.1,", ",loud,", r"a\.wav: no usable score"),
        (",0.1,0", ",0.1,0,0,0", r"rows with more cells than the header"),
        ("anomaly,,2.5e-07,1", "anomaly,,2.5e-07,1,0,0,0", r"not a readable table .*line 5"),
        ("anomaly,,2.5e-07,1", "anomaly,,2.5e-07", r"row 5: decision: found"),
    ],
)
def test_a_file_that_is_not_as_it_must_be(path, before, after, message):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    with pytest.raises(InputError, match=message) as error:
        read_scores(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\xff\xfe\x00"])
def test_another_file_is_named(tmp_path, content):
    path = tmp_path / "s.csv"
    with pytest.raises(InputError, match=r"s\.csv: not a readable table .*No such file"):
        read_scores(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"s\.csv: not a readable table"):
        read_scores(path)


def test_scores_of_no_clips(tmp_path):
    write_scores(tmp_path / "s.csv", CLIPS[:0], SCORE[:0], {})
    assert read_scores(tmp_path / "s.csv").empty
