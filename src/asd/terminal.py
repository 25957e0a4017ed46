"""What a run says on the terminal: a line per finished stage and machine, what it waits for, and the time that is left.

The times of jobs are those of earlier runs until a job of the same stage has ended in this run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

TAIL = 20
"""Lines of a failed job's log that are shown."""


@dataclass
class Job:
    """A job of a run.

    Attributes:
        stage: its rule.
        machine: "" if it is of all machines.
        model: the model, network or other thing that it is of, or "".
        log: its log, in which it says how far it is; None if it has none.
        earlier: seconds that it took in an earlier run; None if there was none.
        begun: the time at which it began, in seconds of any clock; None if it has not.
        took: seconds that it took in this run; None if it has not ended.
    """

    stage: str
    machine: str = ""
    model: str = ""
    log: Path | None = None
    earlier: float | None = None
    begun: float | None = None
    took: float | None = None

    @property
    def name(self) -> str:
        """Stage, model and machine in words."""
        return " ".join(filter(None, (self.stage, self.model, self.machine)))


def earlier_seconds(benchmark: str | Path | None) -> float | None:
    """Return the seconds in a benchmark file of Snakemake; None if there is none that can be read."""
    try:
        header, *_, last = Path(benchmark or "").read_text(encoding="utf-8").splitlines()
        return float(dict(zip(header.split("\t"), last.split("\t"), strict=True))["s"])
    except (OSError, ValueError, KeyError):
        return None


def tail(path: Path, lines: int = 0) -> list[str]:
    """Return the last lines of a log that are not empty, all if `lines` is 0; none if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def duration(seconds: float) -> str:
    """Return a duration as a short text: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """How far the jobs of a run are; times are in seconds of any clock."""

    def __init__(self, jobs: dict[int, Job], now: float) -> None:
        """Take the jobs that are to run (number -> job) at the time `now`."""
        self.jobs = jobs
        self.began = now

    def begin(self, numbers: Iterable[int], now: float) -> None:
        """Note that jobs have begun; other numbers than those of the run are left alone."""
        for number in numbers:
            if job := self.jobs.get(number):
                job.begun = now

    def end(self, number: int, now: float) -> str:
        """Note that a job has ended; return a line that says so if it is the last of its stage and machine, else ""."""
        job = self.jobs.get(number)
        if job is None:
            return ""
        job.took = now - (self.began if job.begun is None else job.begun)
        same = [one for one in self.jobs.values() if (one.stage, one.machine) == (job.stage, job.machine)]
        if any(one.took is None for one in same):
            return ""
        stages, machines = ([getattr(one, key) for one in self.jobs.values()] for key in ("stage", "machine"))
        took = duration(sum(one.took or 0 for one in same)) + (f" in {len(same)} jobs" if len(same) > 1 else "")
        stage, machine = job.stage.ljust(max(map(len, stages))), job.machine.ljust(max(map(len, machines)))
        return f"{self._count()}  {stage}  {machine}  {took}" + self._left(now) + _warned(same)

    def fail(self, number: int) -> str:
        """Return the lines that say that a job has failed: its name, and the end of its log.

        Of the log's INFO lines only the last one is shown, so that warnings are seen.
        """
        job = self.jobs.get(number)
        if job is None:
            return f"failed: job {number}"
        job.begun = None
        said = tail(job.log) if job.log else []
        if not said:
            return f"failed: {job.name}" + (f"; {job.log} says nothing" if job.log else "")
        told = [number for number, line in enumerate(said) if line.startswith("INFO ")]
        shown = [line for number, line in enumerate(said) if number not in told[:-1]]
        return "\n    ".join([f"failed: {job.name}; the end of {job.log}:", *shown[-TAIL:]])

    def waiting(self, now: float) -> str:
        """Return a line that says which jobs run, how far the one that began first is, and the time that is left."""
        running = [one for one in self.jobs.values() if one.begun is not None and one.took is None]
        if not running:
            return ""
        first = min(running, key=lambda one: one.begun or 0)
        said = tail(first.log, 1) if first.log else []
        far = (
            f" ({shorten(said[0].removeprefix('INFO '), 60, placeholder=' …')})"
            if said and said[0].startswith("INFO ")
            else ""
        )
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        return f"{self._count()}  running: {first.name}{far}{more}{self._left(now)}"

    def left(self, now: float) -> float | None:
        """Return the seconds that are left; None while less than half of the jobs have a time.

        A job is expected to take as long as the jobs of its stage took in this run, or else as long as it took itself
        in an earlier run, or else the mean of the known times. As many jobs are expected to run at the same time as
        until now.
        """
        done = [job for job in self.jobs.values() if job.took is not None]
        coming = [job for job in self.jobs.values() if job.took is None]
        stages: dict[str, list[float]] = {}
        for job in done:
            stages.setdefault(job.stage, []).append(job.took or 0)
        times = [sum(own) / len(own) if (own := stages.get(job.stage)) else job.earlier for job in coming]
        known = [one for one in times if one is not None]
        if 2 * (len(done) + len(known)) < len(self.jobs) or now <= self.began:
            return None
        usual = sum(known or [job.took or 0 for job in done]) / (len(known) or len(done))
        spent = [now - job.begun if job.begun is not None else 0 for job in coming]
        rest = sum(max((usual if one is None else one) - gone, 0) for one, gone in zip(times, spent, strict=True))
        return rest / max((sum(job.took or 0 for job in done) + sum(spent)) / (now - self.began), 1)

    def _count(self) -> str:
        done, total = sum(job.took is not None for job in self.jobs.values()), len(self.jobs)
        return f"{done:>{len(str(total))}} of {total}"

    def _left(self, now: float) -> str:
        left = self.left(now)
        return f", about {duration(left)} left" if left and left >= 1 else ""


def _warned(jobs: list[Job]) -> str:
    """How many warnings are in the logs of jobs, and where."""
    logs = [job.log for job in jobs if job.log]
    counts = {log: sum(line.startswith("WARNING") for line in tail(log)) for log in logs}
    number, first = sum(counts.values()), next((log for log, count in counts.items() if count), None)
    return f"; {number} warning{'s' if number > 1 else ''}, see {first}" if number else ""
