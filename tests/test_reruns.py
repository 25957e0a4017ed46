"""Which stages each key of the configuration and each module of the code reruns, found by dry runs.

`reruns.csv` is the table of docs/reruns.md. A row has patterns of keys and the stages that they rerun; if several
patterns fit a key, the longest counts.
"""

import contextlib
import csv
import os
import shutil
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import h5py
import pytest
import yaml
from conftest import merged
from snakemake.api import SnakemakeApi
from snakemake.settings import types as snakemake

from asd.settings import DETECTORS, Model, Network, load
from asd.settings.networks import Kinds

ROOT = Path(__file__).parents[1]
STAGES = ["download", "weights", "logmel", "train", "features", "spectra", "fit", "score", "fuse", "ensemble", "tables"]
BASE = {
    "machines": ["fan"],
    "ensemble": {"fallback": "global"},
    "networks": {"plain": {}},  # which takes all of its settings from `train`, and its model from `mvg`
    "models": {
        "plain": {"title": "Plain", "network": "plain", "detector": "gaussian"},
        "near": {"title": "Near", "spectrum": "ranked", "detector": "knn"},
        "mix": {"title": "Mix", "spectrum": "ranked", "detector": "gmm"},
        "fusion": {"members": ["spectrum", "global", "local", "plain"], "weights": [6, 1, 1, 1]},
    },
    "run_models": ["global", "local", "oe", "plain", "spectrum", "near", "mix", "fusion", "waveform"],
    "paper_models": ["global", "local", "oe", "plain"],
}

NOT_SCORED = ("level", "nearest", "untrained")

# Values for the keys whose type alone does not tell another one that is valid.
OTHERS = {
    "dataset.kind": "dcase2022",
    "dataset.demo.without_attributes": ["fan"],
    "dataset.folder.path": "/recordings",
    "dataset.published.parts": ["development"],
    "dataset.published.base_url": "https://mirror.org",
    "machines": ["fan", "valve"],
    "backbone.name": "efficientnet_b1",
    "backbone.weights": "none",
    "compute.device": "cpu",
    "logmel.channel": 2,
    "logmel.cut.seconds": 1.0,
    "networks.local.logmel.channel": 2,
    "networks.oe.logmel.channel": 2,
    "networks.local.backbone.name": "efficientnet_b1",
    "networks.local.backbone.weights": "none",
    "networks.oe.backbone.weights": "none",
    "run_models": ["global", "local"],
    "ensemble.fallback": "local",
    "networks.local.warm_start": "global",
    "networks.oe.warm_start": "local",
    "models.global.network": "local",
    "models.local.network": "global",
    "models.oe.network": "global",
    "models.global.detector": "knn",
    "models.local.detector": "knn",
    "models.near.detector": "gmm",
    "models.mix.detector": "knn",
    "models.spectrum.spectrum": "mean",
    "models.near.spectrum": "mean",
    "models.mix.spectrum": "mean",
    "models.fusion.members": ["spectrum", "global", "local", "oe"],
    "models.fusion.weights": [3, 1, 1, 1],
    "spectra.ranked.pool": ["gwrp", "mean"],
    "spectra.ranked.decays": [1.0, 0.9],
    "paper_models": ["global"],
    "models.oe.detector": "gaussian",
    "waveform.resolutions": [1024, 4096],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what Snakemake reads, so that its code can be edited."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src/asd", "workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


class Workplace:
    """A folder in which everything is up to date, without a job having run: empty files, marked as made."""

    def __init__(self, project: Path, folder: Path, base: dict = BASE) -> None:
        self.project, self.folder, self.base = project, folder, base
        jobs = self._run(base, "dryrun").jobs
        for path in [folder / str(file) for job in jobs for file in job.output]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._run(base, "touch")

    def stages(self, configuration: dict) -> list[str]:
        """The stages that a dry run wants to make again with another configuration."""
        jobs = self._run(configuration, "dryrun").needrun_jobs(exclude_finished=False)
        found = {job.rule.name.partition("_")[0] for job in jobs}
        order = ["check", *STAGES, "pool"]
        assert found <= set(order)
        return [stage for stage in order if stage in found]

    def _run(self, configuration: dict, executor: str):
        overlay = self.folder / "overlay.yaml"
        overlay.write_text(yaml.safe_dump(configuration))
        before = Path.cwd()
        try:
            with SnakemakeApi(snakemake.OutputSettings(quiet={snakemake.Quietness.ALL})) as api:
                workflow = api.workflow(
                    resource_settings=snakemake.ResourceSettings(cores=1),
                    config_settings=snakemake.ConfigSettings(configfiles=[overlay]),
                    snakefile=self.project / "Snakefile",
                    workdir=self.folder,
                )
                results = os.path.normpath(configuration.get("results_dir", "results").strip())
                targets = {f"{results}/tables/auc_total.csv"}
                dag = workflow.dag(snakemake.DAGSettings(targets=targets, forceall=executor == "touch"))
                dag.execute_workflow(executor=executor)
                return workflow._workflow_store.dag
        finally:
            os.chdir(before)


@pytest.fixture(scope="module")
def workplace(project, tmp_path_factory) -> Workplace:
    return Workplace(project, tmp_path_factory.mktemp("run"))


def leaves(block: Model, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Every key below a block, dotted: its value and its field."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        if isinstance(value, Model):
            found |= leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for entry, inner in value.items():
                found |= leaves(inner, f"{prefix}{name}.{entry}.")
        else:
            found[prefix + name] = (value, field)
    return found


def base() -> dict:
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return merged(default, BASE)


# A submission describes what was made, and no stage depends on it; what `global` and `plain` are made from is tried
# by `local` and by `train`. Keys that mean nothing for a model, or are valid only with a second change, are left out.
ALIKE = tuple(f"networks.oe.{key}" for key in ("scope", "backbone.name", "last_stage", "bands"))  # as where it starts
NOT_RUN = ("networks.untrained.*", "spectra.mean.*", "spectra.level.*", *(f"models.{one}.*" for one in NOT_SCORED))
LEFT_OUT = ("submission.*", "networks.global.*", "networks.plain.*", "models.plain.*", *ALIKE, *NOT_RUN)
LEFT_OUT += ("models.*.window_pooling.*", "models.oe.domains", "models.mix.domains", "spectra.*.quantiles")
LEFT_OUT += ("train.kind", "networks.*.kind")  # another kind has other keys
LEFT_OUT += ("logmel.cut.every", "networks.*.logmel.cut.*")
# What the network of the waveform does not have; of the settings that it has the top-level block is tried.
LEFT_OUT += tuple(f"networks.waveform.{key}*" for key in Network.model_fields if key not in ("scope", "seed"))
LEFT_OUT += ("models.waveform.*",)
LEFT_OUT += tuple(f"{entry}.{kind}.*" for entry in ("networks.*", "train") for kind in Kinds.model_fields)
LEFT_OUT += tuple(f"{kind}.*" for kind in Kinds.model_fields if kind != "waveform")  # no network of the base has it
LEFT_OUT += ("models.global.spectrum", "models.local.spectrum", "models.oe.spectrum")
LEFT_OUT += ("models.spectrum.network", "models.near.network", "models.mix.network")
LEFT_OUT += tuple(f"models.[!f]*.{key}" for key in ("members", "weights", "fuse"))
USED = {"near": "knn", "mix": "gmm"}  # the other models have Gaussians
LEFT_OUT += tuple(
    f"models.{model}.{block}.*"
    for model in ("global", "local", "oe", "spectrum", "near", "mix")
    for block in DETECTORS.values()
    if block not in ("mvg", USED.get(model))
)
LEFT_OUT += tuple(f"models.fusion.{key}" for key in ("network", "spectrum", "detector", "domains"))
LEFT_OUT += tuple(f"models.fusion.{block}.*" for block in DETECTORS.values())
LEFT_OUT += tuple(f"{block}.*" for block in DETECTORS.values() if block not in ("mvg", *USED.values()))
LEFT_OUT += ("models.fusion.threshold.folds", "models.fusion.fuse", "models.*.mvg.stages")
KEYS = {
    key: value
    for key, value in leaves(load(base())).items()
    if not any(fnmatchcase(key, pattern) for pattern in LEFT_OUT)
}


def other(key: str) -> Any:
    """Another valid value of a key."""
    value, field = KEYS[key]
    if key in OTHERS:
        return OTHERS[key]
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return next(choice for choice in choices if choice != value)
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.8 or 0.01
        case list():
            return value[:-1]
        case str():
            return f"{value}x"
    raise AssertionError(f"{key}: a value for {value!r} is missing in OTHERS")


def changed(key: str) -> dict:
    """The base configuration with another value of one key."""
    change: Any = other(key)
    for part in reversed(key.split(".")):
        change = {part: change}
    if key == "dataset.kind":
        change["machines"] = ["fan"]
    return merged(BASE, change)


def expected(key: str) -> list[str]:
    with (ROOT / "tests/reruns.csv").open() as file:
        rows = [(pattern, row["stages"].split()) for row in csv.DictReader(file) for pattern in row["keys"].split()]
    fitting = [(len(pattern), stages) for pattern, stages in rows if fnmatchcase(key, pattern)]
    assert fitting, f"{key}: no row of reruns.csv says what it reruns"
    return max(fitting)[1]


def test_nothing_is_rerun_without_a_change(workplace):
    assert workplace.stages(BASE) == []


@pytest.mark.parametrize("key", KEYS)
def test_a_key_reruns_what_the_table_says(workplace, key):
    assert workplace.stages(changed(key)) == expected(key)


def test_another_spelling_of_a_value_reruns_nothing(workplace):
    assert workplace.stages(merged(BASE, {"train": {"rate": 0.00030}, "threshold": {"quantile": 9e-1}})) == []


def test_the_order_of_the_entries_reruns_nothing(workplace):
    assert workplace.stages(BASE | {"dataset": dict(reversed(base()["dataset"].items()))}) == []


LATER = ["fit", "score", "fuse", "ensemble", "tables"]
TRAINED = ["train", "features", *LATER]
CODE = {
    "src/asd/demo/machines.py": STAGES[:1] + STAGES[2:],
    "src/asd/cache.py": STAGES[2:],
    "src/asd/losses.py": TRAINED,
    "src/asd/training.py": TRAINED,
    "src/asd/checkpoint.py": TRAINED,
    "src/asd/loop.py": TRAINED,
    "src/asd/waveform.py": ["train", "features", "fit", "score", "tables"],
    "src/asd/features.py": STAGES[4:],
    "src/asd/spectra.py": ["spectra", "fit", "score", "fuse", "tables"],
    "src/asd/gaussian.py": LATER,
    "src/asd/sections.py": LATER,
    # Of the one model that has it, which the ensemble does not choose from.
    "src/asd/knn.py": ["fit", "score", "tables"],
    "src/asd/exposure.py": ["score", "ensemble", "tables"],
    "src/asd/threshold.py": ["score", "fuse", "ensemble", "tables"],
    "src/asd/fusion.py": ["fuse", "tables"],
    "src/asd/results/ensemble.py": ["ensemble", "tables"],
    "src/asd/results/tables.py": ["tables"],
    "src/asd/settings/models.py": [],
    "workflow/scripts/fit.py": LATER,
    "workflow/scripts/weights.py": ["weights", *TRAINED],
}


@pytest.mark.parametrize("path", CODE)
def test_an_edited_module_reruns_the_stages_that_use_it(workplace, path):
    file = workplace.project / path
    text = file.read_text()
    try:
        file.write_text(text + "\nEDITED = 1\n")
        os.utime(file, (0, 0))  # older than everything, as an editor or a checkout may leave it
        assert workplace.stages(BASE) == CODE[path]
        file.write_text(f"# A comment.\n{text}")
        assert workplace.stages(BASE) == []
    finally:
        file.write_text(text)


def test_new_file_times_rerun_nothing(workplace):
    """As after `git checkout` there and back."""
    for path in workplace.project.rglob("*.*"):
        os.utime(path)
    assert workplace.stages(BASE) == []


def test_every_rule_says_what_a_job_needs_and_asks_for_more_the_next_time(workplace):
    rules = [rule for rule in workplace._run(BASE, "dryrun").workflow.rules if rule.name != "all"]
    assert {"train", "features", "tables"} <= {rule.name for rule in rules}
    for rule in rules:
        for resource in ("mem_mb", "runtime"):
            assert rule.resources[resource].is_evaluable(), f"{rule.name}: {resource} does not grow with the attempts"


def planned(workplace, **sweep) -> list:
    """The jobs of a sweep of which nothing was made."""
    dag = workplace._run(BASE | {"results_dir": "swept", "sweep": sweep}, "dryrun")
    return list(dag.needrun_jobs(exclude_finished=False))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mvg.covariance": ["ledoit_wolf", "oas", "empirical", "ridge"]}, (1, 1, 4)),
        ({"networks.local.hop": [1, 2, 4, 8, 16]}, (1, 5, 5)),
        ({"threshold.quantile": [0.8, 0.9]}, (1, 1, 2)),
        ({"networks.local.window": [32, 64], "logmel.mels": [64, 128]}, (4, 4, 4)),
    ],
)
def test_a_sweep_shares_what_its_values_do_not_change(workplace, values, expected):
    count = Counter(job.rule.name for job in planned(workplace, models=["local"], values=values))
    assert (count["train"], count["features"], count["score"]) == expected


def test_a_start_that_several_networks_of_a_sweep_share_is_trained_once(workplace):
    jobs = planned(workplace, models=["global", "oe"], seeds=[1, 2], values={"networks.oe.epochs": [2, 3]})
    assert sorted(job.wildcards.network for job in jobs if job.rule.name == "train") == [
        *("global-seed_1", "global-seed_2"),
        *(f"oe-epochs_{epochs}-seed_{seed}" for epochs in (2, 3) for seed in (1, 2)),
    ]


@pytest.fixture(scope="module")
def needs(project, tmp_path_factory):
    """What a rule asks for, for a machine with 100 clips of 224 mel bins and 313 frames and the network `plain`."""
    workplace = Workplace(project, tmp_path_factory.mktemp("needs"))
    (cache,) = workplace.folder.glob("data/*/logmel-*/fan.h5")
    with h5py.File(cache, "w") as file:
        file.create_dataset("logmel", (100, 224, 313), "f4", chunks=(1, 224, 313))  # never written, so without bytes

    def needs(rule: str, attempt: int = 1, device: str = "auto", **plain) -> dict[str, int]:
        change = {"networks": {"plain": plain}, "compute": {"device": device}}
        change["models"] = {"plain": {"mvg": {"stages": [1]}}}  # which networks of all kinds have
        jobs = workplace._run(merged(BASE, change), "dryrun").jobs
        (job,) = [job for job in jobs if job.rule.name == rule and job.wildcards.get("network") == "plain"]
        job.attempt = attempt
        with contextlib.chdir(workplace.folder):
            return {resource: job.resources[resource] for resource in ("mem_mb", "runtime")}

    return needs


def test_a_training_asks_for_the_memory_of_its_batch(needs):
    # Measured, MB: the peak of two epochs of EfficientNet-B1 on batches of 2 and 8 clips, a process by itself.
    peaks = {2: 1334, 8: 2590}
    expected = peaks[2] + 98 * (peaks[8] - peaks[2]) / 6
    asked = needs("train", batch=100)["mem_mb"]
    assert expected < asked < 1.3 * expected
    assert needs("train", batch=500)["mem_mb"] == asked  # there are no more clips
    assert needs("train", batch=100, attempt=2)["mem_mb"] == 2 * asked
    assert needs("train", batch=100, device="cuda")["mem_mb"] < asked / 5  # it is the device that holds them
    assert 1908 < needs("train", batch=32, window=64)["mem_mb"] < asked / 3  # 1908 MB measured with Lite1


# Measured, MB: the peak of a process, of a waveform network that of one resolution on 64 clips of 10 s.
@pytest.mark.parametrize(("kind", "peak"), [("waveform", 3300), ("autoencoder", 806), ("mobilenet", 1088)])
def test_a_training_of_another_kind_asks_for_enough_and_not_for_the_impossible(needs, kind, peak):
    assert peak < needs("train", kind=kind)["mem_mb"] < max(5000, 6 * peak)


def test_a_job_asks_for_the_time_of_its_clips(needs):
    first, more = needs("train", epochs=1000)["runtime"], needs("train", epochs=2000)["runtime"]
    assert more - 60 == pytest.approx(2 * (first - 60), abs=1)
    assert needs("train", epochs=1000, device="cpu")["runtime"] - 60 > 5 * (first - 60)
    whole, windows = (needs("features", window=window, test_hop=1)["runtime"] for window in (0, 64))
    assert whole < windows < 3 * whole


def test_what_is_not_yet_there_is_estimated_later(workplace):
    jobs = workplace._run(BASE | {"data_dir": "nothing"}, "dryrun").jobs
    assert {job.resources["mem_mb"] for job in jobs if job.rule.name == "train"} == {"<TBD>"}


OWN = {"dataset": {"kind": "folder"}, "machines": ["fan"], "run_models": ["plain"], "ensemble": {"fallback": "plain"}}


FROM_RECORDINGS = {"check", "download", "logmel", "train", "features", "score", "tables"}


@pytest.fixture
def own(project, tmp_path) -> Workplace:
    """One's own recordings: train and test are links to another disk, and a manifest elsewhere lists some."""
    for split in ("train", "test"):
        for number in range(2):
            path = tmp_path / f"disk/{split}/section_00_source_{split}_normal_{number:04}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{split} {number}".encode())
        (tmp_path / "tree/fan").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree/fan" / split).symlink_to(tmp_path / "disk" / split)
    (tmp_path / "run").mkdir()
    base = merged(BASE, OWN | {"dataset": {"kind": "folder", "folder": {"path": str(tmp_path / "tree")}}})
    return Workplace(project, tmp_path / "run", base)


def test_a_recording_behind_a_link_that_is_new_or_replaced_is_noticed(own, tmp_path):
    assert own.stages(own.base) == []
    first = tmp_path / "disk/train/section_00_source_train_normal_0000.wav"
    for path in tmp_path.glob("disk/*/*"):  # as `cp -r` and `touch` leave them
        os.utime(path)
    assert own.stages(own.base) == []
    first.write_bytes(b"other 0")  # of the same size
    assert set(own.stages(own.base)) >= FROM_RECORDINGS
    first.write_bytes(b"train 0")
    assert own.stages(own.base) == []
    first.with_name("section_00_source_train_normal_0009.wav").write_bytes(b"new")
    assert set(own.stages(own.base)) >= FROM_RECORDINGS


def test_recordings_that_a_manifest_names_are_noticed_wherever_they_lie(project, tmp_path):
    for name in ("tree/a.wav", "elsewhere/b.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    text = "file,machine,split\na.wav,fan,train\n../elsewhere/b.wav,fan,test\n"
    (tmp_path / "tree/manifest.csv").write_text(text)
    (tmp_path / "run").mkdir()
    base = merged(BASE, OWN | {"dataset": {"kind": "folder", "folder": {"path": str(tmp_path / "tree")}}})
    own = Workplace(project, tmp_path / "run", base)
    os.utime(tmp_path / "tree/manifest.csv")
    assert own.stages(base) == []
    (tmp_path / "elsewhere/b.wav").write_bytes(b"elsewhere/c.wav")
    assert set(own.stages(base)) >= FROM_RECORDINGS
    (tmp_path / "elsewhere/b.wav").write_bytes(b"elsewhere/b.wav")
    (tmp_path / "tree/manifest.csv").write_text(text + "c.wav,fan,test\n")
    assert set(own.stages(base)) >= FROM_RECORDINGS


def test_a_checkout_that_was_moved_makes_nothing_again(project, workplace, tmp_path):
    moved = shutil.copytree(project, tmp_path / "On e Drive")
    before, workplace.project = workplace.project, moved
    try:
        assert workplace.stages(BASE) == []
    finally:
        workplace.project = before


@pytest.mark.parametrize("folder", ["results/", "./results", "results//.", " results"])
def test_one_folder_has_one_spelling(workplace, folder):
    assert workplace.stages(BASE | {"results_dir": folder}) == []


def test_two_configurations_share_data_weights_and_caches(workplace):
    beside = BASE | {"results_dir": "results/other"}
    assert workplace.stages(beside) == STAGES[3:]
    assert workplace.stages(merged(beside, {"logmel": {"mels": 128}})) == STAGES[2:]
