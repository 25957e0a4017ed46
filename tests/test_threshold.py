import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asd.errors import InputError
from asd.settings import Decision
from asd.threshold import FEWEST, OWN, SHAPED, of_sections, per_clip, threshold, unsupported


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    "distribution",
    [
        stats.gamma(1, 0, 1),
        stats.gamma(2, 50, 3),
        stats.gamma(200, -30, 0.1),
        stats.norm(-5, 1),
        stats.norm(-500, 1e-4),
        stats.norm(1e6, 1e3),
        stats.lognorm(0.3, 10, 5),
    ],
)
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_recovers_the_quantile_of_the_distribution(distribution, quantile):
    scores = distribution.rvs(5000, random_state=np.random.default_rng(0))
    value, method = threshold(scores, quantile)
    assert method == "gamma"
    assert distribution.cdf(value) == pytest.approx(quantile, abs=4 * np.sqrt(quantile * (1 - quantile) / 5000))


@pytest.mark.parametrize("shape", [2.0, 8.0])
def test_is_as_likely_as_the_fit_of_scipy(shape):
    scores = stats.gamma(shape, 20, 3).rvs(400, random_state=np.random.default_rng(1))
    parameters = stats.gamma.fit(scores)  # on easy data scipy's search does find the maximum
    value, _ = threshold(scores, 0.9)
    assert value == pytest.approx(stats.gamma.ppf(0.9, *parameters), rel=2e-3)


def test_knows_neither_unit_nor_origin():
    scores = stats.gamma(3).rvs(200, random_state=np.random.default_rng(0))
    value, _ = threshold(scores, 0.9)
    assert threshold(scores * 1e-3 - 40, 0.9)[0] == pytest.approx(value * 1e-3 - 40, rel=1e-6)


@pytest.mark.parametrize(
    "scores",
    [
        stats.cauchy.rvs(size=500, random_state=np.random.default_rng(0)),
        np.append(stats.norm(50, 3).rvs(300, random_state=np.random.default_rng(0)), 1e6),
        np.concatenate([np.linspace(0, 1, 150), np.linspace(100, 101, 150)]),
    ],
    ids=["heavy tails", "one far away", "two groups"],
)
def test_what_is_not_a_gamma_falls_back_to_its_own_quantile(scores, caplog):
    assert threshold(scores, 0.9) == (np.quantile(scores, 0.9), "empirical")
    assert "not distributed like a gamma (Kolmogorov distance" in caplog.text


def test_too_few_scores(caplog):
    assert threshold(np.array([1.0, 3.0]), 0.9) == (2.8, "empirical")
    assert "2 training scores are too few" in caplog.text
    assert threshold(stats.norm.rvs(size=SHAPED, random_state=np.random.default_rng(0)), 0.9)[1] == "gamma"


@pytest.mark.parametrize("value", [0.0, 7.0, -3e5])
def test_scores_that_are_all_the_same(value, caplog):
    assert threshold(np.full(50, value), 0.9) == (value, "empirical")
    assert "all the same" in caplog.text


def test_scores_that_are_not_finite_are_left_aside():
    scores = stats.gamma(3).rvs(50, random_state=np.random.default_rng(0))
    assert threshold(np.concatenate([scores, [np.nan, np.inf, -np.inf]]), 0.9) == threshold(scores, 0.9)


@pytest.mark.parametrize("scores", [np.empty(0), np.full(3, np.nan)])
def test_without_a_score_nothing_is_anomalous(scores):
    assert threshold(scores, 0.9) == (np.inf, "none")


def clips_of(counts: dict[str, int]) -> pd.DataFrame:
    """The training clips of each section, and one test clip each."""
    rows = [("train", section) for section, count in counts.items() for _ in range(count)]
    return pd.DataFrame([*rows, *(("test", section) for section in counts)], columns=["split", "section"])


def drawn(counts: dict[str, int], seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """Clips, their scores (those of test clips are huge), and the training scores of each section, each in a unit."""
    clips, rng = clips_of(counts), np.random.default_rng(seed)
    training = {one: 10.0**number * rng.gamma(20, size=count) for number, (one, count) in enumerate(counts.items())}
    return clips, np.concatenate([*training.values(), [1e9] * len(counts)]), training


def test_a_section_has_a_threshold_of_its_own_unless_the_scope_is_the_machine():
    clips, score, training = drawn({"00": OWN, "01": 30})
    found = of_sections(clips, score, Decision(quantile=0.8))
    assert found == {one: threshold(own, 0.8)[0] for one, own in training.items()}
    every = threshold(np.concatenate(list(training.values())), 0.8)[0]
    assert of_sections(clips, score, Decision(quantile=0.8, scope="machine")) == {"00": every, "01": every}


def test_few_clips_take_the_standardised_scores_of_all_sections(caplog):
    clips, score, training = drawn({"00": OWN - 1, "01": FEWEST, "02": 30, "03": FEWEST - 1, "04": 3})
    score[clips["section"] == "04"] = 7.0
    found = of_sections(clips, score, Decision())
    pooled = []
    for section in ("00", "01", "02"):
        own = training[section]
        for number in range(len(own)):
            others = np.delete(own, number)
            pooled.append((own[number] - others.mean()) / others.std())
    standard = threshold(np.array(pooled), 0.9)[0]
    for section in ("00", "01"):
        assert found[section] == pytest.approx(training[section].mean() + training[section].std() * standard)
    assert found["02"] == threshold(training["02"], 0.9)[0]
    assert found["03"] == found["04"] == np.inf
    assert "section 03: 4 scored training recordings are too few for a threshold (5 are needed)" in caplog.text


def test_what_is_said_of_the_scores_of_all_sections_is_said_once(caplog):
    clips, score, _ = drawn({"00": FEWEST, "01": FEWEST, "02": FEWEST})
    score[clips["split"] == "train"] = np.tile([1.0, 1.01, 1.02, 1.03, 50.0], 3)
    of_sections(clips, score, Decision())
    assert caplog.text.count("their empirical quantile is used") == 1


def test_parts_of_recordings_do_not_count(caplog):
    clips, score, training = drawn({"00": 3 * OWN, "01": 2 * OWN, "02": 2 * FEWEST, "03": 2 * FEWEST})
    number = clips.groupby("section").cumcount()
    divisor = clips["section"].map({"00": 3, "01": 3, "02": 2, "03": 3})
    clips["recording"] = [f"r{one}" for one in number // divisor]
    with caplog.at_level("INFO"):
        found = of_sections(clips, score, Decision())
    assert found["00"] == threshold(training["00"], 0.9)[0]  # OWN recordings
    assert found["01"] != threshold(training["01"], 0.9)[0]
    assert np.isfinite(found["02"])
    assert found["03"] == np.inf
    assert "section 01: 14 training recordings, fewer than 20" in caplog.text
    assert "section 03: 4 scored training recordings are too few for a threshold (5 are needed)" in caplog.text
    assert of_sections(clips.assign(recording=""), score, Decision()) == of_sections(
        clips.drop(columns="recording"), score, Decision()
    )


def test_training_clips_without_a_score_do_not_count():
    clips, score, _ = drawn({"00": FEWEST})
    score[0] = np.nan
    assert of_sections(clips, score, Decision()) == {"00": np.inf}
    assert of_sections(clips, score, Decision(scope="machine")) == {"00": np.inf}


@pytest.mark.parametrize("value", [0.0, 0.1, 3e5])
def test_few_scores_that_are_all_the_same(value):
    clips = clips_of({"00": 6, "01": 6})
    score = np.full(len(clips), value)
    assert of_sections(clips, score, Decision()) == pytest.approx({"00": value, "01": value})
    score[6:12] = np.arange(6)
    found = of_sections(clips, score, Decision())
    assert found["00"] == pytest.approx(value)
    assert 2.5 < found["01"] < 10


@pytest.mark.parametrize("count", [6, 12])
def test_few_clips_have_no_more_false_alarms_than_wanted(count):
    rates = []
    for seed in range(60):
        clips, score, _ = drawn({"00": count, "01": count, "02": count}, seed)
        rates.append(stats.gamma(20).sf(of_sections(clips, score, Decision())["00"]))
    assert 0.05 < np.mean(rates) < 0.12


@pytest.mark.parametrize(
    ("wanted", "period", "expected"),
    [("0.01", 10, 0.01), ("1/day", 10, 10 / 86400), ("0.5 / hour", 36, 0.005), ("2/week", 3600, 2 / 168)],
)
def test_a_rate_of_false_alarms_becomes_a_share_of_the_clips(wanted, period, expected):
    assert per_clip(wanted, period) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wanted", "period", "message"),
    [
        ("0", 10, "found 0; expected a share of the clips, more than 0 and less than 1"),
        ("1", 10, "found 1; expected"),
        ("-1/day", 10, "found -1/day, which is"),
        ("nan", 10, "found nan; expected"),
        ("often", 10, r"found often; expected .* a number in a time \(1/hour, 1/day, 1/week\)"),
        ("1/fortnight", 10, "found 1/fortnight; expected"),
        ("1/", 10, "found 1/; expected"),
        ("500/hour", 10, "found 500/hour, which is 1.39 per clip at a clip every 10 s; expected"),
        ("1/day", 0, "--period: found 0; expected seconds"),
        ("1/day", np.inf, "--period: found inf; expected seconds"),
    ],
)
def test_what_is_no_rate_of_false_alarms_is_said(wanted, period, message):
    with pytest.raises(InputError, match=message):
        per_clip(wanted, period)


def test_what_the_training_recordings_cannot_tell_is_said():
    """Of n recordings and a new one, each is as likely to be the highest."""
    clips, score, _ = drawn({"00": 99, "01": 30, "02": 12, "03": 3})
    said = unsupported(clips, score, Decision(quantile=0.99))
    assert [line.split(":")[0] for line in said] == ["section 01"]  # 02 has the scores of 99 + 30 + 12
    assert "0.01 of the normal clips is rarer than 30 training recordings can tell" in said[0]
    assert "with probability 1/31, so rates below 0.032" in said[0]
    assert said[0].endswith("99 recordings support the wanted one")
    assert unsupported(clips, score, Decision(quantile=0.99, scope="machine")) == []
    (said,) = unsupported(clips, score, Decision(quantile=0.999, scope="machine"))
    assert "machine: 0.001 of the normal clips is rarer than 144 training recordings can tell" in said
    clips["recording"] = [f"r{number // 2}" for number in range(len(clips))]
    assert [line.split(":")[0] for line in unsupported(clips, score, Decision(quantile=0.985))] == ["section 00"]
