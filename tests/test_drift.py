"""Drift: what has moved as a whole is said once, and anomalies are not drift."""

import numpy as np
import pandas as pd
import pytest

from asd.drift import FEWEST, LAST, SCORED, Drift


def made(count: int, seed: int, shift: float = 0.0, gain: float = 0.0) -> pd.DataFrame:
    """Recordings of a section whose scores and levels are moved by so much."""
    random = np.random.default_rng(seed)
    score, level = random.gamma(20, 1, count) + shift, random.normal(-30, 1, count) + gain
    return pd.DataFrame({"section": "00", "score": score, "level": level})


def remarks(drift: Drift, recordings: pd.DataFrame) -> list[str]:
    """What is said while the recordings come one after another."""
    found = []
    for row in recordings.itertuples():
        drift.add(row.section, row.score, row.level)
        found += drift.remarks()
    return found


@pytest.mark.parametrize(("gain", "word"), [(6, "louder"), (-6, "quieter")])
def test_another_gain_is_said_once(gain, word):
    training, moved = made(40, 0), made(60, 1, gain=gain)
    (said,) = remarks(Drift(training, LAST), moved)
    medians = np.median(moved["level"][:LAST]), training["level"].median()
    assert f"section 00: the last {LAST} recordings are as a whole {abs(medians[0] - medians[1]):.1f} dB {word}" in said
    assert f"(medians {medians[0]:.1f} and {medians[1]:.1f} dB of full scale)" in said


def test_higher_scores_at_the_same_level_are_said():
    (said,) = remarks(Drift(made(40, 0), LAST), made(60, 1, shift=20))
    assert "score as a whole higher than the training recordings" in said
    assert said.count("dB") == 0


def test_it_is_said_when_more_than_half_of_the_last_recordings_have_moved():
    drift = Drift(made(40, 0), LAST)
    assert remarks(drift, made(100, 1)) == []
    moved = made(LAST, 2, gain=20)
    assert remarks(drift, moved[: LAST // 2 - 1]) == []
    assert len(remarks(drift, moved[LAST // 2 - 1 :])) == 1


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_anomalies_are_no_drift(share):
    recordings = made(200, 1)
    faulty = np.random.default_rng(2).permutation(np.arange(200) % 20 < 20 * share)
    recordings.loc[faulty, ["score", "level"]] += [50, 10]
    drift = Drift(made(40, 0))  # all of them together
    for row in recordings.itertuples():
        drift.add(row.section, row.score, row.level)
    assert drift.remarks() == []
    few = made(200, 1)
    few.loc[np.arange(200) % 10 == 0, ["score", "level"]] += [50, 10]
    assert remarks(Drift(made(40, 0), LAST), few) == []


@pytest.mark.parametrize("count", [FEWEST, SCORED])
def test_normal_recordings_are_seldom_said_to_have_moved(count):
    """Of 100 detectors, each with 60 new recordings."""
    said = [remarks(Drift(made(count, seed), LAST), made(60, 1000 + seed)) for seed in range(100)]
    assert sum(map(bool, said)) <= 1


def test_each_section_is_compared_with_its_own():
    training = pd.concat([made(40, 0), made(40, 1, gain=20).assign(section="01")])
    assert remarks(Drift(training, LAST), made(40, 2, gain=20).assign(section="01")) == []
    (said,) = remarks(Drift(training, LAST), made(40, 2).assign(section="01"))
    assert said.startswith("section 01: ")


def test_too_few_recordings_say_nothing():
    moved = made(FEWEST, 1, shift=50, gain=20)
    for training, new in ((made(FEWEST - 1, 0), moved), (made(40, 0), moved[:-1])):
        drift = Drift(training)
        for row in new.itertuples():
            drift.add(row.section, row.score, row.level)
        assert drift.remarks() == []
    drift.add("00", 70.0, -10.0)
    assert len(drift.remarks()) == 1
    assert drift.remarks() == []


def test_training_clips_without_a_score_are_left_aside():
    training = made(40, 0).assign(score=np.nan)
    assert remarks(Drift(training, LAST), made(40, 1, shift=50)) == []
    assert len(remarks(Drift(training, LAST), made(40, 1, gain=20))) == 1
