"""The command `asd`: score recordings, watch a folder, export, with a detector that the workflow made."""

import json
import logging
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
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
    loaded = _loaded(detector, convert, device, threads)
    rows = list(_scored(loaded, recordings, section, plot))
    _print([row for row in rows if row is not None], format)
    if any(row and row["decision"] == "anomalous" for row in rows):
        return ANOMALOUS
    return UNREADABLE if None in rows else NONE


def watch(
    folder: tyro.conf.Positional[Path],
    *,
    detector: Path,
    out: Path | None = None,
    section: str | None = None,
    interval: float = 2.0,
    once: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    convert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Score what appears in a folder, until it is interrupted (Ctrl-C).

    A recording is scored when nothing about it has changed for an interval. What was found is appended to the log as a
    JSON object a line, and said; what the log has is not scored again, also after a restart.

    Args:
        folder: the folder, with those below it.
        detector: the detector (zip), as snakemake results/detectors/<machine>.zip makes it.
        out: the log; by default asd.jsonl in the folder.
        section: of the machine; without it the one that a recording is nearest to.
        interval: seconds between two looks.
        once: end after what is there now.
        convert: take recordings of any format and rate, resampled.
        device: cpu, cuda or cuda:N.
        threads: of the computation.
    """
    from asd.watch import Watched

    loaded = _loaded(detector, convert, device, threads)
    _check_section(loaded, section)
    watched = Watched(folder, out or folder / "asd.jsonl")
    watched.ready()
    try:
        while True:
            time.sleep(interval)
            for stamp in watched.ready():
                path = folder / stamp[0]
                if not path.exists():
                    continue
                try:
                    found = _one(loaded, path, section)
                except InputError as error:
                    found = {"error": _named(path, error)}
                    log.error("%s", found["error"])
                else:
                    print(f"{found['decision']:9}  {found['score']:10.4g}  {path}", flush=True)
                watched.append(stamp, {**found, "file": stamp[0], "scored": datetime.now(UTC).isoformat()})
            if once:
                return NONE
    except KeyboardInterrupt:
        return NONE


def export(*, detector: Path, onnx: Path, threads: int = 2) -> int:
    """Write a detector as one ONNX graph from log-mel to score, checked against torch, and say how fast it is.

    Args:
        detector: the detector (zip), as snakemake results/detectors/<machine>.zip makes it.
        onnx: the graph to write. logmel (batch, mels, frames) in dB gives score (batch, sections).
        threads: of torch, whose speed is said beside that of the graph.
    """
    from asd.export import export as write

    found = write(_loaded(detector, False, "cpu", threads), onnx)
    print(
        f"{onnx}: within {found['difference']:.1e} of torch's scores; "
        f"{1000 * found['latency']:.1f} ms a row by onnxruntime, {1000 * found['torch']:.1f} ms by torch"
    )
    return NONE


def _loaded(path: Path, convert: bool, device: str, threads: int) -> "Detector":
    import torch

    from asd.detector import Detector

    torch.set_num_threads(threads)
    detector = Detector.load(path, device)
    if convert:
        settings = detector.description.logmel.model_copy(update={"convert": True})
        detector.description = detector.description.model_copy(update={"logmel": settings})
    return detector


def _check_section(detector: "Detector", section: str | None) -> None:
    if section is not None and section not in detector.description.sections:
        raise InputError(f"--section: found {section}; it knows {', '.join(detector.description.sections)}")


def _scored(
    detector: "Detector", recordings: list[Path], section: str | None, plot: Path | None
) -> Iterable[dict | None]:
    """What is printed of each recording; None for one that cannot be scored, which the log names."""
    from asd.progress import progress

    _check_section(detector, section)
    for path in progress(recordings, "score", "recordings"):
        try:
            yield _one(detector, path, section, plot)
        except InputError as error:
            log.error("%s", _named(path, error))
            yield None


def _one(detector: "Detector", path: Path, section: str | None, plot: Path | None = None) -> dict:
    """What is printed of a recording."""
    from asd import recording

    settings = detector.description.logmel
    waveform = recording.read(path, settings)
    found = detector.score(waveform, settings.rate, section)
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
    return {
        "file": str(path),
        "score": found.score,
        "decision": "anomalous" if found.decision else "normal",
        "section": found.section,
        "threshold": detector.description.threshold,
        "worst": found.worst,
    }


def _named(path: Path, error: InputError) -> str:
    return str(error) if str(path) in str(error) else f"{path}: {error}"


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
        status = tyro.extras.subcommand_cli_from_dict(
            {"score": score, "watch": watch, "export": export}, prog="asd", description=__doc__
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    raise SystemExit(status)
