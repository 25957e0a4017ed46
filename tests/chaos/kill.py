"""Kill jobs, or snakemake itself, at random moments, and see that the same command ends with the same tables.

    python tests/chaos/kill.py --folder /tmp/chaos --kills 20 --seed 1

The chain runs on one tiny corpus, first undisturbed. Then it is run over and over: each time, after a random while, a
random job or snakemake is killed (SIGKILL), and the same command is given again: after a kill of snakemake at once,
while its orphaned jobs still write (`snakemake --unlock` first, as the README says). Whenever a run gets to its end,
the tables are compared byte for byte and everything is deleted for the next round.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TINY = {
    "dataset": {"demo": {"sections": 2, "train_source": 4, "train_target": 1, "test": 2, "seconds": 1.0}},
    "machines": ["fan"],
    "logmel": {"mels": 64},
    "train": {"epochs": 4, "batch": 5},
    "networks": {"oe": {"epochs": 20}},
    "metrics": {"resamples": 20, "splits": 5},
    "run_models": ["global", "oe"],
    "compute": {"threads": 1},
}


def snakemake(
    folder: Path,
    *arguments: str,
    configuration: dict = TINY,
    targets: tuple[str, ...] = ("results/tables/auc_total.csv",),
) -> subprocess.Popen:
    """Start snakemake in a folder; what it says is kept in the folder's file `said`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(configuration))
    command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, *arguments]
    command += ["--configfile", folder / "tiny.yaml", "--", *targets]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with (folder / "said").open("a") as said:
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=said, stderr=said)


def jobs_of(run: subprocess.Popen) -> list[int]:
    """The Python processes of the jobs that a snakemake has started."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text()
    found = []
    for number, command in commands.items():
        above = number
        while above in parents and above != run.pid:
            above = parents[above]
        if above == run.pid and command.startswith("python\0") and "workflow/scripts" in command:
            found.append(number)
    return found


def tables(folder: Path) -> dict[str, bytes]:
    """Every table of a finished run, scores and curves included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "results").rglob("*.csv"))}


@dataclass
class Count:
    """What happened."""

    of_jobs: int = 0
    of_snakemake: int = 0
    completed: int = 0
    continued: int = 0
    """Trainings that went on from a checkpoint."""


def disturb(calm: Path, wild: Path, kills: int, seed: int, longest: float) -> Count:
    """Kill until there were so many kills, then let the last run end.

    Args:
        calm: the folder of an undisturbed run.
        wild: the folder to run in; what is in it is deleted.
        longest: seconds until the latest kill; about as long as an undisturbed run takes, since a run that is killed
            earlier than its first jobs end gets nowhere.

    Raises:
        AssertionError: a run that did not end well, or another table than that of the undisturbed run.
    """
    chance, count = random.Random(seed), Count()
    expected = tables(calm)
    shutil.rmtree(wild, ignore_errors=True)
    while True:
        run = snakemake(wild, "--cores", "2")
        disturbed = count.of_jobs + count.of_snakemake < kills
        what = "none"
        if disturbed:
            what = chance.choice(["snakemake", "job"])
            moment = time.monotonic() + chance.uniform(0.5, longest)
            while run.poll() is None and (time.monotonic() < moment or (what == "job" and not jobs_of(run))):
                time.sleep(0.05)
            victims = [run.pid] if what == "snakemake" else jobs_of(run)
            if run.poll() is None and victims:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(chance.choice(victims), signal.SIGKILL)
        status = run.wait()
        for log in (wild / "results/logs/train").glob("*/*.log"):
            count.continued += "going on after epoch" in log.read_text()
        if status == 0:
            assert tables(wild) == expected, "other tables"
            assert not list((wild / "results/checkpoints").rglob("*.safetensors"))
            count.completed += 1
            print(f"completed, {len(expected)} tables as expected", flush=True)
            if not disturbed:
                return count
            for name in ("data", "results", ".snakemake"):
                shutil.rmtree(wild / name, ignore_errors=True)
        elif status == -signal.SIGKILL:
            count.of_snakemake += 1
            print(f"kill {count.of_jobs + count.of_snakemake}: snakemake", flush=True)
            assert snakemake(wild, "--cores", "2", "--unlock").wait() == 0
        else:
            assert what == "job", (wild / "said").read_text()
            count.of_jobs += 1
            print(f"kill {count.of_jobs + count.of_snakemake}: a job", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.monotonic()
    calm = arguments.folder / "undisturbed"
    assert snakemake(calm, "--cores", "2").wait() == 0, (calm / "said").read_text()
    longest = time.monotonic() - start
    print(f"undisturbed: {longest:.0f} s", flush=True)
    count = disturb(calm, arguments.folder / "disturbed", arguments.kills, arguments.seed, longest)
    print(f"{count} in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
