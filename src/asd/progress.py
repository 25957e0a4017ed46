"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from asd.loop import Epoch

Item = TypeVar("Item")
log = logging.getLogger(__name__)

PAUSE = 30.0
"""Seconds between two plain lines."""


def progress(items: Iterable[Item], title: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, and report how many of `total` are done and how long the rest will take.

    If standard error is not a terminal, a line is logged at most every `PAUSE` seconds, and one at the end.

    Args:
        items: what to go through.
        title: the name of the work.
        unit: what an item is called, in the plural.
        total: number of items; None if `items` has a length.
    """
    total = len(items) if total is None else total  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=title, unit=f" {unit}", total=total, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= PAUSE and done < total:
            left = (now - start) / done * (total - done)
            log.info("%s: %d of %d %s, %.0f s left", title, done, total, unit, left)
            last = now
    log.info("%s: %d %s in %.1f s", title, done, unit, time.monotonic() - start)


def epoch_lines() -> "Callable[[Epoch, int], None]":
    """Return a function that logs an epoch of a training when it is finished, and how long the others will take.

    It takes the epoch and the number of all epochs.
    """
    ends: list[float] = []

    def report(epoch: "Epoch", epochs: int) -> None:
        ends.append(time.monotonic())
        rest, left = epochs - epoch.epoch, ""
        if rest and len(ends) > 1:  # not the first epoch, which may have been shortened by a checkpoint
            left = f", {(ends[-1] - ends[0]) / (len(ends) - 1) * rest:.0f} s left"
        heads = {"section": epoch.section_accuracy, "attribute": epoch.attribute_accuracy}
        known = "".join(f", {head} accuracy {value:.3f}" for head, value in heads.items() if not math.isnan(value))
        log.info("epoch %d of %d: loss %.4f%s%s", epoch.epoch, epochs, epoch.loss, known, left)

    return report
