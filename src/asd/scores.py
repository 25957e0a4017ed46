"""The scores of a machine's clips: a CSV, one row per clip.

Columns: file, section, split, part, domain, label, recording, score, decision, threshold. An empty domain or label is
unknown; recording is that of the manifest (`asd.corpus`). The score of a training clip is empty if the clip could not
be held out from the fit. decision is 1 if the score is above the threshold of its section
(`asd.threshold`), otherwise 0. Both are empty if there are too few training recordings for a threshold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.errors import InputError
from asd.files import read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ["file", "section", "split", "part", "domain", "label", "recording"]
COLUMNS = [*TEXTS, "score", "decision", "threshold"]
ALLOWED = {
    "split": ("train", "test"),
    "part": ("development", "additional", "evaluation"),
    "domain": ("source", "target", ""),
    "label": ("normal", "anomaly", ""),
    "decision": ("0", "1", ""),
}
UNDECIDED = -1
"""The decision of a clip for which there is no threshold, or no score."""


def write_scores(path: Path, clips: "pd.DataFrame", score: np.ndarray, thresholds: Mapping[str, float]) -> None:
    """Write the scores of clips, and decide.

    Args:
        path: the file to write.
        clips: the manifest's columns, one row per clip.
        score: (clips,), nan for a training clip without a score.
        thresholds: by section: a clip is anomalous if its score is above it; infinite if there is none.

    Raises:
        InputError: the score of a test clip is not finite, or a threshold is not a number.
    """
    threshold = np.array([thresholds[section] for section in clips["section"]], dtype=np.float64)
    if np.isnan(threshold).any():
        raise InputError(f"{path}: a threshold is not a number, so nothing is decided; run the stage before it again")
    decided = np.isfinite(threshold) & np.isfinite(score)
    decision = np.where(decided, np.where(score > threshold, "1", "0"), "")
    cell = np.where(np.isfinite(threshold), threshold, np.nan)
    table = clips[TEXTS].assign(score=score, decision=decision, threshold=cell)
    _check(path, table["file"], table["split"], score)
    write_table(path, table)


def read_scores(path: Path) -> "pd.DataFrame":
    """Read a file of scores: texts as they are (section "00"), score float64, decision int, threshold float64.

    Without a threshold, `threshold` is infinite and `decision` is `UNDECIDED`.

    Raises:
        InputError: there is no such file, or `write_scores` would not have written it.
    """
    table = read_table(path)
    if list(table.columns) != COLUMNS:
        raise InputError(f"{path}: found the columns {', '.join(table.columns)}; expected {_listed()}")
    for column, allowed in ALLOWED.items():
        wrong = ~table[column].isin(allowed)
        if wrong.any():
            raise InputError(
                f"{path}: row {wrong.argmax() + 2}: {column}: found {table[column][wrong.argmax()]!r}; expected "
                + ", ".join(one or "nothing" for one in allowed)
            )
    twice = table.duplicated(["split", "section", "file"])
    if twice.any():
        raise InputError(f"{path}: row {twice.argmax() + 2}: {table['file'][twice.argmax()]} a second time")
    score = np.array([_number(text) for text in table["score"]], dtype=np.float64)
    _check(path, table["file"], table["split"], score)
    limit = np.array([_number(text or "inf") for text in table["threshold"]], dtype=np.float64)
    if np.isnan(limit).any():
        raise InputError(f"{path}: row {np.isnan(limit).argmax() + 2}: threshold: expected a number, or nothing")
    decision = table["decision"].replace("", str(UNDECIDED)).astype(int)
    wrong = (decision != UNDECIDED) != (np.isfinite(limit) & np.isfinite(score))
    if wrong.any():
        raise InputError(
            f"{path}: row {wrong.argmax() + 2}: decision: found {table['decision'][wrong.argmax()]!r}; expected 0 or 1 "
            "if there are a score and a threshold, otherwise nothing"
        )
    return table.assign(score=score, decision=decision, threshold=limit)


def pooled(clips: "pd.DataFrame", pool: str) -> tuple["pd.DataFrame", np.ndarray]:
    """Return the recordings from which clips were cut (`logmel.cut`), and the score of each.

    Args:
        clips: as `read_scores` gives them.
        pool: mean or max, of the scores of a recording's clips.

    Returns:
        One row per recording, with the columns of its first clip and the recording's own name as `file`; and the scores
        (recordings,), nan for a training recording without a score.

    Raises:
        InputError: a clip's name does not say from which recording it was cut, and where.
    """
    named = clips["file"].str.extract(r"^(.+)@[0-9.]+$")[0]
    if named.isna().any():
        raise InputError(
            f"{clips['file'][named.isna()].iloc[0]}: not a clip that was cut from a recording; expected a name like "
            "plant.wav@120; run the workflow again"
        )
    clips = clips.assign(file=named)
    key = ["split", "section", "file"]
    score = clips.groupby(key, sort=False)["score"].agg(pool)
    return clips.drop_duplicates(key, ignore_index=True), score.to_numpy()


def thresholds_of(scores: "pd.DataFrame") -> dict[str, float]:
    """Return the threshold of each section in a table of `read_scores`; infinite if there is none."""
    return {str(section): float(own.iloc[0]) for section, own in scores.groupby("section")["threshold"]}


def _check(path: Path, file: "pd.Series", split: "pd.Series", score: np.ndarray) -> None:
    wrong = ~np.isfinite(score) & ~((split == "train").to_numpy() & np.isnan(score))
    if wrong.any():
        raise InputError(
            f"{path}: {file.iloc[wrong.argmax()]}: no usable score ({wrong.sum()} such); expected a finite number, or "
            "for a training clip nothing"
        )


def _number(text: str) -> float:
    """The number in a cell, with all its digits; nan if it is empty, infinity if it is not a number."""
    try:
        return float(text or "nan")
    except ValueError:
        return np.inf


def _listed() -> str:
    return ", ".join(COLUMNS)
