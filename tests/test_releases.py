"""The table of the published years, and the labels that were published later."""

import os
from pathlib import Path

import pandas as pd
import pytest
from conftest import manifest_row

from asd.corpus import GRAMMARS
from asd.errors import InputError
from asd.releases import _table, releases, truth_files, with_truth
from asd.settings import Dataset

PARTS = ["development", "additional", "evaluation"]
KINDS = [f"dcase{year}" for year in range(2020, 2027)]


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_and_the_settings_know_the_same_years():
    assert sorted({row["kind"] for row in _table()}) == KINDS
    for kind in KINDS:
        assert Dataset(kind=kind).name == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_machine_of_every_year(kind):
    archives = []
    for machine in sorted({name for row in _table() if row["kind"] == kind for name in row["machines"].split()}):
        found = releases(kind, machine, PARTS)
        parts = [release.part for release in found]
        assert parts in (PARTS, PARTS[:1], PARTS[1:])
        # A machine that is new to the evaluation has no development part, since 2023.
        assert parts == PARTS if kind < "dcase2023" else len(parts) < 3
        for release in found:
            assert release.names in GRAMMARS
            assert set(release.folders.values()) == {"train", "test"}
            assert machine in release.archive
            assert release.record.isdecimal()
            assert release.clips is None or release.sections
            archives.append(release.archive)
    assert len(set(archives)) == len(archives)


def test_2022():
    development, additional, evaluation = releases("dcase2022", "fan", PARTS)
    assert (development.record, development.archive) == ("6355122", "dev_fan.zip")
    assert (additional.record, additional.archive) == ("6462969", "eval_data_fan_train.zip")
    assert (evaluation.record, evaluation.archive) == ("6586456", "eval_data_fan_test.zip")
    # 50,400 clips: per machine 6,000 to train, 600 labelled and 600 unlabelled to test
    clips = sum(len(one.sections) * sum(one.clips) for one in (development, additional, evaluation))
    assert 7 * clips == 50_400


@pytest.mark.parametrize(
    ("kind", "machine", "archives"),
    [
        ("dcase2020", "pump", ["dev_data_pump.zip", "eval_data_train_pump.zip", "eval_data_test_pump.zip"]),
        ("dcase2021", "fan", ["dev_data_fan.zip", "eval_data_fan_train.zip", "eval_data_fan_test.zip"]),
        ("dcase2023", "Vacuum", ["eval_data_Vacuum_train.zip", "eval_data_Vacuum_test.zip"]),
        ("dcase2024", "RoboticArm", ["eval_data_RoboticArm_train_r2.zip", "eval_data_RoboticArm_test.zip"]),
        ("dcase2024", "Scanner", ["eval_data_Scanner_train.zip", "eval_data_Scanner_test.zip"]),
        ("dcase2026", "ToyCar", ["dev_ToyCar_r2.zip"]),
        ("dcase2026", "valveEmu", ["dev_valveEmu.zip"]),
    ],
)
def test_archives(kind, machine, archives):
    assert [release.archive for release in releases(kind, machine, PARTS)] == archives


def test_folders_of_2021():
    assert releases("dcase2021", "fan", PARTS)[0].folders == {
        "train": "train",
        "source_test": "test",
        "target_test": "test",
    }


def test_machines_and_parts_that_are_not_there():
    with pytest.raises(InputError, match="dcase2022 has no 'pump'; expected of ToyCar ToyTrain bearing fan"):
        releases("dcase2022", "pump", PARTS)
    with pytest.raises(InputError, match="training clips of Vacuum in dcase2023 are in another part"):
        releases("dcase2023", "Vacuum", ["development"])
    with pytest.raises(InputError, match=r"dataset\.published\.parts: found evaluation"):
        releases("dcase2022", "fan", ["evaluation"])


# --- labels -------------------------------------------------------------------------------------------------


def clips(machine: str = "fan", domain: str = "") -> pd.DataFrame:
    """Two evaluation clips after a training clip."""
    rows = [manifest_row("section_03_source_train_normal_0000.wav") | {"part": "additional"}]
    for number in range(2):
        unknown = {"part": "evaluation", "domain": domain, "label": "", "machine": machine}
        rows.append(manifest_row(f"section_03_{number:04d}.wav", split="test", section="03") | unknown)
    return pd.DataFrame(rows, dtype=str).assign(machine=machine)


def truth(
    folder: Path, labels: str, domains: str | None = None, machine: str = "fan", homes: str = "ground_truth_"
) -> Path:
    for home, text in (("data", labels), ("domain", domains)):
        if text is not None:
            path = folder / f"{homes}{home}/ground_truth_{machine}_section_03_test.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


@pytest.mark.parametrize("homes", ["ground_truth_", ""])
def test_labels_and_domains_are_joined_by_name(tmp_path, homes):
    labels = "section_03_0001.wav,1\nsection_03_0000.wav,0\n"
    truth(tmp_path, labels, "section_03_0000.wav,1\nsection_03_0001.wav,0\n", homes=homes)
    truth(tmp_path, "section_03_0000.wav,1\n", "", machine="fan2", homes=homes)
    before = clips()
    after = with_truth(before, tmp_path)
    assert list(after["label"]) == ["normal", "normal", "anomaly"]
    assert list(after["domain"]) == ["source", "target", "source"]
    assert list(after["part"]) == ["additional", "evaluation", "evaluation"]
    assert list(before["label"]) == ["normal", "", ""]
    assert list(clips().drop(columns=["label", "domain"])) == list(after.drop(columns=["label", "domain"]))


def test_a_domain_in_the_name_stays(tmp_path):
    after = with_truth(clips(domain="target"), truth(tmp_path, "section_03_0000.wav,0\nsection_03_0001.wav,1\n"))
    assert list(after["domain"]) == ["source", "target", "target"]
    assert list(after["label"]) == ["normal", "normal", "anomaly"]


def test_a_year_without_domains(tmp_path):
    after = with_truth(clips().assign(domain=""), truth(tmp_path, "section_03_0000.wav,0\nsection_03_0001.wav,1\n"))
    assert set(after["domain"]) == {""}


def test_nothing_to_label(tmp_path):
    development = clips()[:1]
    assert with_truth(development, tmp_path) is development


@pytest.mark.parametrize(
    ("labels", "domains", "expected"),
    [
        ("section_03_0000.wav,0\n", None, "ground_truth_data: has no row for section_03_0001.wav of fan"),
        (
            "section_03_0000.wav,0\nsection_03_0001.wav,1\nsection_03_0002.wav,1\n",
            None,
            "names section_03_0002.wav of fan",
        ),
        ("section_03_0000.wav,0\nsection_03_0001.wav,1\n", None, "ground_truth_domain: found no ground_truth_fan"),
        (
            "section_03_0000.wav,0\nsection_03_0001.wav,1\n",
            "section_03_0000.wav,0\n",
            "ground_truth_domain: has no row",
        ),
        (
            "section_03_0000.wav,0\nsection_03_0001.wav,2\n",
            None,
            "neither 0 nor 1: section_03_0001.wav .2.",
        ),
        ("section_03_0000.wav,0\nsection_03_0001.wav\n", None, "not <clip>.wav,<number>: row 2 .section_03_0001.wav."),
        ("section_03_0000.wav,0\nsection_03_0000.wav,0\n", None, "there more than once: section_03_0000.wav"),
        ('section_03_0000.wav,0\n"', None, "not a readable text file"),
        (None, None, "ground_truth_data: found no ground_truth_fan"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, domains, expected):
    with pytest.raises(InputError, match=expected) as refusal:
        with_truth(clips(), truth(tmp_path, labels, domains))
    assert str(tmp_path) in str(refusal.value)


def test_the_real_labels_of_2022():
    if not (real := os.environ.get("ASD_EVALUATION_DATA")):
        pytest.skip("ASD_EVALUATION_DATA does not name a folder with real challenge files")
    folder = Path(real) / "ground_truth"
    for machine in ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"):
        assert len(truth_files(folder, machine, "label")) == len(truth_files(folder, machine, "domain")) == 3
        rows = [manifest_row("section_03_source_train_normal_0000.wav")]
        for section in ("03", "04", "05"):
            for number in range(200):
                unknown = {"part": "evaluation", "domain": "", "label": ""}
                rows.append(manifest_row(f"section_{section}_{number:04d}.wav", "test", section) | unknown)
        after = with_truth(pd.DataFrame(rows, dtype=str).assign(machine=machine), folder)[1:]
        counts = after.groupby(["section", "domain", "label"]).size()
        assert len(counts) == 12
        assert (counts == 50).all()
