"""`make bench`: each stage against the plain recipe and against what the hardware allows, in one run.

Every job has a process of its own, which imports and loads what it needs, and then works when it is told to: plain,
ours, plain, ours, and so on, so that other work of the machine affects both. In a first round, which is not timed,
memory is measured and the two outcomes are compared. Times are medians, with the shortest and the longest.

Reads  nothing. Writes benchmarks/results/<processor>.json, docs/speed.md and docs/speed.svg, and prints the table.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jobs
import limits
import numpy as np
import report

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Stage:
    """A row of the table."""

    job: str
    """plain_<job> and our_<job> of `jobs`."""
    title: str
    target: float
    """The least ratio to the plain recipe."""
    limit: object
    """A function of the rates: the least seconds of the job."""
    tolerance: tuple[float, float]
    """Relative and absolute, of the outcomes."""
    threads: int = 2
    repeats: int = 3
    scale: float = 1.0
    """Factor of the plain recipe's time, if it does a part of the work only."""
    copies: int = 1
    """Processes that do the job at the same time, each the whole job."""
    memory: float = 1.0
    """The largest share of the plain recipe's memory, if there is a target for it."""


# A clip of 313 frames has 250 windows of 64 frames at hop 1.
STAGES = {
    "logmel": Stage(
        "logmel",
        f"log-mel, {jobs.CLIPS} clips of 10 s, wav to HDF5, 1 thread",
        2.0,
        lambda rate: limits.log_mel(rate, jobs.CLIPS),
        (0, 1e-3),
        threads=1,
        repeats=5,
    ),
    "logmel2": Stage(
        "logmel",
        "the same by 2 processes at once, each all clips",
        2.0,
        lambda rate: limits.log_mel(rate, jobs.CLIPS),
        (0, 1e-3),
        threads=1,
        repeats=5,
        copies=2,
    ),
    "train": Stage(
        "train",
        f"train, B1, 224×313, {jobs.TRAINED} clips in batches of {jobs.BATCH}",
        1.4,
        lambda rate: limits.network(rate, 313, jobs.TRAINED, passes=3),
        (1e-3, 0),
    ),
    "features": Stage(
        "features",
        f"features, B1, {jobs.TRAINED} whole clips",
        2.5,
        lambda rate: limits.network(rate, 313, jobs.TRAINED),
        (1e-3, 1e-3),
    ),
    "local": Stage(
        "local",
        f"CNN-Local, hop 1: features and score of {jobs.SCORED} clips",
        3.0,
        lambda rate: limits.network(rate, 64, 250 * jobs.SCORED),
        (1e-3, 0),
    ),
    "waveform": Stage(
        "waveform",
        f"network of the waveform, {jobs.TRAINED} clips: an epoch, features, nearest neighbours; asdkit's data path",
        1.0,
        lambda rate: limits.waveform(rate, 160000, jobs.TRAINED, passes=4),
        (1e-3, 1e-5),
    ),
    "section": Stage(
        "section",
        f"Gaussian, {jobs.ROWS} × {jobs.FEATURES}: fit, {jobs.NEW} distances",
        15.0,
        lambda rate: limits.gaussian(rate, jobs.ROWS, jobs.FEATURES, jobs.NEW),
        (1e-6, 0),
        repeats=5,
    ),
    "windows": Stage(
        "windows",
        f"Gaussian from {jobs.WINDOWS} windows: fit",
        3.0,
        lambda rate: limits.gaussian(rate, jobs.WINDOWS, jobs.FEATURES, 0, disk=True),
        (1e-6, 0),
        memory=0.25,
    ),
    "bootstrap": Stage(
        "bootstrap",
        f"bootstrap, {jobs.RESAMPLES} resamples, all figures, 21 sections",
        50.0,
        lambda rate: limits.bootstrap(rate, 21, 200, jobs.RESAMPLES),
        (1e-9, 0),
        scale=(1 + jobs.RESAMPLES) / (1 + jobs.PLAIN_RESAMPLES),
    ),
}


# --- a job's process ----------------------------------------------------------------------------------------


def serve(name: str, data: Path) -> None:
    """Be the process of a job: for each line of the input do it once, and print how long it took and its memory."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    work, outcome = getattr(jobs, name)(data)
    for line in sys.stdin:
        before = _memory("VmRSS")
        begin, busy = time.perf_counter(), time.process_time()
        found = work()
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        answer = {"seconds": seconds, "busy": busy, "peak": _memory("VmHWM"), "before": before}
        if line.strip() == "check":
            np.save(data / f"{name}.npy", outcome(found))
        del found
        print(json.dumps(answer), file=said, flush=True)


def _memory(field: str) -> float:
    """Megabytes of this process: resident now (VmRSS), or at most (VmHWM)."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


class Worker:
    """The process of a job, from the outside."""

    def __init__(self, name: str, data: Path, threads: int) -> None:
        many = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(many, str(threads))
        if name.startswith("our_"):
            environment["OMP_WAIT_POLICY"] = "PASSIVE"  # as our scripts set it; the plain recipe has the default
        words = [sys.executable, __file__, "--serve", name, "--data", str(data)]
        self.name, self.data = name, data
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, stderr=subprocess.PIPE
        )

    def begin(self, what: str) -> None:
        """Start the job once."""
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, float]:
        """Wait until it is done, and return its time and memory."""
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended:\n{self.process.stderr.read()}")
        return json.loads(answer)

    def outcome(self) -> np.ndarray:
        """The outcome that the job stored for the comparison."""
        return np.load(self.data / f"{self.name}.npy")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()


def together(workers: list[Worker], what: str = "work") -> dict[str, float]:
    """Run the jobs of processes at the same time; return the time of the slowest, processor time and memory of all."""
    for number, worker in enumerate(workers):
        worker.begin(what if number == 0 else "work")  # they share the file of the outcome
    answers = [worker.end() for worker in workers]
    summed = {key: sum(answer[key] for answer in answers) for key in ("busy", "peak", "before")}
    return summed | {"seconds": max(answer["seconds"] for answer in answers)}


# --- a stage ------------------------------------------------------------------------------------------------


def measure(stage: Stage, data: Path, rate: dict[str, float], repeats: int | None = None) -> dict:
    """Measure both sides of a stage in turn, and return a row of the results.

    Args:
        stage: the stage.
        data: the folder of the jobs' files.
        rate: as `limits.rates` measured them.
        repeats: timed rounds; None: those of the stage.

    Raises:
        AssertionError: they do not agree.
    """
    names = {"plain": f"plain_{stage.job}", "ours": f"our_{stage.job}"}
    with ExitStack() as stack:
        workers = {
            side: [stack.enter_context(Worker(name, data, stage.threads)) for _ in range(stage.copies)]
            for side, name in names.items()
        }
        first = {side: together(own, "check") for side, own in workers.items()}
        (plain, *_), (ours, *_) = workers.values()
        relative, absolute = stage.tolerance
        expected, found = plain.outcome(), ours.outcome()
        np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute, err_msg=stage.title)
        answers = {"plain": [], "ours": []}
        for _ in range(repeats or stage.repeats):
            for side, own in workers.items():
                answers[side].append(together(own))
    row = {"title": stage.title, "threads": stage.threads, "target": stage.target, "memory_target": stage.memory}
    for side, factor in (("plain", stage.scale), ("ours", 1.0)):
        times = [answer["seconds"] for answer in answers[side]]
        row[side] = {
            "seconds": factor * statistics.median(times),
            "shortest": factor * min(times),
            "longest": factor * max(times),
            "processor_seconds": factor * statistics.median(answer["busy"] for answer in answers[side]),
            "measured_share": 1 / factor,
            "peak_mb": first[side]["peak"],
            "own_mb": first[side]["peak"] - first[side]["before"],
        }
    row["ratio"] = row["plain"]["seconds"] / row["ours"]["seconds"]
    row["limit_seconds"] = stage.limit(rate)
    row["of_limit"] = row["limit_seconds"] / row["ours"]["seconds"]
    row["difference"] = float(np.abs(found - expected).max())
    return row


def helps(repeats: int) -> dict:
    """The slowest script's `--help`; beside it the imports that a script of this kind usually begins with."""
    scripts = sorted((ROOT / "workflow/scripts").glob("*.py"))
    usual = "import h5py, librosa, numpy, pandas, scipy.linalg, sklearn.covariance, soundfile, timm, torch, tyro"
    times = {script.name: [] for script in scripts} | {"plain": []}
    for _ in range(repeats):
        times["plain"].append(_duration([sys.executable, "-c", usual]))
        for script in scripts:
            times[script.name].append(_duration([sys.executable, str(script), "--help"]))
    middle = {name: statistics.median(one) for name, one in times.items()}
    slowest = max((name for name in middle if name != "plain"), key=middle.get)
    floor = statistics.median(_duration([sys.executable, "-c", "import tyro, pydantic"]) for _ in range(repeats))
    return _command(f"--help, the slowest of {len(scripts)} scripts ({slowest})", times, slowest, floor, 0.5)


def dry_run(data: Path, repeats: int) -> dict:
    """`snakemake -n` of the paper's whole graph; the limit is that of a workflow of one rule."""
    one = data / "one/Snakefile"
    one.parent.mkdir(exist_ok=True)
    one.write_text("rule all:\n    output: 'out'\n    shell: 'touch out'\n")
    words = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--directory", str(one.parent), "--snakefile"]
    times = {"ours": [], "floor": []}
    for _ in range(repeats):
        times["floor"].append(_duration([*words, str(one)]))
        times["ours"].append(_duration([*words, str(ROOT / "Snakefile"), "--configfile", str(PAPER)]))
    title = "snakemake -n, the paper's whole graph"
    return _command(title, times, "ours", statistics.median(times["floor"]), 4.0)


PAPER = ROOT / "config/dcase2022.yaml"


def _duration(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, capture_output=True, check=True)
    return time.perf_counter() - begin


def _command(title: str, times: dict[str, list[float]], ours: str, floor: float, target: float) -> dict:
    def side(name: str) -> dict:
        one = times[name]
        return {"seconds": statistics.median(one), "shortest": min(one), "longest": max(one)}

    row = {"title": title, "target_seconds": target, "ours": side(ours)}
    if "plain" in times:
        row["plain"] = side("plain")
        row["ratio"] = row["plain"]["seconds"] / row["ours"]["seconds"]
    return row | {"limit_seconds": floor, "of_limit": floor / row["ours"]["seconds"]}


# --- the whole ----------------------------------------------------------------------------------------------


def main() -> None:
    """Measure all stages, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*STAGES, "help", "dry"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure these and keep other results")
    parser.add_argument("--repeats", type=int, help="timed rounds of each stage; by default three or five")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve, chosen.data)
        return
    # Bytecode is written, as by default; some containers forbid it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    out = ROOT / f"benchmarks/results/{machine()}.json"
    before = json.loads(out.read_text())["stages"] if out.exists() and chosen.only != names else {}
    with tempfile.TemporaryDirectory() as folder:
        data, page = Path(folder), ""
        if set(chosen.only) & set(STAGES):
            told("preparing")
            in_process(f"jobs.prepare(data, {chosen.only})", data, 2)
        rate = {str(threads): in_process("limits.rates(data)", data, threads) for threads in (1, 2)}
        for name in chosen.only:
            told(name)
            if name in STAGES:
                row = measure(STAGES[name], data, rate[str(STAGES[name].threads)], chosen.repeats)
            else:
                row = helps(chosen.repeats or 3) if name == "help" else dry_run(data, chosen.repeats or 3)
            before[name] = row
            page = write(out, {one: before[one] for one in names if one in before}, rate)
    print(page)


def write(out: Path, stages: dict[str, dict], rate: dict[str, dict[str, float]]) -> str:
    """Write the results and return the table; after each stage, so that an interrupted run leaves what it has."""
    results = {"date": str(date.today()), "machine": machine(), "versions": versions(), "rates": rate, "stages": stages}
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    return report.write(results, ROOT / "docs")


def in_process(what: str, data: Path, threads: int) -> object:
    """Return the value of the expression `what`, computed in a process of its own with this number of threads."""
    code = (
        f"import json, pathlib, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import torch; torch.set_num_threads({threads})\n"
        f"import jobs, limits; data = pathlib.Path({str(data)!r}); print(json.dumps({what}))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """The processor and its number of cores, as a file name."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    name = found[1] if found else platform.machine()
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {len(os.sched_getaffinity(0))} cores".lower()).strip("-")


def versions() -> dict[str, str]:
    """The versions of this project and of the packages that the measurements depend on."""
    names = ("asd", "h5py", "librosa", "numpy", "scikit-learn", "scipy", "snakemake", "timm", "torch")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def told(what: str) -> None:
    """Print what is being measured."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
