"""Recordings that the command `asd` scores: their rows, whole or step by step, and what is said about them."""

import csv
import json
import logging
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from asd.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from asd.detector import Detector, Score
    from asd.drift import Drift
    from asd.settings import LogMel

COLUMNS = (
    *("file", "start", "score", "decision", "section", "threshold", "standardised"),
    *("worst", "seconds", "level", "remark"),
)
DECISIONS = {True: "anomalous", False: "normal", None: None}

log = logging.getLogger("asd")


def recordings_in(paths: list[Path]) -> list[Path]:
    """Return the recordings, those in folders in the order of their names; what is left out of a folder is logged.

    Raises:
        InputError: a folder without recordings.
    """
    from asd.soundfiles import SUFFIXES, find, said

    found = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
            found.append(path)
            continue
        inside, left_out = find(path)
        if left_out:
            log.warning("%s: %s", path, said(left_out))
        if not inside:
            raise InputError(f"{path}: found no recordings in it; expected files that end in {', '.join(SUFFIXES)}")
        found += inside
    return found


def rows_of_each(
    detector: "Detector", recordings: list[Path], section: str | None, every: float | None, plot: Path | None
) -> Iterable[list[dict]]:
    """Score recordings, with a progress bar.

    Args:
        detector: by which they are scored.
        recordings: their files.
        section: as which they are scored; None: the nearest.
        every: seconds from one step to the next in long recordings; None: the length of a step.
        plot: a folder for a picture of each; None: none.

    Yields:
        The rows of each recording; none if it cannot be scored, and then the log names it.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    from asd.progress import progress

    stems = [path.stem for path in recordings]
    with logging_redirect_tqdm():  # a line between two states of the bar
        for path in progress(recordings, "score", "recordings"):
            # Recordings of the same name from two folders have different pictures.
            name = path.stem if stems.count(path.stem) == 1 else "-".join(path.with_suffix("").parts).lstrip("/.-")
            try:
                yield rows_of(detector, path, section, every, plot and plot / name)
            except InputError as error:
                log.error("%s", message_of(path, error))
                yield []


def rows_of(
    detector: "Detector", path: Path, section: str | None, every: float | None, picture: Path | None = None
) -> list[dict]:
    """Return the row of a recording, or those of its steps.

    Args:
        detector: by which it is scored.
        path: the recording.
        section: as which it is scored; None: the nearest.
        every: seconds from one step to the next; None: the length of a step, and recordings that are little longer than
            one are scored whole.
        picture: its picture is written to <picture>.svg and .png; None: none. If it cannot be written, that is logged.

    Raises:
        InputError: it cannot be read or scored.
    """
    from asd import soundfiles
    from asd.steps import WHOLE, cut, step_samples

    try:
        path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:  # a link to itself, a folder that may not be entered, a name that is too long
        raise InputError(f"{path}: cannot be looked at: {error.strerror}") from None
    settings, window = detector.description.logmel, detector.description.samples
    step = step_samples(every, window, settings.rate)
    whole = int(WHOLE * window) if every is None else window + 1
    scored, rows, logmels = [], [], []
    for start, waveform in cut(soundfiles.blocks(path, settings), window, step, whole):
        found = detector.score(waveform, settings.rate, section)
        rows.append(row_of(detector, path, start / settings.rate, len(waveform) / settings.rate, found))
        if picture:
            scored.append(found)
            logmels[-1:] = [
                *(one.mean(1, keepdims=True) for one in logmels[-1:]),
                detector.log_mel(waveform, settings.rate),
            ]
    if len(rows) == 1:
        rows[0]["start"] = None
    if picture:
        try:
            _draw(picture, path.name, settings, rows, scored, logmels)
        except InputError as error:  # a full disk takes no score away
            log.error("%s", error)
    return rows


def _draw(
    picture: Path, name: str, settings: "LogMel", rows: list[dict], scored: list["Score"], logmels: list["np.ndarray"]
) -> None:
    """Draw a recording, or the course of one that was scored in steps, with the mean spectrum of each."""
    from asd.files import printable
    from asd.report import sound_figures, style

    if len(rows) == 1:
        (found,), (row,) = scored, rows
        limit = "" if found.threshold == float("inf") else f" (threshold {found.threshold:.4g})"
        title = f"{printable(name)}: {found.score:.4g}{limit}, as section {row['section']}"
        drawn = sound_figures.clip(
            logmels[0], settings, found.times, found.windows, found.threshold, title, found.bands
        )
    else:
        count = sum(row["decision"] == "anomalous" for row in rows)
        title = f"{printable(name)}: {count} of {len(rows)} steps anomalous"
        drawn = sound_figures.course(rows, [one.mean(1) for one in logmels], settings, title)
    style.save(drawn, picture.parent, picture.name)


def row_of(detector: "Detector", path: Path, start: float, seconds: float, found: "Score") -> dict:
    """Return the values of `COLUMNS` of a recording, or of a step of one.

    Args:
        detector: by which it was scored.
        path: the recording.
        start: second of the recording at which the step begins.
        seconds: length of the recording or step.
        found: its score.
    """
    return {
        "file": str(path),
        "start": start,
        "score": found.score,
        "decision": DECISIONS[found.decision],
        "section": found.section,
        "threshold": detector.description.thresholds[found.section],
        "standardised": found.standardised,
        "worst": None if found.worst is None else start + found.worst,
        "seconds": seconds,
        "level": found.level,
        "remark": found.remark,
    }


def warn_of_lengths(detector: "Detector", rows: list[dict]) -> None:
    """Say which recordings are not as long as the training clips."""
    expected = detector.description.samples / detector.description.logmel.rate
    others = [row for row in rows if row["seconds"] != expected]
    if others:
        log.warning(
            "the detector was made from clips of %.2f s; its threshold may not fit recordings of another length: %s%s",
            expected,
            f"{others[0]['file']}, {others[0]['seconds']:.2f} s",
            f", and {len(others) - 1} more" if len(others) > 1 else "",
        )


def warn_of_undecided(detector: "Detector", rows: list[dict]) -> None:
    """Say why nothing was decided, per section."""
    from asd.threshold import too_few

    for section in sorted({row["section"] for row in rows if row["decision"] is None}):
        log.warning("section %s: %s", section, too_few(detector.description.training[section]))


def warn_of_remarks(rows: list[dict]) -> None:
    """Say which recordings are faulty themselves."""
    for row in rows:
        if row["remark"]:
            log.warning("%s: %s", row["file"], row["remark"])


def warn_of_drift(drift: "Drift", rows: list[dict]) -> None:
    """Add results to the check of drift, and say what it finds."""
    for row in rows:
        drift.add(row["section"], row["score"], row["level"])
    for remark in drift.remarks():
        log.warning("%s", remark)


def message_of(path: Path, error: InputError) -> str:
    """Return the message of an error, which begins with the recording that it is of."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def tell_steps(scored: list[list[dict]]) -> None:
    """Say of each recording that was scored in steps when it was anomalous."""
    from asd.steps import told

    for rows in scored:
        if len(rows) > 1:
            print(told(rows), file=sys.stderr, flush=True)


def print_rows(rows: list[dict], format: str) -> None:
    """Print the results of recordings; without pandas, whose import takes as long as scoring ten recordings."""
    if format == "jsonl":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    elif format == "csv":
        table = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    elif rows:
        # The steps of a recording stay together, in the order of time.
        highest: dict[str, float] = {}
        for row in rows:
            highest[row["file"]] = max(row["standardised"], highest.get(row["file"], -math.inf))
        ordered = sorted(rows, key=lambda row: highest[row["file"]], reverse=True)
        columns = [one for one in COLUMNS if one != "start" or any(row["start"] is not None for row in rows)]
        cells = [columns, *([_cell(row[column]) for column in columns] for row in ordered)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
