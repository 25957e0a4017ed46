"""Sound that is longer than a detector's training clips: cut into steps of their length, and when it was abnormal."""

from collections.abc import Iterable, Iterator

import numpy as np

from asd.errors import InputError

WHOLE = 1.5
"""A recording that is shorter than this number of training clips is not cut."""


def step_samples(every: float | None, window: int, rate: int) -> int:
    """Return the samples from one step to the next.

    Args:
        every: the same in seconds; None: the length of a window.
        window: samples of a step.
        rate: sample rate in Hz.

    Raises:
        InputError: it is less than a sample, or not a number.
    """
    if every is None:
        return window
    if not np.isfinite(every) or every * rate < 1:
        raise InputError(f"--every: found {every:g}; expected seconds from one step to the next, more than 0")
    return round(every * rate)


def cut(blocks: Iterable[np.ndarray], window: int, every: int, whole: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Cut sound into windows, one every `every` samples.

    Only what a window needs is held in memory. If windows touch or overlap, a last one ends with the sound, so that all
    of it is within a window. Sound that is shorter than a window is one shorter window.

    Args:
        blocks: the sound, arrays (samples,) one after another.
        window: samples of a window.
        every: samples from the beginning of one window to that of the next.
        whole: sound that is shorter than this number of samples is one window.

    Yields:
        (first sample, the samples of a window).
    """
    kept, begin, start, last = np.empty(0, np.int16), 0, 0, None
    for block in blocks:
        kept = np.concatenate([kept, block])
        if last is None and len(kept) < whole:
            continue
        while begin + len(kept) >= start + window:
            yield start, kept[start - begin : start - begin + window]
            last, start = start, start + every
            # The last window may have to begin after this one, and before the next.
            first = last if every <= window else min(start, begin + len(kept))
            kept, begin = kept[first - begin :], first
    end = begin + len(kept)
    if last is None:
        yield 0, kept
    elif every <= window and end > last + window:
        yield end - window, kept[-window:]


def starts(length: int, window: int, every: int) -> list[int]:
    """Return the first sample of each window that `cut` yields from sound of a length.

    Args:
        length: samples of the sound.
        window: samples of a window.
        every: samples from the beginning of one window to that of the next.

    >>> starts(25, window=10, every=10)
    [0, 10, 15]
    """
    found = list(range(0, length - window + 1, every)) or [0]
    return found + ([length - window] if every <= window and found[-1] + window < length else [])


def stretch(anomalous: list[bool]) -> tuple[int, int] | None:
    """Return the stretch in which steps are most clearly anomalous: that with the most anomalous minus normal steps.

    This is Kadane's maximum-sum subarray (Bentley 1984, "Programming pearls", Communications of the ACM 27(9)), with +1
    for an anomalous and -1 for a normal step. A single normal step within a fault does not end it, and single false
    alarms before or after it do not belong to it.

    Args:
        anomalous: of each step, in the order of time.

    Returns:
        The first step, and the one after the last; None if no step is anomalous. Of equal ones the first.
    """
    best, found, total, begin = 0, None, 0, 0
    for i, one in enumerate(anomalous):
        if total <= 0:
            total, begin = 0, i
        total += 1 if one else -1
        if total > best:
            best, found = total, (begin, i + 1)
    return found


def told(rows: list[dict]) -> str:
    """Return a line that says when a recording was anomalous.

    Args:
        rows: of its steps, in the order of time: file, start and seconds, and the decision.
    """
    flags = [row["decision"] == "anomalous" for row in rows]
    line = f"{rows[0]['file']}: {len(rows)} steps of {rows[0]['seconds']:.2f} s"
    if all(row["decision"] is None for row in rows):
        return f"{line}; nothing is decided"
    if (found := stretch(flags)) is None:
        return f"{line}; none is anomalous"
    first, after = found
    inside, outside = flags[first:after], flags[:first] + flags[after:]
    begin, end = rows[first]["start"], rows[after - 1]["start"] + rows[after - 1]["seconds"]
    line += f"; anomalous from {clock(begin)} to {clock(end)} ({sum(inside)} of {len(inside)} steps)"
    return line + (f"; outside of it {sum(outside)} of {len(outside)}" if outside else "")


def clock(seconds: float) -> str:
    """Return a time in a recording, 0:35:07.5."""
    tenths = round(10 * seconds)
    text = f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}"
    return f"{text}.{tenths % 10}" if tenths % 10 else text
