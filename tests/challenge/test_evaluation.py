"""Folders of challenge files: read, joined on the clips' names, refused where they are damaged, scored."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from asd.challenge.evaluation import overview, read_challenge
from asd.errors import InputError
from asd.results.long_form import rows
from asd.results.metrics import joined, machine_figures
from asd.settings import Metrics

SCRIPT = Path(__file__).parents[2] / "workflow/scripts/evaluate.py"
SECTIONS = [("ToyCar", "03"), ("fan", "03"), ("fan", "04")]


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{clip},{value}\n" for clip, value in values.items()))


def read(path):
    return dict(line.split(",") for line in path.read_text().splitlines())


@pytest.fixture
def entry(tmp_path):
    """A submission on three evaluation sections with eight clips each, and the labels, in another order."""
    rng = np.random.default_rng(0)
    for machine, section in SECTIONS:
        clips = [f"section_{section}_{number:04d}.wav" for number in range(8)]
        end = f"{machine}_section_{section}_test.csv"
        score = dict(zip(clips, rng.normal(size=8).tolist(), strict=True))
        write(tmp_path / f"system/anomaly_score_{end}", score)
        write(tmp_path / f"system/decision_result_{end}", {clip: int(score[clip] > 0) for clip in reversed(clips)})
        label = {clip: number % 2 for number, clip in enumerate(clips)}
        domain = {clip: number // 4 for number, clip in enumerate(clips)}
        write(tmp_path / f"truth/ground_truth_data/ground_truth_{end}", dict(reversed(label.items())))
        write(tmp_path / f"truth/ground_truth_domain/ground_truth_{end}", domain)
    return tmp_path


def test_everything_is_joined_on_names(entry):
    machines = read_challenge(entry / "system", entry / "truth")
    assert {machine: len(clips) for machine, clips in machines.items()} == {"ToyCar": 8, "fan": 16}
    for clip in machines["fan"].itertuples():
        number = int(clip.file[-8:-4])
        assert clip.label == ("normal", "anomaly")[number % 2]
        assert clip.domain == ("source", "target")[number // 4]
        assert clip.decision == (clip.score > 0)
        assert clip.part == "evaluation"
    # The same, whatever the order of any file's rows, and with the shorter names of folders and files.
    for path in [*entry.rglob("*.csv")]:
        path.write_text("".join(f"{line}\n" for line in sorted(path.read_text().splitlines(), reverse=True)))
        path.rename(path.with_name(path.name.replace("_test.csv", ".csv")))
    for kind in ("data", "domain"):
        (entry / f"truth/ground_truth_{kind}").rename(entry / f"truth/{kind}")
    again = read_challenge(entry / "system", entry / "truth")
    for machine, clips in machines.items():
        pd.testing.assert_frame_equal(again[machine].sort_values(["section", "file"], ignore_index=True), clips)


def test_without_decisions(entry):
    for path in (entry / "system").glob("decision_*"):
        path.unlink()
    assert (read_challenge(entry / "system", entry / "truth")["fan"]["decision"] == -1).all()


def test_labels_in_the_names(tmp_path):
    clips = {f"section_00_{domain}_test_{label}_0000_vel_{speed}.wav": speed
             for domain in ("source", "target") for label in ("normal", "anomaly") for speed in (1, 2)}  # fmt: skip
    write(tmp_path / "dev/anomaly_score_fan_section_00_test.csv", clips)
    frame = read_challenge(tmp_path / "dev")["fan"]
    assert sorted(zip(frame["domain"], frame["label"], strict=True)) == sorted(
        [("source", "normal"), ("source", "anomaly"), ("target", "normal"), ("target", "anomaly")] * 2
    )
    assert set(frame["part"]) == {"development"}


def edit(path, change):
    values = read(path)
    change(values)
    write(path, values)


SCORE = "system/anomaly_score_fan_section_03_test.csv"
DECISION = "system/decision_result_fan_section_03_test.csv"
LABEL = "truth/ground_truth_data/ground_truth_fan_section_03_test.csv"
CLIP = "section_03_0002.wav"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda entry: edit(entry / SCORE, lambda values: values.pop(CLIP)), rf"{SCORE}: missing.*{LABEL}: {CLIP}"),
        (lambda entry: edit(entry / DECISION, lambda values: values.pop(CLIP)), rf"{DECISION}: missing.*: {CLIP}"),
        (
            lambda entry: edit(entry / DECISION, lambda values: values.update({"other.wav": 1})),
            rf"{DECISION}: unknown.*{SCORE}: other\.wav",
        ),
        (
            lambda entry: [
                edit(entry / path, lambda values: values.update({"other.wav": 1})) for path in (SCORE, DECISION)
            ],
            rf"{SCORE}: unknown.*{LABEL}: other\.wav",
        ),
        (
            lambda entry: (entry / SCORE).write_text((entry / SCORE).read_text() + f"{CLIP},1\n"),
            rf"{SCORE}: there more than once: {CLIP}",
        ),
        (lambda entry: edit(entry / SCORE, lambda v: v.update({CLIP: "nan"})), rf"{SCORE}: not a finite.*{CLIP} \(nan"),
        (lambda entry: edit(entry / SCORE, lambda v: v.update({CLIP: "-inf"})), rf"{SCORE}: not a finite.*{CLIP}"),
        (lambda entry: edit(entry / SCORE, lambda v: v.update({CLIP: "high"})), rf"{SCORE}: not a finite.*\(high\)"),
        (lambda entry: edit(entry / DECISION, lambda v: v.update({CLIP: "2"})), rf"{DECISION}: neither 0 nor 1.*\(2\)"),
        (lambda entry: edit(entry / LABEL, lambda v: v.update({CLIP: "0.5"})), rf"{LABEL}: neither 0 nor 1.*{CLIP}"),
        (
            lambda entry: (entry / SCORE).write_text("file,score\n" + (entry / SCORE).read_text()),
            rf"{SCORE}: not <clip>\.wav,<number>: row 1 \(file,score\)",
        ),
        (lambda entry: (entry / SCORE).write_bytes(b"\xff\xfe\x00"), rf"{SCORE}: not a readable text file"),
        (lambda entry: (entry / DECISION).unlink(), r"no decision_result file of fan section 03"),
        (
            lambda entry: [(entry / SCORE).unlink(), (entry / DECISION).unlink()],
            r"no anomaly_score file of fan section 03",
        ),
        (
            lambda entry: write(entry / "system/anomaly_score_fan_section_03.csv", {CLIP: 1}),
            r"the same section as anomaly_score_fan_section_03",
        ),
        (
            lambda entry: write(entry / "system/anomaly_score_fan_03.csv", {CLIP: 1}),
            r"anomaly_score_fan_03\.csv: expected the name",
        ),
        (
            lambda entry: [
                write(entry / f"system/{kind}_pump_section_00.csv", {CLIP: 1})
                for kind in ("anomaly_score", "decision_result")
            ],
            r"an unexpected anomaly_score file of pump section 00",
        ),
        (lambda entry: (entry / "truth/ground_truth_domain").rename(entry / "x"), r"a folder ground_truth_domain"),
        (lambda entry: [path.unlink() for path in (entry / "system").glob("*")], r"no anomaly_score_<machine>"),
        (lambda entry: (entry / "system").rename(entry / "elsewhere"), r"system: no such folder"),
    ],
)  # fmt: skip
def test_damage_is_named(entry, damage, message):
    damage(entry)
    with pytest.raises(InputError, match=message):
        read_challenge(entry / "system", entry / "truth")


def test_names_without_labels_need_ground_truth(entry):
    with pytest.raises(InputError, match=r"no ground truth.*section_03_0000\.wav.* and 3 more"):
        read_challenge(entry / "system")


def test_only_some_machines(entry):
    for path in (entry / "system").glob("*ToyCar*"):
        path.unlink()
    with pytest.raises(InputError, match=r"no anomaly_score file of ToyCar section 03"):
        read_challenge(entry / "system", entry / "truth")
    assert list(read_challenge(entry / "system", entry / "truth", machines=["fan"])) == ["fan"]
    with pytest.raises(InputError, match=r"of ToyCar in it"):
        read_challenge(entry / "system", entry / "truth", machines=["ToyCar", "fan"])


def test_overview_has_a_row_a_section_and_mean(entry):
    machines = read_challenge(entry / "system", entry / "truth")
    figures = joined(machine_figures(machine, clips) for machine, clips in machines.items())
    table = overview(rows(figures, list(machines), Metrics()))
    assert list(zip(table.index, table["Section"], strict=True)) == [
        ("ToyCar", "03"),
        ("ToyCar", "harmonic mean"),
        ("ToyCar", "arithmetic mean"),
        ("fan", "03"),
        ("fan", "04"),
        ("fan", "harmonic mean"),
        ("fan", "arithmetic mean"),
        ("all", "harmonic mean"),
        ("all", "arithmetic mean"),
    ]
    fan = machines["fan"][machines["fan"]["section"] == "04"]
    assert table.iloc[4]["AUC"] == f"{100 * roc_auc_score(fan['label'] == 'anomaly', fan['score']):.2f}"


def test_the_script(entry):
    command = [sys.executable, SCRIPT, "--scores", entry / "system", "--ground-truth", entry / "truth"]
    command += ["--out", entry / "result.csv", "--resamples", "50"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = pd.read_csv(entry / "result.csv", dtype={"section": str}, keep_default_na=False, na_values={"value": ""})
    assert set(result["model"]) == {"system"}
    official = result.query("metric == 'omega' and machine == '' and mean == 'harmonic'")["value"].item()
    assert f"Official score of system, evaluation part: {official}" in done.stdout
    edit(entry / SCORE, lambda values: values.update({CLIP: "nan"}))
    refused = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert CLIP in refused.stderr
    assert "Traceback" not in refused.stderr
