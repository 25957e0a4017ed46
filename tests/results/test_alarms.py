"""Found anomalies and false alarms, held to values computed by hand and to published ones."""

import pandas as pd
import pytest

from asd.results.alarms import alarms, text


def scores(*clips):
    columns = ["section", "label", "decision"]
    table = pd.DataFrame(clips, columns=columns).assign(split="test", part="development", score=1.0)
    return {"spectrum": {"fan": table}}


TITLES = {"spectrum": "Spectrum"}


def test_shares_of_each_section_and_of_all():
    table = alarms(
        scores(
            *[("00", "anomaly", 1)] * 3, ("00", "anomaly", 0), *[("00", "normal", 0)] * 5, *[("02", "normal", 1)] * 2
        ),
        TITLES,
        0.95,
    )  # fmt: skip
    found = {(row.section, row.metric): (row.value, row.over) for row in table.itertuples()}
    assert found == {
        ("00", "found"): (0.75, "3 of 4 clips"),
        ("00", "false_alarms"): (0.0, "0 of 5 clips"),
        ("02", "false_alarms"): (1.0, "2 of 2 clips"),
        ("", "found"): (0.75, "3 of 4 clips"),
        ("", "false_alarms"): (pytest.approx(2 / 7), "2 of 7 clips"),
    }
    assert list(text(table)["fan"].loc["Spectrum"])[:2] == ["75 (30-95) / 0 (0-43)", "- / 100 (34-100)"]


def test_the_interval_is_wilsons():
    table = alarms(scores(*[("00", "anomaly", 1)] * 81, *[("00", "anomaly", 0)] * 182), TITLES, 0.95)
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I: 81 of 263, score method.
    assert table["low"].iloc[0] == pytest.approx(0.2553, abs=5e-5)
    assert table["high"].iloc[0] == pytest.approx(0.3662, abs=5e-5)


def test_what_is_unlabelled_undecided_or_no_test_of_the_development_part_has_no_row():
    only = scores(("00", "", 1), ("01", "anomaly", -1))
    assert alarms(only, TITLES, 0.95).empty
    assert text(alarms(only, TITLES, 0.95)) == {}
    table = scores(("00", "anomaly", 1))["spectrum"]["fan"]
    for other in ({"split": "train"}, {"part": "evaluation"}):
        assert alarms({"spectrum": {"fan": table.assign(**other)}}, TITLES, 0.95).empty
