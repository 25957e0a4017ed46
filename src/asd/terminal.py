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


@dataclass
class Stage:
    """What is known of a stage's jobs.

    Attributes:
        ended: number of jobs that have ended.
        took: seconds that these took together.
        waiting: number of jobs that have not begun.
        known: number of those that an earlier run had.
        earlier: seconds that they took there together.
    """

    ended: int = 0
    took: float = 0.0
    waiting: int = 0
    known: int = 0
    earlier: float = 0.0

    def wait(self, job: Job, number: int) -> None:
        """Count a job as waiting (1), or no longer (-1)."""
        self.waiting += number
        if job.earlier is not None:
            self.known += number
            self.earlier += number * job.earlier


class Progress:
    """How far the jobs of a run are; times are in seconds of any clock.

    It keeps sums, so that what the end of a job takes does not grow with the number of jobs.
    """

    def __init__(self, jobs: dict[int, Job], now: float) -> None:
        """Take the jobs that are to run (number -> job) at the time `now`."""
        self.jobs = jobs
        self.began = now
        self.running: dict[int, Job] = {}
        self.stages: dict[str, Stage] = {}
        self.same: dict[tuple[str, str], list[Job]] = {}
        for job in jobs.values():
            self.stages.setdefault(job.stage, Stage()).wait(job, 1)
            self.same.setdefault((job.stage, job.machine), []).append(job)
        self.coming = {of: len(same) for of, same in self.same.items()}
        self.widths = [max(map(len, names), default=0) for names in zip(*self.same, strict=True)]

    def begin(self, numbers: Iterable[int], now: float) -> None:
        """Note that jobs have begun; other numbers than those of the run are left alone."""
        for number in numbers:
            if job := self.jobs.get(number):
                self._leave(number, job)
                self.running[number] = job
                job.begun = now

    def end(self, number: int, now: float) -> str:
        """Note that a job has ended; return a line that says so if it is the last of its stage and machine, else ""."""
        job = self.jobs.get(number)
        if job is None:
            return ""
        self._leave(number, job)
        job.took = now - (self.began if job.begun is None else job.begun)
        stage, of = self.stages[job.stage], (job.stage, job.machine)
        stage.ended += 1
        stage.took += job.took
        self.coming[of] -= 1
        if self.coming[of]:
            return ""
        same = self.same[of]
        took = duration(sum(one.took or 0 for one in same)) + (f" in {len(same)} jobs" if len(same) > 1 else "")
        stage, machine = (name.ljust(width) for name, width in zip(of, self.widths, strict=True))
        return f"{self._count()}  {stage}  {machine}  {took}" + self._left(now) + _warned(same)

    def _leave(self, number: int, job: Job) -> None:
        """Take a job from those that wait or run."""
        if self.running.pop(number, None) is None:
            self.stages[job.stage].wait(job, -1)

    def fail(self, number: int) -> str:
        """Return the lines that say that a job has failed: its name, and the end of its log.

        Of the log's INFO lines only the last one is shown, so that warnings are seen.
        """
        job = self.jobs.get(number)
        if job is None:
            return f"failed: job {number}"
        self._leave(number, job)
        self.stages[job.stage].wait(job, 1)
        job.begun = None
        said = tail(job.log) if job.log else []
        if not said:
            return f"failed: {job.name}" + (f"; {job.log} says nothing" if job.log else "")
        told = [number for number, line in enumerate(said) if line.startswith("INFO ")]
        shown = [line for number, line in enumerate(said) if number not in told[:-1]]
        return "\n    ".join([f"failed: {job.name}; the end of {job.log}:", *shown[-TAIL:]])

    def waiting(self, now: float) -> str:
        """Return a line that says which jobs run, how far the one that began first is, and the time that is left."""
        running = list(self.running.values())  # a copy, since jobs begin and end in other threads
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
        running, ended = list(self.running.values()), sum(one.ended for one in self.stages.values())
        took = sum(one.took for one in self.stages.values())
        means = {name: one.took / one.ended for name, one in self.stages.items() if one.ended}
        waiting = known = 0
        rest = 0.0
        for name, one in self.stages.items():
            waiting += one.waiting
            known += one.waiting if name in means else one.known
            rest += means[name] * one.waiting if name in means else one.earlier
        times = [means.get(job.stage, job.earlier) for job in running]
        sure = [one for one in times if one is not None]
        if 2 * (ended + known + len(sure)) < len(self.jobs) or now <= self.began:
            return None
        usual = (rest + sum(sure)) / (known + len(sure)) if known or sure else took / ended
        spent = [now - (job.begun or 0) for job in running]
        rest += (waiting - known) * usual
        rest += sum(max((usual if one is None else one) - gone, 0) for one, gone in zip(times, spent, strict=True))
        return rest / max((took + sum(spent)) / (now - self.began), 1)

    def _count(self) -> str:
        done, total = sum(one.ended for one in self.stages.values()), len(self.jobs)
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
