"""A fusion: hand-computed standardised scores, what a few training clips leave, and the script."""

import numpy as np
import pandas as pd
import pytest
from conftest import call

from asd.errors import InputError
from asd.fusion import Standard, fuse_tables, fused, standards
from asd.scores import read_scores, write_scores
from asd.settings import Decision


def table(scores: dict[str, list[float]]) -> pd.DataFrame:
    """Scores of clips: section -> those of its training clips; each section has one test clip with score 10."""
    rows = [
        ("train", section, f"{number}.wav", one) for section, own in scores.items() for number, one in enumerate(own)
    ]
    rows += [("test", section, "test.wav", 10.0) for section in scores]
    frame = pd.DataFrame(rows, columns=["split", "section", "file", "score"])
    frame = frame.assign(part="development", domain="source", label="normal", recording="")
    return frame.assign(decision=0, threshold=np.inf)


def test_each_section_is_standardised_by_its_own_training_scores():
    found = standards(table({"00": [1.0, 3.0, 5.0], "01": [10.0, 10.0, 40.0, np.nan]}))
    assert found["00"] == pytest.approx((3, np.sqrt(8 / 3)))
    assert found["01"] == pytest.approx((20, np.sqrt(200)))
    assert found["00"].of(3 + 2 * np.sqrt(8 / 3)) == pytest.approx(2)


def test_a_section_of_few_training_clips_takes_the_others_scale(caplog):
    found = standards(table({"00": [1.0, 3.0, 5.0], "01": [2.0, 2.0, 2.0], "02": [5.0, 6.0, 10.0]}), "global")
    assert found["01"] == pytest.approx(((3 + 7) / 2, (np.sqrt(8 / 3) + np.sqrt(14 / 3)) / 2))
    assert "global, section 01: fewer than 3 training scores, or all the same" in caplog.text


def test_two_training_clips_still_give_one_unit(caplog):
    assert standards(table({"00": [2.0, 4.0]}))["00"] == Standard(3.0, 3.0)
    assert "standardised by the mean training score" in caplog.text


def test_without_training_scores_there_is_no_scale():
    with pytest.raises(InputError, match="fusion: oe: no training clip has a held-out score"):
        standards(table({"00": [np.nan, np.nan]}), "oe")


def test_how_members_become_one():
    members = [np.array([1.0, -2.0]), np.array([3.0, 4.0]), np.array([5.0, np.nan])]
    np.testing.assert_allclose(fused(members, "mean"), [3, np.nan])
    np.testing.assert_allclose(fused(members, "mean", [6, 1, 1]), [14 / 8, np.nan])
    np.testing.assert_allclose(fused(members[:2], "max"), [3, 4])
    np.testing.assert_allclose(fused(members[:2], "min"), [1, -2])


def test_members_of_other_clips_are_refused():
    one, other = table({"00": [1.0, 2.0, 3.0]}), table({"00": [1.0, 2.0, 3.0]}).iloc[::-1].reset_index(drop=True)
    with pytest.raises(InputError, match="spectrum and global were not scored on the same clips"):
        fuse_tables({"spectrum": one, "global": other}, "mean")


def test_the_script_decides_by_the_fused_training_scores(tmp_path):
    rng = np.random.default_rng(0)
    clips = table({"00": [0.0] * 30, "01": [0.0] * 30})
    for scale, model in ((1.0, "spectrum"), (1000.0, "global")):
        score = scale * (5 + rng.standard_normal(len(clips)) + 4 * (clips["split"] == "test").to_numpy())
        write_scores(tmp_path / model / "fan.csv", clips, score, {"00": np.inf, "01": np.inf})
    paths = [tmp_path / model / "fan.csv" for model in ("spectrum", "global")]
    call("fuse", scores=paths, weights=(3.0, 1.0), decision=Decision(), out=tmp_path / "fan.csv")
    found = read_scores(tmp_path / "fan.csv")
    expected = 0
    for weight, path in zip((0.75, 0.25), paths, strict=True):
        own = read_scores(path)
        for section in ("00", "01"):
            here = own["section"] == section
            training = own["score"][here & (own["split"] == "train")]
            own.loc[here, "score"] = (own["score"][here] - training.mean()) / training.std(ddof=0)
        expected = expected + weight * own["score"]
    np.testing.assert_allclose(found["score"], expected)
    assert found["decision"][found["split"] == "test"].all()
    assert 0.03 < found["decision"][found["split"] == "train"].mean() < 0.2
