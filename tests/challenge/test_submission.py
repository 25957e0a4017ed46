"""A submission from small score files: what it says, what the checker accepts, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import call
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from asd import waveform
from asd.challenge import checker, submission
from asd.challenge import meta as form
from asd.challenge.checker import faults
from asd.challenge.meta import Complexity, System
from asd.challenge.submission import pack
from asd.corpus import read_manifest, write_manifest
from asd.errors import InputError
from asd.gaussian import Gaussian
from asd.network import Description, Network, save
from asd.results import long_form
from asd.scores import read_scores, write_scores
from asd.sections import Section, Sections, write_sections
from asd.settings import Fit, Metrics, load

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("ASD_EVALUATION_DATA", "")
SECTIONS = [("fan", "03"), ("fan", "04"), ("valve", "03")]
CLIPS = {(machine, section): [f"section_{section}_{i:04}.wav" for i in range(6)] for machine, section in SECTIONS}
LABEL = "Lastname_Institute_task2_1"


def configuration(**changes):
    return load(yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"machines": ["fan", "valve"]} | changes)


def scores():
    """Machine -> one row per clip, with training clips and a section that is not to be submitted."""
    rng = np.random.default_rng(3)
    frames = {}
    for machine in ("fan", "valve"):
        keys = [
            ("test", section, clip) for (name, section), clips in CLIPS.items() if name == machine for clip in clips
        ]
        keys += [("train", "03", "section_03_0000.wav"), ("test", "00", "section_00_0000.wav")]
        frame = pd.DataFrame(keys, columns=["split", "section", "file"])
        score = rng.normal(size=len(frame))
        frames[machine] = frame.assign(score=score, decision=(score > 0.1).astype(int)).sample(frac=1, random_state=1)
    return frames


def meta(name="global", title="CNN-Global", models=None, complexity=None, **changes):
    models = models or {"fan": "global", "valve": "global"}
    complexity = complexity or {("global", "fan"): Complexity(10, 200), ("global", "valve"): Complexity(12, 180)}
    system = System(name, title, models)
    return form.description(LABEL, system, configuration(**changes), complexity, {"fan": 7, "valve": 8}, {})


@pytest.fixture
def folder(tmp_path):
    submission.write_system(tmp_path / LABEL, scores(), CLIPS, meta())
    return tmp_path / LABEL


def edit(path, change):
    """Change the rows of a file."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(f"{','.join(row)}\n" for row in rows))


def test_what_is_written_passes_and_says_what_the_scores_say(folder):
    assert faults(folder, CLIPS) == []
    assert len(list(folder.iterdir())) == 2 * len(SECTIONS) + 1
    expected = scores()["fan"].query("split == 'test' and section == '04'").set_index("file")
    for kind, column in (("anomaly_score", "score"), ("decision_result", "decision")):
        text = (folder / f"{kind}_fan_section_04_test.csv").read_text()
        found = dict(line.split(",") for line in text.splitlines())
        assert list(found) == CLIPS["fan", "04"]
        assert {clip: float(value) for clip, value in found.items()} == expected[column].to_dict()
        assert "\r" not in text
    assert set(re.findall(r",(.*)", (folder / "decision_result_fan_section_04_test.csv").read_text())) == {"0", "1"}


def test_a_clip_without_a_score_is_not_submitted(tmp_path):
    lacking = scores()
    lacking["fan"] = lacking["fan"].query("file != 'section_04_0002.wav'")
    with pytest.raises(InputError, match=r"fan, section 04: no score of section_04_0002\.wav"):
        submission.write_system(tmp_path / LABEL, lacking, CLIPS, meta())


# --- damage -------------------------------------------------------------------------------------------------

SCORE, DECISION = "anomaly_score_fan_section_03_test.csv", "decision_result_fan_section_03_test.csv"
META = f"{LABEL}.meta.yaml"


def rows(name, change):
    return lambda folder: edit(folder / name, change)


def value(text):
    return lambda rows: rows[2].__setitem__(1, text)


def wrong_decision(folder):
    """The clip of the highest score of all of the machine's is called normal."""
    frame = scores()["fan"].query("split == 'test' and section != '00'")
    top = frame.loc[frame["score"].idxmax()]
    path = folder / f"decision_result_fan_section_{top['section']}_test.csv"
    edit(path, lambda rows: next(row for row in rows if row[0] == top["file"]).__setitem__(1, "0"))


def with_meta(change):
    def damage(folder):
        content = yaml.safe_load((folder / META).read_text())
        change(content)
        (folder / META).write_text(yaml.safe_dump(content))

    return damage


DAMAGE = {
    "missing file": (lambda folder: (folder / SCORE).unlink(), f"{SCORE}: missing"),
    "missing decisions": (lambda folder: (folder / DECISION).unlink(), f"{DECISION}: missing"),
    "unknown section": (
        lambda folder: shutil.copy(folder / SCORE, folder / "anomaly_score_fan_section_09_test.csv"),
        "anomaly_score_fan_section_09_test.csv: unexpected: no clips of this machine and section are to be scored",
    ),
    "misnamed": (
        lambda folder: shutil.copy(folder / SCORE, folder / "anomaly_score_fan_03.csv"),
        "anomaly_score_fan_03.csv: unexpected: no clips of this machine and section are to be scored",
    ),
    "section twice": (
        lambda folder: shutil.copy(folder / SCORE, folder / SCORE.replace("_test", "")),
        f"{SCORE}: the same section as {SCORE.replace('_test', '')}",
    ),
    "doubled clip": (
        rows(SCORE, lambda rows: rows.append(rows[4])),
        f"{SCORE}: there more than once: section_03_0004.wav",
    ),
    "missing clips": (
        rows(DECISION, lambda rows: rows.__delitem__(slice(1, 3))),
        f"{DECISION}: missing clips: section_03_0001.wav, section_03_0002.wav",
    ),
    "unknown clip": (
        rows(SCORE, lambda rows: rows.append(["section_03_0099.wav", "1.0"])),
        f"{SCORE}: unknown clips: section_03_0099.wav",
    ),
    "NaN": (rows(SCORE, value("nan")), f"{SCORE}: not a finite number: section_03_0002.wav (nan)"),
    "infinite": (rows(SCORE, value("-inf")), f"{SCORE}: not a finite number: section_03_0002.wav (-inf)"),
    "text": (rows(SCORE, value("high")), f"{SCORE}: not a finite number: section_03_0002.wav (high)"),
    "header": (
        rows(SCORE, lambda rows: rows.insert(0, ["file", "score"])),
        f"{SCORE}: not <clip>.wav,<number>: row 1 (file,score)",
    ),
    "non-binary decision": (rows(DECISION, value("0.5")), f"{DECISION}: neither 0 nor 1: section_03_0002.wav (0.5)"),
    "wrong decision": (
        wrong_decision,
        "fan: the decisions do not follow from one threshold for the machine (set threshold.scope to",
    ),
    "bytes": (
        lambda folder: (folder / SCORE).write_bytes(b"section_03_0000.wav,\xff\n"),
        f"{SCORE}: not a readable text file",
    ),
    "missing meta": (lambda folder: (folder / META).unlink(), f"{META}: missing"),
    "unreadable meta": (lambda folder: (folder / META).write_text("a: [1"), f"{META}: not readable YAML"),
    "empty meta": (lambda folder: (folder / META).write_text(""), f"{META}: submission.label: missing"),
    "other label": (
        with_meta(lambda meta: meta["submission"].update(label="Other_Institute_task2_1")),
        f"{META}: submission.label: found Other_Institute_task2_1; expected the folder's name",
    ),
    "no results": (with_meta(lambda meta: meta.pop("results")), f"{META}: results.development_dataset: missing"),
    "long abbreviation": (
        with_meta(lambda meta: meta["submission"].update(abbreviation="longer than ten")),
        f"{META}: submission.abbreviation: found longer than ten; expected at most 10 characters",
    ),
    "nobody to write to": (
        with_meta(lambda meta: meta["submission"]["authors"][0].pop("corresponding")),
        f"{META}: submission.authors: 0 are marked as corresponding; expected one",
    ),
    "parameters as text": (
        with_meta(lambda meta: meta["system"]["complexity"].update(total_parameters="4,204,083")),
        f"{META}: system.complexity.total_parameters: found '4,204,083'; expected a whole number",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder)
    found = faults(folder, CLIPS)
    if kind == "empty meta":
        assert len(found) == len(checker.REQUIRED)
    else:
        assert len(found) == 1, found
    assert found[0].startswith(message)


def test_every_fault_has_its_message(folder):
    """Damage of other files and machines at once: none hides another."""
    (folder / "anomaly_score_valve_section_03_test.csv").unlink()
    edit(folder / SCORE, lambda rows: (rows.append(rows[0]), value("nan")(rows)))
    edit(folder / DECISION, value("2"))
    (folder / META).unlink()
    found = faults(folder, CLIPS)
    for part in (
        "valve_section_03_test.csv: missing",
        "more than once",
        "(nan)",
        "neither 0 nor 1",
        "meta.yaml: missing",
    ):
        assert sum(part in message for message in found) == 1, (part, found)
    assert len(found) == 5


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=9))
@settings(deadline=None, max_examples=200)
def test_decisions_and_thresholds(pairs):
    """Against trying every threshold, "strictly above" being anomalous."""
    score = {("00", f"{i}.wav"): float(value) for i, (value, _) in enumerate(pairs)}
    decision = {("00", f"{i}.wav"): float(decided) for i, (_, decided) in enumerate(pairs)}
    wrong = [sum((value > threshold) != decided for value, decided in pairs) for threshold in np.arange(-0.5, 7)]
    found = checker._undecided(score, decision)
    assert bool(found) == (min(wrong) > 0)
    if found:
        named = found[0].count("decided ") + int(*re.findall(r"and (\d+) more", found[0]) or [0])
        assert named == min(wrong)


# --- the description ----------------------------------------------------------------------------------------


def test_description_of_a_model():
    content = yaml.safe_load(yaml.safe_dump(meta()))
    assert content["submission"] == {
        "label": LABEL,
        "name": "CNN-Global",
        "abbreviation": "CNN-Global",
        "authors": [
            {
                "lastname": "Lastname",
                "firstname": "Firstname",
                "email": "name@example.org",
                "corresponding": True,
                "affiliation": {"institution": "Institute"},
            }
        ],
    }
    described = content["system"]["description"]
    assert described["input_sampling_rate"] == "16kHz"
    assert described["data_augmentation"] == "mixup, time masking, frequency masking"
    assert described["machine_learning_method"] == "CNN (tf_efficientnet_lite1), Gaussian (Mahalanobis distance)"
    assert described["aggregation_method"] is None
    assert described["ensemble_method_subsystem_count"] is None
    assert content["system"]["complexity"] == {
        "total_parameters": 12,
        "macs": 200,
        "training_clips": {"fan": 7, "valve": 8},
    }
    assert content["system"]["external_datasets"] == [{"name": "ImageNet", "url": "https://www.image-net.org"}]
    assert content["system"]["source_code"] is None


def test_description_of_an_ensemble():
    complexity = {
        ("local", "fan"): Complexity(10, 900),
        ("local", "valve"): Complexity(10, 2000),  # does not score valve
        ("oe", "fan"): Complexity(20, 90),
        ("oe", "valve"): Complexity(22, 80),
        ("global", "fan"): Complexity(10**6, 10**6),  # not chosen at all
    }
    system = meta("ensemble", "Ensemble", {"fan": "local", "valve": "oe"}, complexity)["system"]
    assert system["complexity"]["total_parameters"] == 10 + 22
    assert system["complexity"]["macs"] == 900
    assert system["description"]["ensemble_method_subsystem_count"] == 2
    assert system["description"]["aggregation_method"] == "average"
    # CNN-OE equalises; what it began with has mixup and masks as well.
    assert system["description"]["data_augmentation"] == (
        "mixup, frequency masking, time masking, parametric equaliser"
    )
    assert "outlier exposure" in system["description"]["machine_learning_method"]


def test_description_follows_the_configuration():
    authors = [
        {"lastname": "Ö", "firstname": "A", "email": "a@b.c", "institution": "I", "department": "D", "location": "L"},
        {"lastname": "N", "firstname": "B", "email": "b@b.c", "institution": "I", "corresponding": True},
    ]
    content = meta(
        submission={"authors": authors, "source_code": "https://example.org/x"}, backbone={"weights": "none"}
    )
    first, second = content["submission"]["authors"]
    assert first["affiliation"] == {"institution": "I", "department": "D", "location": "L"}
    assert "corresponding" not in first
    assert second["corresponding"] is True
    assert content["system"]["source_code"] == "https://example.org/x"
    assert content["system"]["description"]["external_data_usage"] is None
    assert content["system"]["external_datasets"] == [{"name": None, "url": None}]


@pytest.mark.parametrize(
    ("kind", "changes", "method", "labels"),
    [
        ("efficientnet", {"attributes": 0.5}, "CNN (tf_efficientnet_lite1)", "sections and attributes"),
        ("efficientnet", {}, "CNN (tf_efficientnet_lite1)", "sections"),
        ("efficientnet", {"epochs": 0}, "CNN (tf_efficientnet_lite1)", None),
        ("waveform", {}, "CNN (waveform)", "sections and attributes and domains"),
        ("autoencoder", {}, "neural network (autoencoder)", None),
    ],
)
def test_description_says_which_labels_a_network_learned(kind, changes, method, labels):
    networks = yaml.safe_load((ROOT / "config/config.yaml").read_text())["networks"]
    networks["waveform"] = {"kind": kind, **changes}
    content = meta(
        "waveform", models={"fan": "waveform"}, complexity={("waveform", "fan"): Complexity(1, 1)}, networks=networks
    )
    described = content["system"]["description"]
    assert described["machine_learning_method"] == f"{method}, k-nearest neighbours"
    assert described["domain_generalization_method"] == (labels and f"classification of {labels}")
    assert described["attribute_usage"] == ("classification target" if labels and "attributes" in labels else None)


@pytest.mark.parametrize(
    ("models", "features"),
    [
        (["global"], "log-mel energies"),
        (["waveform"], "spectrogram, spectrum"),
        (["level"], "level"),
        (["spectrum", "level", "global"], "log-mel energies, level"),
    ],
)
def test_description_says_which_features_were_seen(models, features):
    machines = {f"machine{number}": name for number, name in enumerate(models)}
    complexity = {(name, machine): Complexity(1, 1) for machine, name in machines.items()}
    described = meta("ensemble", models=machines, complexity=complexity)["system"]["description"]
    assert described["acoustic_features"] == features


def test_description_of_an_audio_transformer():
    backbone = {"name": "vit_base_patch16_1024_128", "weights": "hf_hub:owner/vit.audiomae"}
    networks = yaml.safe_load((ROOT / "config/config.yaml").read_text())["networks"]
    networks["waveform"] = {"kind": "audiomae", "backbone": backbone}
    content = meta(
        "waveform", models={"fan": "waveform"}, complexity={("waveform", "fan"): Complexity(1, 1)}, networks=networks
    )
    described = content["system"]["description"]
    assert described["machine_learning_method"].startswith("transformer (vit_base_patch16_1024_128), ")
    assert described["external_data_usage"] == "pre-trained model"
    assert content["system"]["external_datasets"] == [{"name": "what vit.audiomae was trained on", "url": None}]


@pytest.mark.parametrize("block", [{"label": "no institute"}, {"authors": []}])
def test_settings_of_a_submission_are_refused(block):
    with pytest.raises(InputError, match="submission"):
        configuration(submission=block)


def test_development_results():
    """From the long form as it is read from its file."""
    figures = [("auc", "source", 0.8), ("auc", "target", 0.6), ("pauc", "all", np.nan), ("auc", "all", 0.7)]
    frame = pd.DataFrame(
        [
            (model, machine, "development", section, mean, selection, metric, domain, value + 0.1 * (model != "oe"))
            for model, selection in (("oe", ""), ("ensemble", "in_sample"), ("ensemble", "cross_fitted"))
            for machine, section, mean in (
                ("fan", "", "harmonic"),
                ("fan", "", "arithmetic"),
                ("fan", "00", ""),
                ("", "", "harmonic"),
            )
            for metric, domain, value in figures
        ],
        columns=["model", "machine", "part", "section", "mean", "selection", "metric", "domain", "value"],
    )
    assert form.development_results(frame, "oe") == {
        "fan": {
            "harmonic_mean_auc_source": 80.0,
            "harmonic_mean_auc_target": 60.0,
            "harmonic_mean_pauc": None,
        }
    }
    assert form.development_results(frame, "ensemble")["fan"]["harmonic_mean_auc_source"] == pytest.approx(90.0)


def counted(net, mels, frames):
    """Multiply-accumulates of a network on zeros, layer by layer: an independent count.

    These are the convolutions, and the means over the mel rows of each stage, products with a matrix: (all, without the
    means of the stages before the last one).
    """
    products = []

    def count(layer, _, output):
        products.append(output[0].numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.inference_mode():
        means = [stage.shape[1] * stage.shape[2] for stage in net.stages(torch.zeros(1, mels, frames))]
    for hook in hooks:
        hook.remove()
    return sum(products) + sum(means), sum(products) + means[-1]


def test_complexity_is_what_the_layers_do(tmp_path):
    net = Network(Description("tf_efficientnet_lite1", "fan", 1, ("00", "01", "02"), ("a", "b"), "{}")).eval()
    save(tmp_path / "fan.safetensors", net)
    products, of_last = counted(net, 64, 40)
    weights = sum(parameter.numel() for parameter in net.backbone.parameters())
    path = tmp_path / "fan.safetensors"
    assert form.network_complexity(path, 64, 40, 0, 5, exposure=False) == Complexity(weights, 5 * products)
    head = 3 * 1280
    assert form.network_complexity(path, 64, 40, 0, 1, exposure=True) == Complexity(weights + head, of_last + head)


def test_complexity_of_a_network_of_the_waveform(tmp_path):
    net = waveform.Network(waveform.Description("fan", 16000, 160000, (1024,), ("a", "b"), "")).eval()
    save(tmp_path / "fan.safetensors", net)
    found = form.network_complexity(tmp_path / "fan.safetensors", 64, 40, 160000, 1, exposure=False)
    assert found.parameters == 2_495_568
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.embed(torch.zeros(1, 160000))
    assert found.macs == counter.get_total_flops() // 2 > 1e7


def of_rank(rank):
    """A Gaussian of five features."""
    return Section(Gaussian(np.zeros((1, 5)), np.ones(5), np.zeros((rank, 5)), 0.0, 1.0, 0.1, 9), np.ones(1))


def test_gaussians_count_all_to_keep_and_one_to_score(tmp_path):
    write_sections(tmp_path / "fan.h5", Sections({"00": of_rank(2), "01": of_rank(5)}, {"a.wav": 1.0}, Fit()))
    found = form.fitted_complexity(tmp_path / "fan.h5", windows=3)
    assert found == Complexity(5 + 10 + 1 + 5 + 25 + 1, 3 * (25 + 5 + 5))


# --- which clips, the package, the script -------------------------------------------------------------------


def manifest(folder, machine, *parts):
    keys = [("train", "development", "section_00_source_train_normal_0000.wav"), *parts]
    frame = pd.DataFrame(keys, columns=["split", "part", "file"])
    frame = frame.assign(path=frame["file"], machine=machine, section=frame["file"].str[8:10])
    frame = frame.assign(domain="", label="", attributes="{}", recording="")
    path = folder / machine / "manifest.csv"
    write_manifest(path, frame)
    return path


def test_the_evaluation_part_is_submitted_or_all_test_clips(tmp_path):
    development = ("test", "development", "section_00_source_test_anomaly_0000.wav")
    fan = manifest(tmp_path, "fan", development, ("test", "evaluation", "section_03_0000.wav"))
    valve = manifest(tmp_path, "valve", development)
    assert submission.clips_of_manifests([fan, valve]) == {("fan", "03"): ["section_03_0000.wav"]}
    assert submission.clips_of_manifests([valve]) == {("valve", "00"): [development[2]]}
    with pytest.raises(InputError, match="no test clips"):
        submission.clips_of_manifests([manifest(tmp_path, "slider")])


def test_the_package_is_the_same_whenever_it_is_made(folder, tmp_path):
    pack(tmp_path / "one.zip", [folder])
    for path in folder.iterdir():
        os.utime(path, (time.time() + 10**6,) * 2)
        path.chmod(0o600)
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / LABEL)
    pack(tmp_path / "two.zip", [copy])
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        assert package.testzip() is None
        assert package.namelist() == sorted(f"task2/{LABEL}/{path.name}" for path in folder.iterdir())
        assert package.read(f"task2/{LABEL}/{SCORE}") == (folder / SCORE).read_bytes()


def check(*arguments):
    script = ROOT / "workflow/scripts/check_submission.py"
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)


def test_the_checker_as_a_command(folder, tmp_path):
    for (machine, section), clips in CLIPS.items():
        path = tmp_path / f"truth/ground_truth_data/ground_truth_{machine}_section_{section}_test.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{clip},0\n" for clip in clips))
    arguments = ["--submission", folder, "--ground-truth", tmp_path / "truth", "--verdict", tmp_path / "verdict.json"]
    done = check(*arguments, "--package", tmp_path / "good.zip")
    assert done.returncode == 0, done.stderr
    assert f"accepted, {LABEL}, each with 6 files for 18 clips: {tmp_path / 'good.zip'}" in done.stdout
    assert json.loads((tmp_path / "verdict.json").read_text())["accepted"] is True
    assert (tmp_path / "good.zip").exists()

    (folder / META).unlink()
    edit(folder / DECISION, value("2"))
    done = check(*arguments, "--package", tmp_path / "bad.zip")
    assert done.returncode == 1
    assert f"{LABEL}/{META}: missing" in done.stderr
    assert f"{LABEL}/{DECISION}: neither 0 nor 1" in done.stderr
    assert "Traceback" not in done.stderr
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["accepted"] is False
    assert len(verdict["faults"][LABEL]) == 2
    assert not (tmp_path / "bad.zip").exists()


def test_the_script_writes_what_the_checker_accepts(cache_path, tmp_path):
    """From the files that the stages leave, of one machine and one model of windows: 32 frames, a window of 16."""
    settings = configuration(machines=["fan"], run_models=["local"], paper_models=[], ensemble={})
    settings = settings.model_copy(
        update={"networks": {"local": settings.networks["local"].model_copy(update={"window": 16, "test_hop": 4})}}
    )
    settings = settings.model_copy(update={"models": {"local": settings.models["local"]}})
    clips = read_manifest(cache_path.parent / "manifest.csv")
    for model in ("local", "ensemble"):
        (tmp_path / model).mkdir()
        write_scores(tmp_path / model / "fan.csv", clips, np.linspace(0, 1, len(clips)), {"00": 0.5, "01": 0.5})
    net = Network(Description("tf_efficientnet_lite1", "fan", 1, ("00", "01"), (), "{}")).eval()
    save(tmp_path / "net/local/fan.safetensors", net)
    write_sections(tmp_path / "mvg/local/fan.h5", Sections({"00": of_rank(2)}, {"a.wav": 1.0}, Fit()))
    (tmp_path / "selection.csv").write_text("machine,model\nfan,local\n")
    scored = {"local": {"fan": read_scores(tmp_path / "local/fan.csv")}}
    few = Metrics(resamples=0, splits=0)
    chosen = pd.DataFrame({"machine": ["fan"], "model": ["local"]})
    figures = long_form.system_figures(scored, few)
    long_form.long_form(figures, {}, {"local": "CNN-Local"}, chosen, few).to_csv(tmp_path / "metrics.csv", index=False)

    cache = tmp_path / f"logmel-{settings.networks['local'].logmel.file}/fan.h5"
    cache.parent.mkdir()
    shutil.copy(cache_path, cache)

    call(
        "submission",
        scores=[tmp_path / "local/fan.csv", tmp_path / "ensemble/fan.csv"],
        manifests=[cache_path.parent / "manifest.csv"],
        caches=[cache],
        networks=[tmp_path / "net/local/fan.safetensors"],
        fitted=(tmp_path / "mvg/local/fan.h5",),
        selection=tmp_path / "selection.csv",
        metrics=tmp_path / "metrics.csv",
        configuration=settings.model_dump_json(exclude={"dataset"}),
        out_dir=tmp_path / "out",
    )
    wanted = submission.clips_of_manifests([cache_path.parent / "manifest.csv"])
    folders = checker.system_folders(tmp_path / "out")
    assert [folder.name for folder in folders] == [f"Lastname_Institute_task2_{k}" for k in (1, 2)]
    for folder, name in zip(folders, ("CNN-Local", "Ensemble"), strict=True):
        assert faults(folder, wanted) == []
        found = yaml.safe_load((folder / f"{folder.name}.meta.yaml").read_text())
        assert found["submission"]["name"] == name
        assert found["system"]["complexity"]["macs"] == 5 * (counted(net, 64, 16)[0] + 2 * 5 + 2 + 5)
        assert found["system"]["complexity"]["training_clips"] == {"fan": int((clips["split"] == "train").sum())}
        harmonic = long_form.rows(figures["development"]["local"], ["fan"], few).query("mean == 'harmonic'")
        auc = harmonic.query("machine == 'fan' and metric == 'auc' and domain == 'target'")["value"].item()
        results = found["results"]["development_dataset"]["fan"]
        assert results["harmonic_mean_auc_target"] == pytest.approx(100 * auc, rel=1e-12)


def test_no_systems(tmp_path):
    with pytest.raises(InputError, match="no folder of a system"):
        checker.system_folders(tmp_path)


@pytest.mark.skipif(not REAL, reason="ASD_EVALUATION_DATA is not set; see tests/test_conformance.py")
@pytest.mark.parametrize("name", ["system_1", "system_2"])
def test_real_entries_lack_only_the_description(name):
    clips = submission.clips_of_ground_truth(Path(REAL) / "ground_truth")
    assert sum(map(len, clips.values())) == 4200
    assert faults(Path(REAL) / "submission" / name, clips) == [f"{name}.meta.yaml: missing"]


# --- the rule -----------------------------------------------------------------------------------------------


def test_the_rule_is_a_target(tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    done = subprocess.run(
        [*command, "--cores", "2", "--dry-run", "--", "results/submission", "results/tables/versus_paper.csv"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in ("submission", "compare_paper", "tables"):
        assert re.search(rf"^{rule} +1$", done.stdout, re.MULTILINE), rule
