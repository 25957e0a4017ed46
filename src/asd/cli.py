"""The command `asd`: make a detector of recordings, update it; score recordings, watch a folder, listen, export."""

import json
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from asd.command import before_torch, say_anything
from asd.errors import InputError
from asd.scored_recordings import (
    message_of,
    print_rows,
    recordings_in,
    row_of,
    rows_of,
    rows_of_each,
    tell_steps,
    warn_of_drift,
    warn_of_lengths,
    warn_of_remarks,
    warn_of_undecided,
)

if TYPE_CHECKING:
    from asd.detector import Detector
    from asd.drift import Drift
    from asd.listen import Pcm
    from asd.notify import Alarms

NONE, INCOMPLETE, ANOMALOUS = 0, 1, 3
"""Exit statuses of `asd score`."""

Channel = Literal["mix"] | int | None
Program = Annotated[str | None, tyro.conf.arg(metavar="PROGRAM [ARGUMENT ...]")]

log = logging.getLogger("asd")


def fit(
    recordings: tyro.conf.Positional[Path],
    *,
    out: Path,
    model: str = "spectrum",
    machine: str | None = None,
    test: Path | None = None,
    configfile: tuple[Path, ...] = (),
    false_alarms: str | None = None,
    period: float | None = None,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Make a detector from a folder of normal recordings; the workflow makes the same one from them.

    Args:
        recordings: the folder. Its manifest.csv (as for the workflow) says what each recording is; without one, all
            recordings below the folder are normal ones of one machine.
        out: the detector to write (zip).
        model: an entry of the configuration's models. Models of a spectrum take seconds; networks have to be trained.
        machine: name of the machine; by default the only one in the manifest, or the folder's name.
        test: a folder of recordings to score at once, if there is no manifest. Those in folders that are called normal
            or anomaly have this label.
        configfile: configuration files on top of config/config.yaml and config/my_machines.yaml.
        false_alarms: how many false alarms are wanted: a share of the normal recordings (0.01), or a number in a time
            (1/day, 1/hour, 1/week). By default threshold.quantile of the configuration decides.
        period: seconds from the beginning of one recording to that of the next, by which false alarms are counted in
            time; by default the length of a recording.
        device: auto, cpu, cuda, cuda:N or mps; for networks.
        threads: number of threads.

    Raises:
        InputError: nothing can be made of the folder, or a setting is wrong.
    """
    from asd.device import prepare
    from asd.files import printable
    from asd.fitting import fit_folder, machine_of
    from asd.settings import Compute

    _check_zip(out)
    name = machine or machine_of(recordings)
    made = fit_folder(
        recordings,
        out,
        model=model,
        machine=name,
        test=test,
        files=configfile,
        false_alarms=false_alarms,
        period=period,
        device=prepare(Compute(device=device, threads=threads)),
    )
    print("\n".join([*made.told(), printable(str(out))]))
    return NONE


def update(
    recordings: tyro.conf.Positional[list[Path]],
    *,
    detector: Path,
    out: Path,
    section: str | None = None,
    domain: Literal["source", "target"] | None = None,
    false_alarms: str | None = None,
    period: float | None = None,
    convert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    channel: Channel = None,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Add normal recordings to a detector: the detector that a fit to all recordings makes, without training.

    Args:
        recordings: recordings that turned out to be normal; of a folder all that are in it and its subfolders. Those
            that the detector was made from are left out.
        detector: the detector (zip); asd fit makes it, or snakemake results/detectors/<machine>.zip.
        out: the detector to write (zip).
        section: the section of the recordings; needed if the detector has several.
        domain: their domain; needed if the section was made from recordings of both.
        false_alarms: how many false alarms are wanted: a share of the normal recordings (0.01), or a number in a time
            (1/day, 1/hour, 1/week). By default as many as before.
        period: seconds from the beginning of one recording to that of the next, by which false alarms are counted in
            time; by default the length of a recording.
        convert: take recordings of any format and rate, and resample them; the new detector takes them, too.
        channel: if recordings have several channels: mix takes their mean, a number takes one channel (from 1).
        device: auto, cpu, cuda, cuda:N or mps; for networks.
        threads: number of threads.

    Raises:
        InputError: there are no recordings, or they or the detector are not as needed.
    """
    from asd.device import prepare
    from asd.files import printable
    from asd.settings import Compute
    from asd.updating import update as updated

    if not recordings:
        raise InputError("found no recordings; name them: asd update --detector fan.zip --out fan2.zip new/*.wav")
    _check_zip(out)
    made = updated(
        detector,
        _loaded(detector, convert, channel, device, threads),
        recordings_in(recordings),
        out,
        section=section,
        domain=domain,
        device=prepare(Compute(device=device, threads=threads)),
        false_alarms=false_alarms,
        period=period,
    )
    print("\n".join([*made.told(), printable(str(out))]))
    return NONE


def _check_zip(out: Path) -> None:
    if out.suffix != ".zip":
        raise InputError(f"--out: found {out}; expected the name of a file that ends in .zip")


def score(
    recordings: tyro.conf.Positional[list[Path]],
    *,
    detector: Path,
    section: str | None = None,
    format: Literal["table", "csv", "jsonl"] = "table",
    convert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    channel: Channel = None,
    every: float | None = None,
    plot: Path | None = None,
    false_alarms: str | None = None,
    period: float | None = None,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Score recordings: how anomalous each is, whether it is above the threshold, and when it was most anomalous.

    A recording at least one and a half times as long as the training clips, or with --every any longer one, is scored
    in steps of their length: it has a row per step, and a line says when it was anomalous.

    Exit status: 0, nothing is anomalous; 1, nothing is anomalous, but a recording could not be scored, or there is no
    threshold to decide by; 2, the detector or a setting is wrong, and nothing was scored; 3, at least one recording, or
    step of one, is anomalous.

    Args:
        recordings: the recordings: wav, mono, 16 bit, at the rate of the training recordings; of a folder all that are
            in it and its subfolders.
        detector: the detector (zip); asd fit makes it, or snakemake results/detectors/<machine>.zip.
        section: the section of the machine. By default each recording is scored as the section with the lowest
            standardised score.
        format: a table (highest standardised score first), CSV, or one JSON object per line. start is the time in
            seconds at which a step begins; standardised is the score in standard deviations above the mean of the
            section's training clips; worst is the time in seconds of the middle of the worst window, if the model sees
            windows; seconds is the length of the recording or step; remark says if it is silent.
        convert: take recordings of any format and rate, and resample them.
        channel: if recordings have several channels: mix takes their mean, a number takes one channel (from 1).
        every: seconds from one step to the next in long recordings; by default the length of the training clips, which
            is also that of a step.
        plot: a folder for a picture of each recording (SVG and PNG).
        false_alarms: how many false alarms are wanted: a share of the normal recordings (0.01), or a number in a time
            (1/day, 1/hour, 1/week). By default the detector's thresholds decide.
        period: seconds from the beginning of one recording to that of the next, for --false-alarms in a time; by
            default those from one step to the next, or the length of the training recordings.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: number of threads.

    Raises:
        InputError: there are no recordings, or the detector or a setting is wrong.
    """
    from asd.drift import FEWEST, Drift

    if not recordings:
        raise InputError("found no recordings; name them: asd score --detector fan.zip recordings/*.wav")
    loaded = _with_false_alarms(_loaded(detector, convert, channel, device, threads), false_alarms, period, every)
    _check(loaded, section, every)
    named = recordings_in(recordings)
    scored = [rows for rows in rows_of_each(loaded, named, section, every, plot) if rows]
    found = [row for rows in scored for row in rows]
    print_rows(found, format)
    tell_steps(scored)
    failed = len(named) - len(scored)
    if failed:
        log.error("%d of %d recordings could not be scored", failed, len(named))
    warn_of_lengths(loaded, found)
    warn_of_undecided(loaded, found)
    warn_of_remarks(found)
    if len(found) >= FEWEST:
        warn_of_drift(Drift(loaded.training), found)
    if any(row["decision"] == "anomalous" for row in found):
        return ANOMALOUS
    return INCOMPLETE if failed or any(row["decision"] is None for row in found) else NONE


def watch(
    folder: tyro.conf.Positional[Path],
    *,
    detector: Path,
    out: Path | None = None,
    section: str | None = None,
    every: float | None = None,
    interval: float = 2.0,
    once: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    after: int = 1,
    webhook: str | None = None,
    exec: Program = None,
    false_alarms: str | None = None,
    period: float | None = None,
    convert: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    channel: Channel = None,
    device: str = "cpu",
    threads: int = 2,
) -> int:
    """Score the recordings that appear in a folder, until it is interrupted (Ctrl-C).

    A recording is scored if it has not changed for an interval. Its result is printed, and appended to the log as one
    line of JSON. Recordings that are in the log are not scored again, also after a restart. A recording that cannot be
    read or scored is named, and the others are scored; with --once the exit status is then 1, otherwise 0.

    Long recordings are scored in steps, as by asd score. An alarm is raised by anomalous recordings (or steps) in a
    row, once: the next alarm follows only after a normal one.

    Args:
        folder: the folder; its subfolders are watched, too.
        detector: the detector (zip); asd fit makes it, or snakemake results/detectors/<machine>.zip.
        out: the log; by default asd.jsonl in the folder.
        section: the section of the machine. By default each recording is scored as the section with the lowest
            standardised score.
        every: seconds from one step to the next in long recordings; by default the length of the training clips, which
            is also that of a step.
        interval: seconds from one look to the next.
        once: score the recordings that are there now, and end.
        after: number of anomalous recordings in a row that raise an alarm.
        webhook: an address (http:// or https://) that gets each alarm as JSON, in a POST request.
        exec: a program that is run at each alarm, and gets the JSON on its standard input. Must be the last option: all
            words after it are the program and its arguments.
        false_alarms: how many false alarms are wanted: a share of the normal recordings (0.01), or a number in a time
            (1/day, 1/hour, 1/week). By default the detector's thresholds decide.
        period: seconds from the beginning of one recording to that of the next, for --false-alarms in a time; by
            default those from one step to the next, or the length of the training recordings.
        convert: take recordings of any format and rate, and resample them.
        channel: if recordings have several channels: mix takes their mean, a number takes one channel (from 1).
        device: auto, cpu, cuda, cuda:N or mps.
        threads: number of threads.

    Raises:
        InputError: the detector or a setting is wrong, or the log cannot be written.
    """
    from asd.drift import LAST, Drift
    from asd.notify import Alarms
    from asd.watch import Watched

    if not 0 < interval < 86400:
        raise InputError(f"--interval: found {interval}; expected seconds between two looks, more than 0")
    loaded = _with_false_alarms(_loaded(detector, convert, channel, device, threads), false_alarms, period, every)
    _check(loaded, section, every)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is ended as by Ctrl-C
    with closing(Watched(folder, out or folder / "asd.jsonl")) as watched:
        watched.ready()
        what = f"{loaded.description.machine}, {loaded.description.title}"
        done = f"{len(watched.done)} done before"
        alarms = Alarms(after, exec, webhook, watched.decisions)
        print(f"watching {folder} ({what}; {done}); Ctrl-C ends it", file=sys.stderr, flush=True)
        failed, lost, drift = False, 0, Drift(loaded.training, LAST)
        try:
            while True:
                time.sleep(interval)
                for stamp in watched.ready():
                    add = partial(watched.append, stamp)
                    failed |= not _watched(loaded, folder / stamp[0], section, every, add, alarms, drift)
                if once:
                    break
        except KeyboardInterrupt:
            once = False
        finally:
            lost = alarms.close()
        return INCOMPLETE if once and (failed or watched.left_out or lost) else NONE


def _watched(
    detector: "Detector",
    path: Path,
    section: str | None,
    every: float | None,
    append: Callable[[list[dict]], None],
    alarms: "Alarms",
    drift: "Drift",
) -> bool:
    """Score a recording, print and append the results, and raise alarms; return whether it could be scored."""
    from asd.steps import clock

    if not os.path.lexists(path):  # moved away meanwhile
        return True
    now = datetime.now(UTC).isoformat()
    try:
        rows = rows_of(detector, path, section, every)
    except InputError as error:
        log.error("%s", message_of(path, error))
        append([{"error": message_of(path, error), "scored": now}])
        return False
    warn_of_lengths(detector, rows)
    warn_of_undecided(detector, rows)
    warn_of_remarks(rows)
    warn_of_drift(drift, rows)
    for row in rows:
        row |= {"scored": now, "alarm": alarms.raised(row["decision"])}
        if row["alarm"]:  # before the log is written, whose disk may be full
            told = {"machine": detector.description.machine, "in_a_row": alarms.after, **row}
            alarms.tell(told | {"file": str(path.absolute())})
        place = "" if row["start"] is None else f"  {clock(row['start'])}"
        said = "  ALARM" if row["alarm"] else ""
        print(f"{row['decision'] or '-':9}  {row['score']:10.4g}  {path}{place}{said}", flush=True)
    tell_steps([rows])
    append([{key: value for key, value in row.items() if key != "file"} for row in rows])  # there it is relative
    return True


def listen(
    *,
    detector: Path,
    section: str | None = None,
    rate: int | None = None,
    channels: int | None = None,
    channel: Channel = None,
    every: float | None = None,
    after: int = 1,
    webhook: str | None = None,
    exec: Program = None,
    false_alarms: str | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Score sound as it comes: samples from standard input, until it ends or is interrupted (Ctrl-C).

        arecord -t raw -f S16_LE -r 16000 | asd listen --detector fan.zip >> fan.jsonl

    The input is raw PCM (16 bit, little-endian: S16_LE) or a wav of it. A step as long as the training clips is scored
    as soon as its sound is complete, and printed as a line of JSON. If no sound comes for two seconds, and when the
    input ends, there is a warning, and a line with a remark and without a score is printed.

    Exit status: 0; 1 if the input ended before the first step, or an alarm could not be delivered.

    Args:
        detector: the detector (zip); asd fit makes it, or snakemake results/detectors/<machine>.zip.
        section: the section of the machine. By default each step is scored as the section with the lowest standardised
            score.
        rate: rate of the input in Hz; it is resampled if the detector has another one. By default that of a wav's
            header, or else the detector's.
        channels: number of channels of the input; by default that of a wav's header, or else one.
        channel: if there are several channels: mix takes their mean, a number takes one channel (from 1).
        every: seconds from one step to the next; by default the length of the training clips.
        after: number of anomalous steps in a row that raise an alarm; the next one follows only after a normal step.
        webhook: an address (http:// or https://) that gets each alarm as JSON, in a POST request.
        exec: a program that is run at each alarm, and gets the JSON on its standard input. Must be the last option: all
            words after it are the program and its arguments.
        false_alarms: how many false alarms are wanted: a share of the normal steps (0.01), or a number in a time
            (1/day, 1/hour, 1/week). By default the detector's thresholds decide.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: number of threads.

    Raises:
        InputError: the detector, a setting or the input is wrong.
    """
    from asd.listen import Pcm
    from asd.notify import Alarms

    if sys.stdin is None or sys.stdin.isatty():
        found = "closed" if sys.stdin is None else "a terminal"
        raise InputError(
            f"standard input is {found}; expected sound, for example: arecord -t raw -f S16_LE -r 16000 | asd listen "
            "--detector fan.zip"
        )
    loaded = _loaded(detector, False, channel, device, threads)
    _check(loaded, section, every)
    loaded = _with_false_alarms(loaded, false_alarms, None, every)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is ended as by Ctrl-C
    alarms = Alarms(after, exec, webhook)
    what, settings = f"{loaded.description.machine}, {loaded.description.title}", loaded.description.logmel
    print(f"listening ({what}; {settings.rate} Hz); Ctrl-C ends it", file=sys.stderr, flush=True)
    scored, lost = 0, 0
    try:
        pcm = Pcm(sys.stdin.fileno(), rate, channels, settings)
        scored = _listened(loaded, pcm, section, every, alarms)
    except KeyboardInterrupt:
        scored = 1
    finally:
        lost = alarms.close()
    return NONE if scored and not lost else INCOMPLETE


def _listened(detector: "Detector", pcm: "Pcm", section: str | None, every: float | None, alarms: "Alarms") -> int:
    """Score the input step by step, print the results, and raise alarms; return the number of steps at its end."""
    from asd.drift import LAST, Drift
    from asd.steps import clock, cut, step_samples

    def emit(row: dict) -> None:
        try:
            print(json.dumps(row), flush=True)
        except BrokenPipeError:  # its reader has ended
            raise
        except OSError as error:
            raise InputError(f"standard output: cannot be written ({error.strerror}), so the listening ends") from None

    def say(remark: str) -> None:
        log.warning("%s", remark)
        emit({"start": pcm.seconds, "remark": remark, "scored": datetime.now(UTC).isoformat()})

    settings, window = detector.description.logmel, detector.description.samples
    step = step_samples(every, window, settings.rate)
    scored, before, slow, undecided = 0, "", False, set()
    drift = Drift(detector.training, LAST)
    for start, waveform in cut(pcm.blocks(say), window, step):
        if len(waveform) < window:  # the input ended before the first step
            break
        begun, second = time.monotonic(), start / settings.rate
        row = row_of(detector, Path(), second, window / settings.rate, detector.score(waveform, settings.rate, section))
        del row["file"]
        row["remark"] = "; ".join(filter(None, [row["remark"], pcm.gap_in(second, window / settings.rate)]))
        row |= {"scored": datetime.now(UTC).isoformat(), "alarm": alarms.raised(row["decision"])}
        if row["alarm"]:
            alarms.tell({"machine": detector.description.machine, "in_a_row": alarms.after, **row})
        emit(row)
        scored += 1
        if row["remark"] and row["remark"] != before:
            log.warning("%s: %s", clock(second), row["remark"])
        before = row["remark"]
        warn_of_drift(drift, [row])
        if row["decision"] is None and row["section"] not in undecided:
            undecided.add(row["section"])
            warn_of_undecided(detector, [row])
        took = time.monotonic() - begun
        if took > step / settings.rate and not slow:
            slow = True
            log.warning(
                "scoring a step took %.2f s, and there is one every %.2f s: if this continues, results come late, and "
                "sound may be lost; set --every to more seconds",
                *(took, step / settings.rate),
            )
    say(pcm.end())
    if not scored:
        log.error("nothing was scored: a step takes %.2f s", window / settings.rate)
    return scored


def export(
    *,
    detector: Path,
    onnx: Path,
    source: Annotated[Literal["logmel", "waveform"], tyro.conf.arg(name="from")] = "logmel",
    threads: int = 2,
) -> int:
    """Write a detector as one ONNX graph up to the score, check it against torch, and print its size and speed.

    Args:
        detector: the detector (zip); asd fit makes it, or snakemake results/detectors/<machine>.zip.
        onnx: the graph to write. It computes score (batch, sections).
        source: what it computes it from: logmel (batch, mels, frames) in dB, or waveform (batch, samples) with full
            scale at 1, so that a device needs onnxruntime only.
        threads: number of threads of torch, whose speed is printed beside that of the graph.
    """
    from asd.export import export as write

    found = write(_loaded(detector, False, None, "cpu", threads), onnx, source)
    print(
        f"{onnx}: {found['megabytes']:.1f} MB, within {found['difference']:.1e} of torch's scores; "
        f"{1000 * found['latency']:.1f} ms per row with onnxruntime, {1000 * found['torch']:.1f} ms with torch"
    )
    return NONE


def _loaded(path: Path, convert: bool, channel: Channel, device: str, threads: int) -> "Detector":
    from pydantic import ValidationError

    from asd.detector import Detector
    from asd.settings import Compute, LogMel

    changed = {"convert": True} if convert else {}
    changed |= {"channel": channel} if channel is not None else {}
    try:
        compute = Compute(device=device, threads=threads)
        detector = Detector.load(path)
        logmel = LogMel.model_validate(detector.description.logmel.model_dump() | changed)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--{first['loc'][0]}: {first['msg']}; found {first['input']!r}") from None
    detector.description = detector.description.model_copy(update={"logmel": logmel})
    networks = [loaded.network for loaded in detector.members if loaded.network]
    if networks:  # a spectrum needs no torch, whose import takes seconds
        from asd.device import prepare

        chosen = prepare(compute)
        for network in networks:
            network.to(chosen)
    return detector


def _with_false_alarms(
    detector: "Detector", wanted: str | None, period: float | None, every: float | None
) -> "Detector":
    """The detector with thresholds for the wanted rate of false alarms; warns if it has too few recordings for it."""
    from asd.threshold import per_clip

    if wanted is None and period is not None:
        raise InputError(f"--period: found {period:g}, but no --false-alarms in a time (1/day); give both, or neither")
    if wanted is None:
        return detector
    length = detector.description.samples / detector.description.logmel.rate
    seconds = next(one for one in (period, every, length) if one is not None)
    detector, remarks = detector.with_false_alarms(per_clip(wanted, seconds))
    for line in remarks:
        log.warning("%s", line)
    return detector


def _check(detector: "Detector", section: str | None, every: float | None) -> None:
    """Refuse a section that the detector does not know, and a step of no length."""
    from asd.steps import step_samples

    step_samples(every, detector.description.samples, detector.description.logmel.rate)
    if section is not None and section not in detector.description.sections:
        raise InputError(f"--section: found {section}; the detector knows {', '.join(detector.description.sections)}")


def main() -> None:
    """Run the command.

    Raises:
        SystemExit: always, with the command's status.
    """
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version

        print(f"asd {version('asd')}")
        return
    before_torch()
    say_anything()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    words = sys.argv[1:]
    if "--exec" in words:  # all words after it are one value, also those that look like options
        begin = words.index("--exec") + 1
        words[begin:] = [shlex.join(words[begin:])]
    try:
        commands = {"fit": fit, "update": update, "score": score, "watch": watch, "listen": listen, "export": export}
        if words and words[0] in commands:  # no parsers of the others, which take longer than scoring a recording
            status = tyro.cli(commands[words[0]], prog=f"asd {words[0]}", args=words[1:])
        else:
            status = tyro.extras.subcommand_cli_from_dict(commands, prog="asd", description=__doc__, args=words)
        sys.stdout.flush()  # here a reader that has ended is no error; at Python's exit it would be one
    except BrokenPipeError:  # the reader (head, less) has ended; what Python flushes at its end is discarded
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except (InputError, OSError) as error:  # OSError: a file that cannot be written
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    raise SystemExit(status)
