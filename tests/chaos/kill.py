"""Kill jobs, or snakemake itself, at random moments, and see that the same command ends with the same tables.

    python tests/chaos/kill.py --folder /tmp/chaos --kills 20 --seed 1

The chain runs on one tiny corpus, first undisturbed, then in rounds. In a round every job of the chain is disturbed
once, at a random moment, in one of three ways:

- The job is killed (SIGKILL); a training only after its first checkpoint.
- snakemake is killed, and the job goes on without it.
- snakemake is killed while the job is stopped. The next snakemake starts the same job, which waits for the old one.
  Then the old one continues and writes; in some cases the next snakemake is killed before that, too.

After each kill the same command is given again; if snakemake was killed, after `snakemake --unlock`, as the
documentation says. A job that was disturbed is left alone for the rest of the round, so that the round ends. Then the
tables are compared byte for byte, and everything is deleted for the next round.
"""

import argparse
import contextlib
import csv
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TINY = {
    "dataset": {"demo": {"sections": 2, "train_source": 4, "train_target": 1, "test": 2, "seconds": 1.0}},
    "machines": ["fan"],
    "logmel": {"mels": 64},
    "train": {"epochs": 4, "batch": 5, "last_stage": 9, "bands": 1},  # networks of 17 MB, checkpoints of 50
    "networks": {"oe": {"epochs": 40}},
    "metrics": {"resamples": 20, "splits": 5},
    "run_models": ["global", "oe"],
    "compute": {"threads": 1},
}
JOB, SNAKEMAKE, HELD = WAYS = "a job", "snakemake", "snakemake, its job held still"
WAITING = "snakemake, while its job waited for an orphan"
WAITS = "\nan earlier process of this job is still there"  # not as an error quotes the shell


def snakemake(
    folder: Path,
    *arguments: str,
    configuration: dict = TINY,
    program: tuple[str | Path, ...] = (BIN / "snakemake",),
) -> subprocess.Popen:
    """Start snakemake in a folder; what it says is kept in the folder's file `said`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(configuration))
    command = [*program, "--snakefile", ROOT / "Snakefile", "--directory", folder, *arguments]
    command += ["--configfile", folder / "tiny.yaml", "--", "results/tables/auc_total.csv", "results/provenance.json"]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with (folder / "said").open("a") as said:
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=said, stderr=said)


def jobs_in(folder: Path) -> dict[str, int]:
    """The Python processes of jobs that work in a folder, orphans too, by their logs (relative to the folder)."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile, or works elsewhere
            if (process / "cmdline").read_bytes().startswith(b"python\0"):
                found[str((process / "fd/2").readlink().relative_to(folder))] = int(process.name)
    return found


def is_below(number: int, ancestor: int) -> bool:
    """Whether a process descends from another one."""
    with contextlib.suppress(OSError):
        while number > 1 and number != ancestor:
            number = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    return number == ancestor


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is true, which its docstring names."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"waited in vain for {what.__doc__}"
        time.sleep(0.05)


def lengths(folder: Path) -> dict[str, float]:
    """Seconds that each job of a finished run took, by its log."""
    found = {}
    for path in sorted(folder.rglob("benchmarks/**/*.tsv")):
        with path.open() as file:
            seconds = float(next(csv.DictReader(file, delimiter="\t"))["s"])
        log = path.relative_to(folder).with_suffix(".log").as_posix().replace("/benchmarks/", "/logs/")
        assert (folder / log).exists(), log
        found[log] = seconds
    return found


def name(log: str) -> str:
    """What a job is called, from its log: data/…/logs/logmel/<digest>/fan.log is "logmel fan"."""
    parts = Path(log.replace("weights/logs/", "logs/weights/").partition("logs/")[2]).with_suffix("").parts
    return " ".join(part for part in parts if not re.fullmatch("[0-9a-f]{10}", part))


def checkpoint_of(log: Path) -> Path:
    """The checkpoint of a training."""
    return Path(str(log).replace("/logs/train/", "/checkpoints/")).with_suffix(".safetensors")


def tables(folder: Path) -> dict[str, bytes]:
    """Every table of a finished run, scores and curves included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "results").rglob("*.csv"))}


@dataclass
class Count:
    """What happened."""

    kills: Counter = field(default_factory=Counter)
    """(way, job) -> times."""
    completed: int = 0
    """Rounds that ended, with the tables of an undisturbed run."""
    continued: int = 0
    """Trainings that went on from a checkpoint."""
    waited: int = 0
    """Jobs that found an orphan of an earlier snakemake at work, and waited."""

    def of(self, log: str) -> int:
        """Kills during a job."""
        return sum(times for (_, job), times in self.kills.items() if job == name(log))

    def __str__(self) -> str:
        ways, jobs = Counter(), Counter()
        for (way, job), times in self.kills.items():
            ways[way] += times
            jobs[job] += times
        return "\n".join(
            [
                f"{self.kills.total()} kills: " + "; ".join(f"{times} of {way}" for way, times in ways.most_common()),
                "during " + ", ".join(f"{job} ({times})" for job, times in sorted(jobs.items())),
                f"{self.completed} rounds ended with the tables of an undisturbed run; {self.continued} trainings went "
                f"on from a checkpoint; {self.waited} jobs found an orphan at work and waited",
            ]
        )


class Round:
    """The chain in a folder of its own, from nothing, and what is yet to be struck there."""

    def __init__(self, folder: Path, strikes: dict[str, tuple[str, float]], chance: random.Random, count: Count):
        self.folder, self.strikes, self.chance, self.count = folder, strikes, chance, count
        self.run: subprocess.Popen
        self.held: int | None = None
        """An orphan that is held still."""
        self.patience = False
        """Whether the next snakemake is spared while its job waits for the orphan."""

    def go(self) -> None:
        """Give the command again and again, striking, until it ends well."""
        try:
            while not self._once():
                pass
            self.count.waited += (self.folder / "said").read_text().count(WAITS)
            wait_for(self._is_quiet)  # an orphan may still have something to spoil
        finally:
            self.run.poll() is None and self.run.kill()
            self.held and os.kill(self.held, signal.SIGKILL)

    def _is_quiet(self) -> bool:
        """the end of every process that works in the folder"""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == self.folder:
                    return False
        return True

    def _once(self) -> bool:
        """Give the command once; whether it ended well."""
        said = self.folder / "said"
        before = said.read_text().count(WAITS) if said.exists() else 0
        self.run = snakemake(self.folder, "--cores", "2")
        killed = self._wait_for_orphan(before) if self.held else False
        struck = None if killed else self._strike()
        status = self.run.wait()
        for log in self.folder.glob("results/logs/train/*/*.log"):
            if "continuing after epoch" in log.read_text():
                self.count.continued += 1
                log.unlink()  # so that it is counted once
        if status == -signal.SIGKILL:
            assert snakemake(self.folder, "--cores", "2", "--unlock").wait() == 0, said.read_text()
        else:
            # A job that was struck just as it ended by itself leaves snakemake to go on.
            assert status == 0 or struck == JOB, said.read_text()
        return status == 0

    def _wait_for_orphan(self, before: int) -> bool:
        """Let the orphan go on once its successor waits for it, or kill this snakemake too; whether it did that.

        Args:
            before: how often earlier snakemakes have said that a job waits.
        """

        def waiting() -> bool:
            """a job that waits for the orphan before it"""
            said = (self.folder / "said").read_text()
            assert self.run.poll() is None, said
            return said.count(WAITS) > before

        wait_for(waiting)
        if not self.patience and self.chance.random() < 0.5:
            self.patience = True
            self._hit(WAITING, next(log for log, number in jobs_in(self.folder).items() if number == self.held))
            return True
        os.kill(self.held, signal.SIGCONT)
        self.held, self.patience = None, False
        return False

    def _strike(self) -> str | None:
        """Watch the run until a strike is due, and return its way; None where the run ended before."""
        seen: dict[str, float] = {}
        while self.run.poll() is None:
            running = {log: number for log, number in jobs_in(self.folder).items() if is_below(number, self.run.pid)}
            for log in [log for log in self.strikes if log in running or log in seen]:
                way, moment = self.strikes[log]
                if way == JOB and "/train/" in log and not checkpoint_of(self.folder / log).exists():
                    continue
                if time.monotonic() < seen.setdefault(log, time.monotonic()) + moment:
                    continue
                if log in running and way != SNAKEMAKE:
                    # Where it has ended meanwhile, another round will strike it.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(running[log], signal.SIGKILL if way == JOB else signal.SIGSTOP)
                        self._hit(way, log, running[log])
                        return way
                elif way == SNAKEMAKE:  # be the job still there or not
                    self._hit(way, log)
                    return way
            time.sleep(0.05)
        return None

    def _hit(self, way: str, log: str, number: int = 0) -> None:
        if way == HELD:
            self.held = number
        if way != JOB:
            self.run.kill()
        self.strikes.pop(log, None)
        self.count.kills[way, name(log)] += 1
        print(f"kill {self.count.kills.total()}: {way}, during {name(log)}", flush=True)


def disturb(calm: Path, wild: Path, kills: int, seed: int) -> Count:
    """Run rounds until there were so many kills.

    Args:
        calm: the folder of an undisturbed run.
        wild: the folder to run in; what is in it is deleted.

    Raises:
        AssertionError: a run that did not end well, or another table than that of the undisturbed run.
    """
    chance, count = random.Random(seed), Count()
    expected, seconds = tables(calm), lengths(calm)
    while count.kills.total() < kills:
        shutil.rmtree(wild, ignore_errors=True)
        before = count.kills.total()
        logs = chance.sample(sorted(seconds), len(seconds))
        logs = sorted(logs, key=lambda log: "/train/" not in log)[
            : kills - before
        ]  # one training is killed in any case
        strikes = {}
        for log, way in zip(logs[: kills - before], itertools.cycle(WAYS)):
            # Snakemake has its own work once a job has ended: it may die then as well.
            latest = 1.2 if way == SNAKEMAKE else 0.03 if way == JOB and "/train/" in log else 0.7
            strikes[log] = way, chance.uniform(0, latest * seconds[log])
        Round(wild.resolve(), strikes, chance, count).go()
        assert count.kills.total() > before, "no job lived as long as in the undisturbed run"
        assert tables(wild) == expected, "other tables"
        assert not list((wild / "results/checkpoints").rglob("*.safetensors"))
        assert snakemake(wild, "--dry-run").wait() == 0
        assert (wild / "said").read_text().rstrip().endswith("up to date)."), "something is still to be done"
        count.completed += 1
        print(f"completed, {len(expected)} tables as expected", flush=True)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.monotonic()
    calm = arguments.folder / "undisturbed"
    assert snakemake(calm, "--cores", "2").wait() == 0, (calm / "said").read_text()
    print(f"undisturbed: {time.monotonic() - start:.0f} s", flush=True)
    count = disturb(calm, arguments.folder / "disturbed", arguments.kills, arguments.seed)
    print(f"{count}\n{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
