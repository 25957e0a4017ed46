"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

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
