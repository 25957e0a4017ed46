"""The command `asd`: score recordings with a detector that the workflow made."""

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from asd.errors import InputError

if TYPE_CHECKING:
    from asd.detector import Detector

COLUMNS = ("file", "score", "decision", "section", "threshold", "worst")
NONE, UNREADABLE, ANOMALOUS = 0, 1, 3
"""Exit statuses of `asd score`."""

log = logging.getLogger("asd")


def score(
    recordings: tyro.conf.Positional[list[Path]],
    *,
    detector: Path,
    section: str | None = None,
    format: Literal["table", "csv", "jsonl"] = "table",
    convert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    plot: Path | None = None,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Score recordings: how anomalous each is, whether it is above the threshold, and when it was worst.

    Exit status: 0, nothing is anomalous; 3, something is; 1, nothing is, but something could not be read.

    Args:
        recordings: the recordings; wav, mono, 16 bit, of the training recordings' rate.
        detector: the detector (zip), as snakemake results/detectors/<machine>.zip makes it.
        section: of the machine; without it the one that a recording is nearest to.
        format: a table to read, CSV, or a JSON object a line. worst: seconds, at the middle of the worst window.
        convert: take recordings of any format and rate, resampled.
        plot: a folder for a picture of each recording (SVG and PNG).
        device: cpu, cuda or cuda:N.
        threads: of the computation.
    """
    import torch

    from asd.detector import Detector

    torch.set_num_threads(threads)
    loaded = Detector.load(detector, device)
    if convert:
        settings = loaded.description.logmel.model_copy(update={"convert": True})
        loaded.description = loaded.description.model_copy(update={"logmel": settings})
    rows = list(_scored(loaded, recordings, section, plot))
    _print([row for row in rows if row is not None], format)
    if any(row and row["decision"] == "anomalous" for row in rows):
        return ANOMALOUS
    return UNREADABLE if None in rows else NONE


def _scored(
    detector: "Detector", recordings: list[Path], section: str | None, plot: Path | None
) -> Iterable[dict | None]:
    """What is printed of each recording; None for one that cannot be scored, which the log names."""
    from asd import recording
    from asd.progress import progress

    if section is not None and section not in detector.description.sections:
        raise InputError(f"--section: found {section}; it knows {', '.join(detector.description.sections)}")
    settings = detector.description.logmel
    for path in progress(recordings, "score", "recordings"):
        try:
            waveform = recording.read(path, settings)
            found = detector.score(waveform, settings.rate, section)
        except InputError as error:
            log.error("%s", error if str(path) in str(error) else f"{path}: {error}")
            yield None
            continue
        if len(waveform) != detector.description.samples:
            log.warning(
                "%s: %.2f s long, but the detector was made from clips of %.2f s; the threshold may not fit",
                *(path, len(waveform) / settings.rate, detector.description.samples / settings.rate),
            )
        if plot:
            from asd import figures

            logmel = detector.log_mel(waveform, settings.rate)
            title = f"{path.name}: {found.score:.4g}"
            drawn = figures.clip(logmel, settings, found.times, found.windows, found.threshold, title)
            figures.save(drawn, plot, path.stem)
        words = {True: "anomalous", False: "normal"}
        yield {
            "file": str(path),
            "score": found.score,
            "decision": words[found.decision],
            "section": found.section,
            "threshold": detector.description.threshold,
            "worst": found.worst,
        }


def _print(rows: list[dict], format: str) -> None:
    import pandas as pd

    if format == "jsonl":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if format == "csv":
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    elif len(table):
        table = table.sort_values("score", ascending=False)
        numbers = table.astype({"threshold": float, "worst": float})
        print(numbers.to_string(index=False, na_rep="-", float_format="%.4g"))


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        status = tyro.extras.subcommand_cli_from_dict({"score": score}, prog="asd", description=__doc__)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    raise SystemExit(status)
