"""Files of `<clip>.wav,<number>` rows without a header, as the challenge has them: scores, decisions and labels."""

import csv
import math
from collections import Counter
from pathlib import Path

from asd.errors import InputError

UNREADABLE = "not a readable text file"


def read(path: Path, allowed: tuple[float, ...] = (), encoding: str = "utf-8") -> dict[str, float]:
    """Return the values of a file by clip.

    Args:
        path: the file.
        allowed: the only values that are allowed; empty: every finite number.
        encoding: of the file.

    Raises:
        InputError: a row has another form, a clip appears twice, or a number is not finite or not allowed.
    """
    values, faults = examine(path, allowed, encoding)
    for fault, found in faults.items():
        raise InputError(f"{path}: {fault}: {some(found)}; expected <clip>.wav,<number>, each clip once")
    return values


def examine(
    path: Path, allowed: tuple[float, ...] = (), encoding: str = "utf-8"
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return the values of a file by clip, and what is wrong with them.

    Args:
        path: the file.
        allowed: the only values that are allowed; empty: every finite number.
        encoding: of the file.

    Returns:
        The value of each clip that the file names, NaN if it has no valid one or several; and kind of fault -> the rows
        or clips that have it.
    """
    try:
        with path.open(newline="", encoding=encoding) as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        return {}, {UNREADABLE: [str(error)]}
    pairs = [(row[0], _number(row[1]), row[1]) for _, row in rows if _is_pair(row)]
    doubled = {clip for clip, count in Counter(clip for clip, _, _ in pairs).items() if count > 1}
    faults = {
        "not <clip>.wav,<number>": [f"row {number} ({','.join(row)})" for number, row in rows if not _is_pair(row)],
        "there more than once": sorted(doubled),
        "not a finite number": [f"{clip} ({text})" for clip, value, text in pairs if not math.isfinite(value)],
        f"neither {' nor '.join(f'{one:g}' for one in allowed)}": [
            f"{clip} ({text})" for clip, value, text in pairs if math.isfinite(value) and not _among(value, allowed)
        ],
    }
    values = {
        clip: value if clip not in doubled and math.isfinite(value) and _among(value, allowed) else math.nan
        for clip, value, _ in pairs
    }
    return values, {fault: found for fault, found in faults.items() if found}


def some(names: list[str]) -> str:
    """Return the first few of many names, as a text."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_pair(row: list[str]) -> bool:
    return len(row) == 2 and row[0].endswith(".wav")


def _among(value: float, allowed: tuple[float, ...]) -> bool:
    return not allowed or value in allowed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
