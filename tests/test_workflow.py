"""The real Snakefile: end to end on a tiny corpus, twice the same bytes, and what a change reruns."""

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import merged
from sklearn.metrics import roc_auc_score

from asd.errors import InputError
from asd.host import memory
from asd.settings import load

ROOT = Path(__file__).parents[1]

TINY = {
    "dataset": {"demo": {"sections": 2, "train_source": 4, "train_target": 1, "test": 2, "seconds": 1.0}},
    "machines": ["fan"],
    "logmel": {"mels": 64},
    "train": {"epochs": 1, "batch": 5},
    "networks": {"local": {"window": 16, "hop": 8, "test_hop": 4, "batch": 5}, "oe": {"epochs": 1}},
    "metrics": {"resamples": 20, "splits": 5},
    "run_models": ["spectrum", "global", "local", "oe", "fusion"],
}
MODELS = ["spectrum", "global", "local", "oe", "fusion"]
LAST = {"report": 1, "provenance": 1}
"""What comes after the tables."""


def snakemake(folder: Path, *arguments: str, overlay: dict = TINY, status: int = 0) -> str:
    """Run snakemake on the project's Snakefile in a folder of its own and return what it says."""
    name = f"overlay-{abs(hash(yaml.safe_dump(overlay)))}.yaml"
    (folder / name).write_text(yaml.safe_dump(overlay))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, "--cores", "2", "--configfile", str(folder / name), *arguments],
        env=os.environ | {"PATH": path},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def planned(output: str) -> dict[str, int]:
    """The jobs that a dry run lists: rule -> number."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE) if rule != "total"}


def changed(overlay: dict, **changes: object) -> dict:
    """An overlay with values set at dotted keys."""
    result = yaml.safe_load(yaml.safe_dump(overlay))
    for key, value in changes.items():
        *blocks, last = key.split("__")
        inner = result
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[last] = value
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which everything was made."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "said").write_text(snakemake(folder))
    return folder


@pytest.mark.slow
def test_from_recordings_to_tables(finished):
    table = pd.read_csv(finished / "results/tables/auc_total.csv")
    assert list(table.columns) == ["Model", "fan", "Total (Ave.)"]
    assert list(table["Model"]) == ["CNN-Global", "CNN-Local", "CNN-OE", "Our Best", "Ensemble"]
    assert table["fan"].between(0, 100).all()
    assert table["fan"][3] == table["fan"][:3].max()
    for model in [*MODELS, "ensemble"]:
        scores = pd.read_csv(finished / f"results/scores/{model}/fan.csv", dtype={"section": str})
        assert len(scores) == 2 * (4 + 1 + 4 * 2)
        assert set(scores["section"]) == {"00", "01"}
        assert scores["score"].notna().all()
    for figure in ("auc", "pauc"):
        for domain in ("total", "source", "target"):
            assert (finished / f"results/tables/{figure}_{domain}.csv").exists()
    assert not list(finished.rglob("*.part*"))


@pytest.mark.slow
def test_the_terminal_says_what_matters_and_the_log_says_all(finished):
    said = (finished / "said").read_text()
    done = re.findall(r"^ ?(\d+) of (\d+) +(\w+) ", said, re.MULTILINE)
    assert done[-1][0] == done[-1][1]
    stages = ["download", "weights", "logmel", "train", "features", "spectra", "fit", "score", "score_exposure", "fuse"]
    stages += ["ensemble", "tables", "figures", "clips", "report", "provenance"]
    assert {stage for _, _, stage in done} >= {*stages}
    assert len(said.splitlines()) < 90
    assert "| CNN-Global " in said
    assert "Finished jobid" not in said
    assert "--epochs" not in said
    (log,) = re.findall(r"^Complete log\(s\): (.*)$", said, re.MULTILINE)
    assert Path(log).read_text().count("Finished jobid") == int(done[-1][1]) + 1  # and `all`


@pytest.mark.slow
def test_a_run_ends_with_what_it_was_asked_for(finished):
    said = snakemake(finished, "--", "results/detectors/fan.zip")
    assert "\nresults/detectors/\n" in said
    assert "CNN-Global" not in said
    said = snakemake(finished, "--", "results/submission")
    assert re.search(r"^accepted, .*: results/submission/Lastname_Institute_task2.zip$", said, re.MULTILINE)
    assert "| CNN-Global" not in said


@pytest.mark.slow
def test_snakemakes_own_report_begins_with_the_verdict(finished):
    snakemake(finished, "--report", str(finished / "report.zip"))
    with zipfile.ZipFile(finished / "report.zip") as archive:
        text = archive.read("report/report.html").decode()
    assert "of 16 recordings sound anomalous" in text
    assert "System Message" not in text


@pytest.mark.slow
def test_every_job_leaves_a_log_and_a_benchmark(finished):
    for stage in ("train/oe", "features/local", "fit/global", "spectra/ranked", "score/oe", "fuse/fusion"):
        assert (finished / f"results/logs/{stage}/fan.log").exists()
        assert (finished / f"results/benchmarks/{stage}/fan.tsv").exists()


@pytest.mark.slow
def test_nothing_is_done_again_without_a_change(finished):
    assert "Nothing to be done" in snakemake(finished, "--dry-run")


@pytest.mark.slow
def test_the_provenance_of_the_tables_makes_them_again(finished):
    """The configuration that a run wrote down, beside it: corpus, cache and weights are shared, the bytes the same."""
    provenance = json.loads((finished / "results/provenance.json").read_text())
    overlay = provenance["configuration"] | {"results_dir": "again"}
    table = "tables/auc_total.csv"
    assert planned(snakemake(finished, "--dry-run", "--", f"again/{table}", overlay=overlay)) == {
        "train": 3,
        "features": 2,
        "spectra": 1,
        "fit": 3,
        "score": 3,
        "score_exposure": 1,
        "fuse": 1,
        "ensemble": 1,
        "tables": 1,
    }
    snakemake(finished, "--", f"again/{table}", overlay=overlay)
    made = [path.relative_to(finished / "again") for path in (finished / "again").glob("*/**/*.csv")]
    assert {"auc_total.csv", "metrics.csv", "selection.csv", "fan.csv"} <= {path.name for path in made}
    for path in made:
        assert filecmp.cmp(finished / "results" / path, finished / "again" / path, shallow=False), path
    checksum = provenance["files"][f"results/{table}"]
    assert hashlib.sha256((finished / "again" / table).read_bytes()).hexdigest() == checksum


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        (
            {"mvg__covariance": "oas"},
            {"fit": 3, "score": 3, "fuse": 1, "ensemble": 1, "tables": 1, "figures": 1, "clips": 1, "suspicious": 1}
            | LAST,
        ),
        ({"metrics__resamples": 21}, {"tables": 1} | LAST),
        ({"train__rate": 0.00030}, {}),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_nothing_before(finished, changes, jobs):
    output = snakemake(finished, "--dry-run", overlay=changed(TINY, **changes))
    assert planned(output) == (jobs | {"all": 1} if jobs else {})


@pytest.mark.slow
def test_the_baselines_run_to_their_figures(tmp_path):
    """The networks and the mixture of the overlay; its other models differ from these, or the default's, in values."""
    logmel = {"logmel": {"mels": 32}}
    small = {
        "dataset": {"demo": {"sections": 2, "train_source": 16, "train_target": 2, "test": 2, "seconds": 1.0}},
        "machines": ["fan"],
        **logmel,
        "networks": {"ae": logmel, "ae_later": logmel, "mobilenet": logmel},
        "autoencoder": {"epochs": 1},
        "mobilenet": {"epochs": 1, "window": 32, "test_hop": 8},
        "metrics": {"resamples": 20, "splits": 5},
        "run_models": ["selective", "mobilenet", "twfr_gmm_smote"],
    }
    overlay = merged(yaml.safe_load((ROOT / "config/baselines.yaml").read_text()), small)
    snakemake(tmp_path, "--", "results/tables/metrics.csv", overlay=overlay)
    metrics = pd.read_csv(tmp_path / "results/tables/metrics.csv", dtype={"section": str})
    for model in small["run_models"]:
        scores = pd.read_csv(tmp_path / f"results/scores/{model}/fan.csv", dtype={"section": str})
        judged = scores[(scores["split"] == "test") & (scores["section"] == "01")]
        judged = judged[(judged["label"] == "anomaly") | (judged["domain"] == "target")]
        expected = roc_auc_score(judged["label"] == "anomaly", judged["score"])
        found = metrics.query(f"model == '{model}' and section == '01' and domain == 'target' and metric == 'auc'")
        assert found["value"].tolist() == [pytest.approx(expected)]


def test_the_papers_graph(tmp_path):
    paper = yaml.safe_load((ROOT / "config/dcase2022.yaml").read_text())
    jobs = planned(snakemake(tmp_path, "--dry-run", overlay=paper))
    assert jobs["download"] == jobs["logmel"] == 7
    assert jobs["train"] == 28  # the paper's three networks of each machine, and one that stays as it is
    assert jobs["features"] == 21
    assert jobs["fit"] == 42  # six models that rest on features
    assert jobs["score_exposure"] == 7


@pytest.mark.slow
def test_the_leaderboard_of_a_finished_run_is_one_job(finished):
    """Its rows have what the benchmark files of their jobs say, each member of the fusion's once."""
    page = "results/leaderboard/index.html"
    assert planned(snakemake(finished, "--dry-run", "--", page)) == {"leaderboard": 1}
    said = snakemake(finished, "--", page)
    assert "results/leaderboard/index.html" in said
    assert "**Leaderboard, development part**: 16 test clips of fan" in said
    table = pd.read_csv(finished / "results/leaderboard/development.csv").set_index("system")
    assert set(table.index) == {"Spectrum", "CNN-Global", "CNN-Local", "CNN-OE", "Fusion", "Best model per machine"}
    rows = table.drop(index="Best model per machine")
    assert rows["rank"].notna().all()
    assert (rows[["clip_seconds", "parameters", "memory_mb"]] > 0).all(axis=None)
    oe, of_global = (
        sum(pd.read_csv(finished / f"results/benchmarks/{job}/fan.tsv", sep="\t")["s"].iloc[-1] for job in jobs)
        for jobs in (["train/oe", "train/global"], ["train/global", "fit/global"])
    )
    assert table.loc["CNN-OE", "training_seconds"] == pytest.approx(oe)
    assert table.loc["CNN-Global", "training_seconds"] == pytest.approx(of_global)
    members = table.loc[["Spectrum", "CNN-Global", "CNN-Local"]]
    assert table.loc["Fusion", "training_seconds"] == pytest.approx(members["training_seconds"].sum())
    assert table.loc["Fusion", "clip_seconds"] < members["clip_seconds"].sum() + 10 / 26  # the log-mels count once


def test_the_plan_of_the_leaderboard_of_2022(tmp_path):
    """Of seven machines: per seed two networks and a third that starts from one of them; one that is not trained."""
    overlays = [yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("dcase2022", "leaderboard")]
    overlay = merged(*overlays) | {"run_models": ["level", "untrained", "global", "local", "oe", "fusion"]}
    jobs = planned(snakemake(tmp_path, "--dry-run", "--", "results/dcase2022/leaderboard/index.html", overlay=overlay))
    assert jobs["train"] == 7 * (3 * 3 + 1)
    assert jobs["score_exposure"] == jobs["fuse"] == 7 * 3
    assert jobs["leaderboard"] == 1
    assert "tables" not in jobs


def test_a_submission_that_is_not_there_ends_the_run_before_any_job(tmp_path):
    overlay = TINY | {"leaderboard": {"submissions": {"Theirs": "/not/there"}}}
    said = snakemake(tmp_path, "--dry-run", overlay=overlay, status=1)
    assert "leaderboard.submissions: Theirs: /not/there: no such folder" in said


def test_an_impossible_setting_ends_the_run_before_any_job(tmp_path):
    output = snakemake(tmp_path, overlay=changed(TINY, train__epochs=-1, mvg__covarianze="oas"), status=1)
    assert "train.epochs: Input should be greater than or equal to 0; found -1" in output
    assert "mvg.covarianze: unknown key" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("folder", ["On e Drive", "Grüße & Co"])
def test_a_checkout_of_any_name_called_by_its_path_without_an_environment(tmp_path, folder):
    """As cron and editors call it, and as a synchronised folder is called; results in a folder with a blank, too."""
    project = tmp_path / folder
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "workflow", "config", "profiles", "envs", "resources"):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", project)
    (tmp_path / "run").mkdir()
    overlay = changed(TINY, data_dir="my data", results_dir="~/out/", dataset__demo__sections=1)
    (tmp_path / "run/overlay.yaml").write_text(yaml.safe_dump(overlay))
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", project / "Snakefile"]
    done = subprocess.run(
        [*command, "--cores", "1", "--configfile", "overlay.yaml", "--until", "download"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path / "run",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "run/my data").glob("*/fan/manifest.csv"))) == 1
    assert f"all results: {tmp_path}/out/" in done.stdout + done.stderr


@pytest.mark.parametrize("value", ["", " ", ".", "/", "$HOME/results", "out/{machine}", "~nobody-of-this-name/x"])
def test_a_folder_that_nobody_means_is_refused(value):
    with pytest.raises(InputError, match="results_dir"):
        load(yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"results_dir": value})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of cores can be restricted on Linux only")
@pytest.mark.parametrize(
    ("compute", "cores", "threads", "gpus"),
    [
        ({"device": "cpu"}, 1, 1, 0),
        ({"device": "cpu"}, 2, 2, 0),
        ({"device": "cpu"}, 8, 8, 0),
        ({"device": "cpu", "threads": 1}, 8, 4, 0),
        ({"device": "cuda:0"}, 2, 2, 1),
        ({"device": "auto"}, 2, 2, 0),
    ],
)
def test_networks_run_side_by_side_on_a_processor_and_one_at_a_time_on_a_gpu(tmp_path, compute, cores, threads, gpus):
    """One core may be used, so that the jobs that run together have two threads at most, or are one job."""
    if memory() < 12e9 or (compute["device"] == "auto" and torch.cuda.is_available()):
        gpus = 1
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        options = ("-n", "--cores", str(cores), "--", "results/networks/global/fan.safetensors")
        said = snakemake(tmp_path, *options, overlay=TINY | {"compute": compute})
    finally:
        os.sched_setaffinity(0, allowed)
    job = said[said.index("rule train:") :]
    assert f"gpu={gpus}," in job
    assert re.findall(r"threads: (\d+)", job) == ([str(threads)] if threads > 1 else [])
