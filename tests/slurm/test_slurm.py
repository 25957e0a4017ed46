"""The chain on a real Slurm with four nodes, and what befalls jobs there: memory, a dead node, the time limit.

Run by `make test-slurm`, which brings the cluster up on this machine and takes it down.
"""

import contextlib
import filecmp
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kill import jobs_in, snakemake

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Cluster:
    """A Slurm that up.sh has brought up in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller knows, the fields of `scontrol show job` by name."""
        lines = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True).stdout.splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def of(self, rule: str) -> list[dict[str, str]]:
        """The jobs of a rule, in the order of their submission."""
        return [job for job in self.jobs() if f"rule_{rule}" in job.get("Comment", "")]

    def running(self, rule: str) -> dict[str, str] | None:
        """The last running job of a rule, if there is one."""
        return next((job for job in reversed(self.of(rule)) if job["JobState"] == "RUNNING"), None)

    def kill_node(self, name: str, job: str) -> None:
        """Kill a node's daemon, and the processes of a job on it, as a power failure would."""
        daemons = (self.folder / "processes").read_text().split("\n")
        (slurmd,) = [int(line.split()[0]) for line in daemons if line.endswith(f"slurmd-{name}")]
        steps = [process for process in processes() if re.match(rf"slurmstepd: \[{job}\b", process.command)]
        doomed = [
            slurmd,
            *(below.number for step in steps for below in descendants(step.number)),
            *(s.number for s in steps),
        ]
        for what in (signal.SIGSTOP, signal.SIGKILL):  # all held first, so that none can tell of the others' death
            for number in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, what)


class Process:
    """A process as /proc shows it."""

    def __init__(self, folder: Path) -> None:
        self.number = int(folder.name)
        self.command = (folder / "cmdline").read_text().replace("\0", " ")
        self.parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def processes() -> list[Process]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(Process(folder))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found


def descendants(number: int) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found, waiting = [], [number]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.number for process in below]
    return found


def wait_for(what: Callable[[], bool], run: subprocess.Popen, seconds: float = 300) -> None:
    """Wait for something to be true, as long as snakemake runs."""
    end = time.monotonic() + seconds
    while not what():
        assert run.poll() is None, "snakemake ended early"
        assert time.monotonic() < end, f"waited in vain for {what.__doc__}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    up = subprocess.run([HERE / "up.sh", folder], capture_output=True, text=True)
    try:
        if up.returncode == 77:
            pytest.skip(f"SLURM NOT TESTED: {up.stdout.strip()}")
        assert up.returncode == 0, up.stderr
        yield Cluster(folder)
    finally:
        subprocess.run([HERE / "down.sh", folder], check=True)


@pytest.fixture
def site(tmp_path):
    """profiles/slurm with a site's lines, no patience, and too little memory for the log-mels' first attempt.

    Slurm asks once per second how much memory a job has: 50 MB are too few for the Snakemake inside the job already,
    which lives for seconds, whatever the log-mels themselves need and however briefly.
    """
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["slurm-status-command"] = "squeue"
    profile["default-resources"] = {"slurm_partition": "cpu"}
    profile["set-resources"]["train"]["slurm_partition"] = "gpu"  # and, by the profile's anchor, for the other two
    profile["set-resources"]["logmel"] = {"mem_mb": "50*attempt**4"}
    profile |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 10}
    (tmp_path / "site").mkdir()
    (tmp_path / "site/config.yaml").write_text(yaml.safe_dump(profile))
    return tmp_path / "site"


@pytest.mark.timeout(900)
def test_the_chain_survives_what_befalls_jobs_on_a_cluster(cluster, site, undisturbed, tmp_path):
    # The configuration is that which the undisturbed run wrote down: its provenance makes its tables again.
    provenance = json.loads((undisturbed / "results/provenance.json").read_text())
    run = snakemake(
        tmp_path,
        *("--profile", site),
        configuration=provenance["configuration"],
        program=(sys.executable, HERE / "impatient.py"),
    )
    training = "results/logs/train/oe/fan.log"
    dead, late = {}, {}

    def said_in(log: str) -> str:
        return (tmp_path / log).read_text() if (tmp_path / log).exists() else ""

    def befallen() -> bool:
        """a training in its third epoch, and features being computed"""
        # The time limit: the training is held still, so that it is there when its time is declared over.
        if not late and "epoch 2 of 40" in said_in(training):
            os.kill(jobs_in(tmp_path)[training], signal.SIGSTOP)
            late.update(cluster.running("train_wildcards_oe"))
            subprocess.run(["scontrol", "update", f"JobId={late['JobId']}", "EndTime=now"], check=True)
        # The dead node, while features are computed on it.
        if not dead and "results/logs/features/global/fan.log" in jobs_in(tmp_path):
            dead.update(job := cluster.running("features"))
            cluster.kill_node(job["NodeList"], job["JobId"])
        return bool(dead and late)

    try:
        wait_for(befallen, run)
        assert run.wait(400) == 0, (tmp_path / "said").read_text()
    finally:
        run.poll() is None and run.kill()

    # Memory: the first attempt was over its limit, a later one got more.
    attempts = cluster.of("logmel")
    assert attempts[0]["JobState"] in ("OUT_OF_MEMORY", "FAILED", "CANCELLED")
    assert "mem=50M" in attempts[0]["TRES"]
    assert attempts[-1]["JobState"] == "COMPLETED"
    assert "mem=800M" in attempts[-1]["TRES"]

    # Time: the second attempt continued from a checkpoint of the first. This need not be its last step: at the time
    # limit srun gets a SIGTERM too and kills the step, in some runs before training has saved what it had.
    first, second = cluster.of("train_wildcards_oe")
    assert first["JobId"] == late["JobId"]
    assert (first["JobState"], second["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert re.search(r"fan\.safetensors: continuing after epoch \d+, step \d+", said_in(training))

    # The node: the job ran again, on another one.
    (*_, again) = cluster.of("features")
    assert again["JobState"] == "COMPLETED"
    assert again["NodeList"] != dead["NodeList"]

    # Resources and nodes as asked for, nothing of the short rules, a Gaussian with its scores in one job.
    for rule in ("train", "features", "score_exposure"):
        for job in cluster.of(rule):
            assert job["Partition"] == "gpu"
            assert job["NodeList"] in ("n1", "n2", "n3")
            assert job["TresPerJob"] == "gres:gpu:1"
    assert {(job["Partition"], job["NodeList"]) for job in cluster.of("logmel")} == {("cpu", "n4")}
    # More with the second attempt.
    assert (late["TimeLimit"], second["TimeLimit"]) == ("01:00:00", "02:00:00")
    memory = [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in (first, second)]
    assert memory[1] == 2 * memory[0] > 6000
    said = "".join(log.read_text() for log in (tmp_path / ".snakemake/log").glob("*.snakemake.log"))
    for rule in ("download", "weights", "ensemble", "tables"):
        assert f"localrule {rule}:" in said
        assert not cluster.of(rule)
    assert len([job for job in cluster.jobs() if "detection" in str(job)]) == 1

    tables = sorted((undisturbed / "results").glob("*/**/*.csv"))
    tables = [path.relative_to(undisturbed) for path in tables]
    assert {"auc_total.csv", "metrics.csv", "selection.csv"} <= {path.name for path in tables}
    for table in tables:
        assert filecmp.cmp(tmp_path / table, undisturbed / table, shallow=False), table
    checksum = provenance["files"]["results/tables/auc_total.csv"]
    assert hashlib.sha256((tmp_path / "results/tables/auc_total.csv").read_bytes()).hexdigest() == checksum
