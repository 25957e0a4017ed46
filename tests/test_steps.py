"""Long recordings: which samples a step sees, and what is said of when they were anomalous."""

import itertools

import numpy as np
import pytest

from asd.errors import InputError
from asd.steps import clock, cut, step_samples, stretch, told


def starts(length: int, window: int, every: int, block: int, whole: int = 0) -> list[int]:
    """The first sample of each window; the windows hold the samples that they must."""
    sound = np.arange(length, dtype=np.int16)
    found = list(cut((sound[i : i + block] for i in range(0, length, block)), window, every, whole))
    for start, samples in found:
        end = length if len(found) == 1 and length < max(window, whole) else start + window
        np.testing.assert_array_equal(samples, sound[start:end])
    return [start for start, _ in found]


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("length", "window", "every", "whole", "expected"),
    [
        (40, 10, 10, 0, [0, 10, 20, 30]),
        (43, 10, 10, 0, [0, 10, 20, 30, 33]),  # the last one ends with the sound
        (25, 10, 5, 0, [0, 5, 10, 15]),
        (26, 10, 4, 0, [0, 4, 8, 12, 16]),
        (27, 10, 4, 0, [0, 4, 8, 12, 16, 17]),
        (60, 10, 25, 0, [0, 25, 50]),
        (59, 10, 25, 0, [0, 25]),  # between the steps nothing is scored
        (10, 10, 10, 0, [0]),
        (9, 10, 10, 0, [0]),
        (14, 10, 10, 15, [0]),  # not long enough for steps
        (15, 10, 10, 15, [0, 5]),
        (11, 10, 10, 11, [0, 1]),
    ],
)
def test_windows_of_sound_in_blocks_of_any_length(length, window, every, whole, expected, block):
    assert starts(length, window, every, block, whole) == expected


def test_little_is_held_in_memory():
    held = (np.zeros(1000, np.int16) for _ in range(10_000))
    for _, samples in cut(held, 4000, 1000):
        base = samples if samples.base is None else samples.base
        assert len(base) <= 4000 + 2 * 1000


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_step_of_no_length_is_refused(every):
    with pytest.raises(InputError, match=r"--every: found .*; expected seconds from one step to the next"):
        step_samples(every, 16000, 16000)


def test_the_stretch_with_the_most_anomalous_minus_normal_steps():
    """Compared with all stretches of all sequences of ten steps."""
    for flags in itertools.product([False, True], repeat=10):
        spans = [(i, j) for i in range(10) for j in range(i + 1, 11)]
        values = {span: 2 * sum(flags[slice(*span)]) - (span[1] - span[0]) for span in spans}
        found = stretch(list(flags))
        if not any(flags):
            assert found is None
        else:
            assert values[found] == max(values.values())
            assert flags[found[0]]
            assert flags[found[1] - 1]


def test_what_is_said_of_a_recording():
    def rows(decisions: str) -> list[dict]:
        words = {"a": "anomalous", "n": "normal", "-": None}
        return [
            {"file": "x.wav", "start": 5.0 * i, "seconds": 10.0, "decision": words[one]}
            for i, one in enumerate(decisions)
        ]

    assert told(rows("nannaaanaan")) == (
        "x.wav: 11 steps of 10.00 s; anomalous from 0:00:20 to 0:00:55 (5 of 6 steps); outside of it 1 of 5"
    )
    assert told(rows("aaa")) == "x.wav: 3 steps of 10.00 s; anomalous from 0:00:00 to 0:00:20 (3 of 3 steps)"
    assert told(rows("nnn")) == "x.wav: 3 steps of 10.00 s; none is anomalous"
    assert told(rows("---")) == "x.wav: 3 steps of 10.00 s; nothing is decided"


def test_a_time_in_a_recording():
    assert [clock(one) for one in (0, 59.95, 3725, 3725.25, 36000)] == [
        *("0:00:00", "0:01:00", "1:02:05", "1:02:05.2", "10:00:00")
    ]
