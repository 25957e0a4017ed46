"""The demo corpus: layout, determinism, levels, and the reference detectors that it was made for."""

import csv
import importlib.util
import math
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from asd.demo.acoustics import RATE
from asd.demo.synthesis import SHIFTS, Clip, plan, record, write_machine
from asd.errors import InputError
from asd.settings import Demo

MACHINES = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]
TINY = Demo(sections=3, additional_sections=1, train_source=3, train_target=2, test=2, seconds=0.5)
DEVELOPMENT = re.compile(
    r"section_(\d\d)_(source|target)_(train_normal|test_normal|test_anomaly)_(\d{4})((?:_[a-z0-9-]+?_[A-Za-z0-9.-]+)+)\.wav"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for machine in MACHINES:
        write_machine(folder, machine, TINY)
    return folder


# --- layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_names_and_counts_are_those_of_the_published_set(corpus, machine):
    train = sorted(path.name for path in (corpus / machine / "train").iterdir())
    test = sorted(path.name for path in (corpus / machine / "test").iterdir())
    assert len(train) == 4 * (3 + 2)
    assert len(test) == 3 * 8 + 8
    assert [name for name in test if name.startswith("section_03")] == [f"section_03_{i:04d}.wav" for i in range(8)]
    found = {}
    for name in train + [name for name in test if not name.startswith("section_03")]:
        section, domain, kind, index, _ = DEVELOPMENT.fullmatch(name).groups()
        found.setdefault((section, domain, kind), []).append(int(index))
    for section in ("00", "01", "02", "03"):
        assert sorted(found[section, "source", "train_normal"]) == [0, 1, 2]
        assert sorted(found[section, "target", "train_normal"]) == [0, 1]
    for section in ("00", "01", "02"):
        for domain in ("source", "target"):
            assert sorted(found[section, domain, "test_normal"]) == [0, 1]
            assert sorted(found[section, domain, "test_anomaly"]) == [0, 1]
    assert len(found) == 4 * 2 + 3 * 4


@pytest.mark.parametrize("machine", MACHINES)
def test_recordings_are_16_khz_mono_16_bit(corpus, machine):
    for path in (corpus / machine).glob("*/*.wav"):
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (
                16000,
                1,
                2,
                8000,
            )


@pytest.mark.parametrize("machine", MACHINES)
def test_attribute_csvs_hold_the_shifted_parameters_of_every_labelled_clip(corpus, machine):
    for section in ("00", "01", "02", "03"):
        rows = list(csv.reader((corpus / machine / f"attributes_{section}.csv").open(newline="")))
        assert rows[0] in (["file_name", "d1p", "d1v"], ["file_name", "d1p", "d1v", "d2p", "d2v"])
        labelled = {f"{machine}/{path.parent.name}/{path.name}"
                    for path in (corpus / machine).glob(f"*/section_{section}_*_*_*.wav")}  # fmt: skip
        assert {row[0] for row in rows[1:]} == labelled
        assert len(rows) - 1 == len(labelled)
        shifted = {"source": set(), "target": set()}
        for file, *pairs in rows[1:]:
            assert len(pairs) in (2, 4)
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                assert f"_{'spd' if key == 'speed' else key}_{value}" in file
            shifted["source" if "_source_" in file else "target"].add(tuple(pairs))
        assert len(shifted["source"]) > 1 or machine.startswith("Toy")  # a toy's microphone has one value
        assert not shifted["source"] & shifted["target"]


def test_attributes_of_the_real_development_set():
    keys = {
        machine: [shift.source[0].keys() | shift.target[0].keys() for shift in SHIFTS[machine]] for machine in MACHINES
    }
    assert keys["ToyCar"] == keys["ToyTrain"] == [{"car", "spd", "mic", "noise"}] * 3
    assert keys["bearing"] == [{"vel"}, {"vel", "loc"}, {"vel", "f-n"}]
    assert keys["gearbox"] == [{"volt"}, {"wt"}, {"id"}]
    assert keys["slider"] == [{"vel"}, {"ac"}, {"f-n"}]
    assert keys["valve"] == [{"pat"}, {"pat", "panel"}, {"v1pat", "v2pat"}]
    assert keys["fan"] == [{"m-n"}, {"f-n"}, {"vel", "n-lv"}]


@pytest.mark.parametrize("machine", ["ToyCar", "bearing"])
def test_ground_truth_of_the_evaluation_clips(corpus, machine):
    for kind in ("data", "domain"):
        path = corpus / f"ground_truth_{kind}" / f"ground_truth_{machine}_section_03_test.csv"
        assert b"\r" not in path.read_bytes()
        rows = list(csv.reader(path.open(newline="")))
        assert [row[0] for row in rows] == [f"section_03_{i:04d}.wav" for i in range(8)]
        assert sorted(row[1] for row in rows) == ["0"] * 4 + ["1"] * 4
        assert not list(path.parent.glob("*section_00*"))


def test_ground_truth_is_of_the_clips_that_were_written(tmp_path):
    hidden = Demo(sections=1, additional_sections=1, train_source=1, train_target=1, test=2, seconds=0.5)
    write_machine(tmp_path, "fan", hidden)
    label = dict(csv.reader((tmp_path / "ground_truth_data/ground_truth_fan_section_01_test.csv").open()))
    domain = dict(csv.reader((tmp_path / "ground_truth_domain/ground_truth_fan_section_01_test.csv").open()))
    named = plan("fan", hidden.model_copy(update={"sections": 2, "additional_sections": 0}))
    for clip in named:
        if clip.section == "01" and clip.split == "test":
            data = record(clip, hidden.seed, 0.5).tobytes()
            [name] = [p.name for p in (tmp_path / "fan/test").glob("section_01_*.wav") if p.read_bytes().endswith(data)]
            assert label[name] == str(int(clip.label == "anomaly"))
            assert domain[name] == str(int(clip.domain == "target"))


# --- determinism --------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_bytes_do_not_depend_on_processes_or_on_what_was_there(corpus, tmp_path):
    write_machine(tmp_path, "valve", TINY, jobs=2)
    first = contents(tmp_path)
    assert first == {name: data for name, data in contents(corpus).items() if "valve" in name}
    victim = next((tmp_path / "valve" / "test").iterdir())
    victim.write_bytes(b"broken")
    write_machine(tmp_path, "valve", TINY)
    assert contents(tmp_path) == first


def test_a_clip_does_not_depend_on_the_others(corpus, tmp_path):
    write_machine(tmp_path, "fan", Demo(sections=2, train_source=1, train_target=1, test=1, seconds=0.5))
    few, many = contents(tmp_path), contents(corpus)
    recordings = [name for name in few if name.endswith(".wav")]
    assert len(recordings) == 12
    assert all(few[name] == many[name] for name in recordings)


def test_another_seed_is_another_corpus():
    clips = [clip for clip in plan("gearbox", TINY) if clip.section == "00"]
    sounds = [record(clip, seed, 0.5).tobytes() for seed in (1, 2) for clip in clips]
    assert len(set(sounds)) == 2 * len(clips)


# --- bad input ----------------------------------------------------------------------------------------------


def test_an_unknown_machine_is_refused_with_the_seven_that_there_are(tmp_path):
    with pytest.raises(InputError) as error:
        write_machine(tmp_path, "pump", TINY)
    assert all(name in str(error.value) for name in [*MACHINES, "'pump'"])
    assert not list(tmp_path.iterdir())


def test_more_sections_than_two_digits_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than 100"):
        write_machine(tmp_path, "fan", Demo(sections=60, additional_sections=41))


def test_recordings_of_another_corpus_are_not_mixed_in(tmp_path):
    write_machine(tmp_path, "fan", Demo(sections=1, train_source=1, train_target=0, test=2, seconds=0.5))
    with pytest.raises(InputError, match=r"found 4 recordings .* such as section_00_\w+_0001"):
        write_machine(tmp_path, "fan", Demo(sections=1, train_source=1, train_target=0, test=1, seconds=0.5))


def test_an_interrupted_recording_has_no_final_name(tmp_path, monkeypatch):
    def interrupted(path, *_, **__):
        Path(path).write_bytes(b"RIFF")
        raise KeyboardInterrupt

    monkeypatch.setattr("soundfile.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_machine(tmp_path, "fan", TINY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_recordings_are_neither_silent_nor_clipped(machine):
    for clip in plan(machine, Demo(sections=3, train_source=2, train_target=2, test=2)):
        sound = record(clip, 2022, 1.5) / 32768
        assert -50 < 10 * math.log10(np.mean(sound**2)) < -25
        assert np.abs(sound).max() < 0.9
        assert abs(sound.mean()) < 0.01


def test_sections_are_different_units():
    spectra = []
    for section in ("00", "03"):
        sounds = [
            record(Clip("slider", section, "train", "source", "normal", i, {"vel": "500"}), 1, 2.0) for i in range(3)
        ]
        spectra.append([10 * np.log10(scipy.signal.welch(s / 32768, RATE, nperseg=1024)[1]) for s in sounds])
    within = max(np.abs(a - b).mean() for unit in spectra for a in unit for b in unit)
    between = min(np.abs(a - b).mean() for a in spectra[0] for b in spectra[1])
    assert between > within


def test_a_louder_hall_is_louder():
    def level(name):
        clips = [Clip("fan", "02", "train", "source", "normal", i, {"vel": "1200", "n-lv": name}) for i in range(6)]
        return np.mean([10 * np.log10(np.mean((record(clip, 1, 1.0) / 32768) ** 2)) for clip in clips])

    levels = [level(name) for name in ("L1", "L2", "L3", "L4")]
    assert levels == sorted(levels)
    assert levels[3] - levels[0] > 2


# --- the references -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def references():
    path = Path(__file__).parent / "references.py"
    spec = importlib.util.spec_from_file_location("references", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_references_by_hand(references, tmp_path):
    """Levels in dB: training -20 -20; source normals -20, anomalies -15 and -25 and -20.5, target normals -17."""
    import soundfile

    clips = {"train": [("source_train_normal", -20), ("source_train_normal", -20)]}
    clips["test"] = [("source_test_normal", -20), ("target_test_normal", -17), ("source_test_anomaly", -15),
                     ("target_test_anomaly", -25), ("target_test_anomaly", -20.5)]  # fmt: skip
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    for split, rows in clips.items():
        (tmp_path / "fan" / split).mkdir(parents=True)
        for i, (kind, decibels) in enumerate(rows):
            path = tmp_path / "fan" / split / f"section_00_{kind}_{i:04d}_m-n_W.wav"
            soundfile.write(path, tone * 10 ** (decibels / 20), RATE)
    found = references.judge(tmp_path / "fan")
    for reference in ("level", "nearest"):
        assert found[reference] == pytest.approx({"source": 1.0, "target": 2 / 3, "all": 5 / 6})


def test_references_refuse_a_folder_without_a_corpus(references, tmp_path):
    (tmp_path / "fan" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="found no section"):
        references.judge(tmp_path / "fan")
