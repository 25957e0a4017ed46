"""The lines of long work, with a clock of the tests."""

import math

import pytest

from asd import progress
from asd.loop import Epoch


@pytest.fixture
def clock(monkeypatch, caplog):
    """A list whose last value is the time in seconds; standard error is no terminal."""
    times = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    caplog.set_level("INFO")
    return times


def test_a_line_after_each_pause_and_one_at_the_end(clock, caplog):
    """Four items of 20 s: a line 40 s after the begin, when the other half takes as long."""
    for item in progress.progress(iter("abcd"), "reading", "files", total=4):
        clock.append(clock[-1] + 20)
        assert item == "abcd"[len(clock) - 2]
    assert caplog.messages == ["reading: 2 of 4 files, 40 s left", "reading: 4 files in 80.0 s"]


def test_no_items(clock, caplog):
    assert list(progress.progress([], "reading", "files")) == []
    assert caplog.messages == ["reading: 0 files in 0.0 s"]


def epoch(number: int, section: float = 0.5, attribute: float = math.nan) -> Epoch:
    return Epoch(number, 1e-3, 1.25, section, attribute, 10.0, math.nan)


def test_the_time_left_is_that_of_the_epochs_after_the_first(clock, caplog):
    """The first may have been shortened by a checkpoint. Then 10 s: three take 30 s; 10 and 16 s: two take 26 s."""
    report = progress.epoch_lines()
    for number, seconds in ((1, 1), (2, 10), (3, 16)):
        clock.append(clock[-1] + seconds)
        report(epoch(number), 5)
    assert [message.partition("accuracy 0.500")[2] for message in caplog.messages] == ["", ", 30 s left", ", 26 s left"]


def test_an_epoch_says_the_loss_and_the_accuracies_that_there_are(clock, caplog):
    report = progress.epoch_lines()
    report(epoch(1), 1)
    report(epoch(1, attribute=0.25), 1)
    report(epoch(1, section=math.nan), 1)
    assert caplog.messages == [
        "epoch 1 of 1: loss 1.2500, section accuracy 0.500",
        "epoch 1 of 1: loss 1.2500, section accuracy 0.500, attribute accuracy 0.250",
        "epoch 1 of 1: loss 1.2500",
    ]
