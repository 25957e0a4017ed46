import json
import os
import string
from contextlib import suppress
from pathlib import Path

import conftest
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asd.corpus import (
    COLUMNS,
    attribute_label,
    check_complete,
    parse_name,
    read_attributes,
    read_manifest,
    recording_numbers,
    recordings,
    scan,
    write_manifest,
)
from asd.errors import InputError


def lay(folder: Path, *files: str) -> Path:
    """Make empty recordings: scanning reads names only."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def fan(folder: Path, *more: str) -> Path:
    return lay(
        folder,
        "fan/train/section_00_source_train_normal_0000_m-n_W.wav",
        "fan/test/section_00_target_test_anomaly_0000_m-n_X.wav",
        *more,
    )


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "section_00_source_train_normal_0362_car_C2_spd_31V_mic_1.wav",
            ("00", "train", "source", "normal", {"car": "C2", "spd": "31V", "mic": "1"}),
        ),
        ("section_05_target_test_anomaly_0007_m-n_W.wav", ("05", "test", "target", "anomaly", {"m-n": "W"})),
        (
            "section_03_source_test_normal_0049_pat_bs-c_ac_0.10.wav",
            ("03", "test", "source", "normal", {"pat": "bs-c", "ac": "0.10"}),
        ),
        ("section_00_target_train_normal_0001.wav", ("00", "train", "target", "normal", {})),
        ("section_00_source_train_normal_0001_noAttribute.wav", ("00", "train", "source", "normal", {})),
        ("section_04_0123.wav", ("04", "test", "", "", {})),
    ],
)
def test_published_names(file, expected):
    assert tuple(parse_name(file)) == expected


@pytest.mark.parametrize(
    "file",
    [
        "recording.wav",
        "section_00_source_train_normal_0001_vel.wav",
        "section_00_source_train_normal_0001_vel_8_loc.wav",
        "section_00_source_train_normal_0001_vel__8.wav",
        "section_00_source_train_normal_0001_vel_8_vel_9.wav",
        "section_00_source_train_normal_0001_noAttribute_vel_8.wav",
        "section_00_source_train_anomaly_0001.wav",
        "section_00_source_test_0001.wav",
        "section_0_source_test_normal_0001.wav",
        "section_00_source_test_normal_1.wav",
        "section_00_source_test_normal_0001.WAV",
        "section_00_source_test_normal_0001.flac",
        "section_00_source_test_normal_0001.wav\n",
        "section_00_source_test_normal_0001_vel_8\n9.wav",
        "section_00_source_test_normal_0001_vel_\u0668.wav",
        "section_\u0660\u0660_0001.wav",
        "train/section_00_0001.wav",
        "Section_00_0001.wav",
        "",
    ],
)
def test_names_off_the_grammar(file):
    with pytest.raises(InputError, match="follow the naming scheme") as caught:
        parse_name(file)
    assert repr(file) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "names", "expected"),
    [
        (
            "section_00_source_train_normal_0000_strength_1_ambient.wav",
            "words",
            ("00", "train", "source", "normal", {"attributes": "strength_1_ambient"}),
        ),
        (
            "section_00_target_train_normal_0002_C2Spd6Mic1.wav",
            "words",
            ("00", "train", "target", "normal", {"attributes": "C2Spd6Mic1"}),
        ),
        ("section_02_target_test_anomaly_0099.wav", "words", ("02", "test", "target", "anomaly", {})),
        ("section_05_source_test_0199.wav", "words", ("05", "test", "source", "", {})),
        ("normal_id_00_00000000.wav", "id", ("00", "", "", "normal", {})),
        ("anomaly_id_06_00000012.wav", "id", ("06", "", "", "anomaly", {})),
        ("id_05_00000000.wav", "id", ("05", "test", "", "", {})),
    ],
)
def test_names_of_2021_and_2020(file, names, expected):
    assert tuple(parse_name(file, names)) == expected


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("section_03_0000.wav", "words"),
        ("section_03_train_0000.wav", "words"),
        ("section_03_source_train_0000.wav", "words"),
        ("section_00_source_train_anomaly_0000_C2.wav", "words"),
        ("section_00_source_test_normal_0000.wav", "id"),
        ("normal_id_0_00000000.wav", "id"),
        ("normal_id_00_00000000_vel_8.wav", "id"),
        ("id_05_00000000.wav", "pairs"),
        ("section_05_source_test_0199.wav", "pairs"),
    ],
)
def test_names_of_another_year(file, names):
    with pytest.raises(InputError, match="follow the naming scheme"):
        parse_name(file, names)


word = st.text(string.ascii_letters + string.digits + ".+-", min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(
    section=st.integers(0, 150),
    domain=st.sampled_from(["source", "target"]),
    kind=st.sampled_from(["train_normal", "test_normal", "test_anomaly"]),
    number=st.integers(0, 20000),
    attributes=st.dictionaries(word, word, max_size=4),
)
def test_a_name_says_what_it_was_made_of(section, domain, kind, number, attributes):
    tail = "".join(f"_{key}_{value}" for key, value in attributes.items())
    name = parse_name(f"section_{section:02d}_{domain}_{kind}_{number:04d}{tail}.wav")
    assert (name.section, name.domain, f"{name.split}_{name.label}") == (f"{section:02d}", domain, kind)
    assert list(name.attributes.items()) == list(attributes.items())


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60))
def test_any_text_is_a_name_or_an_input_error(text):
    with suppress(InputError):
        parse_name(text)


def test_attribute_label():
    assert attribute_label('{"vel": "8", "loc": "A"}') == "vel_8"
    assert attribute_label('{"ac": "0.10"}') == "ac_0.10"
    assert attribute_label("{}") == ""


# --- a folder -----------------------------------------------------------------------------------------------


def test_scan(tmp_path):
    fan(tmp_path, "fan/train/notes.txt", "fan/train/._section_00_0000.wav", "fan/readme.md", "valve/train/x.wav")
    clips = scan(tmp_path, "fan")
    assert list(clips.columns) == COLUMNS
    train, test = clips.to_dict("records")
    assert train == {
        "path": str(tmp_path / "fan/train/section_00_source_train_normal_0000_m-n_W.wav"),
        "file": "section_00_source_train_normal_0000_m-n_W.wav",
        "machine": "fan",
        "section": "00",
        "split": "train",
        "part": "development",
        "domain": "source",
        "label": "normal",
        "attributes": '{"m-n": "W"}',
        "recording": "",
    }
    assert (test["split"], test["part"], test["domain"], test["label"]) == ("test", "development", "target", "anomaly")


def test_recording_numbers():
    named = pd.DataFrame({"recording": ["b", "", "a", "b", "", "0", "a"]})
    assert recording_numbers(named).tolist() == [0, 1, 2, 0, 3, 4, 2]
    assert recording_numbers(named[4:]).tolist() == [0, 1, 2]
    assert recording_numbers(named.assign(recording="")).tolist() == list(range(7))
    assert recording_numbers(named.drop(columns="recording")).tolist() == list(range(7))
    assert len(recording_numbers(named[:0])) == 0


def test_recordings_behind_links_and_what_is_left_out(tmp_path, caplog):
    for split in ("train", "test"):
        (tmp_path / "disk" / split).mkdir(parents=True)
        (tmp_path / "disk" / split / f"section_00_source_{split}_normal_0000.wav").touch()
        (tmp_path / "fan").mkdir(exist_ok=True)
        (tmp_path / "fan" / split).symlink_to(tmp_path / "disk" / split)
    (tmp_path / "disk/train/section_00_source_train_normal_0001.flac").touch()
    (tmp_path / "disk/train/section_00_source_train_normal_0002.m4a").touch()
    assert len(scan(tmp_path, "fan")) == 2
    assert "2 left out" in caplog.text
    assert "0001.flac (not a wav; a manifest.csv can list it)" in caplog.text
    assert "0002.m4a (.m4a is no format that can be read" in caplog.text
    (tmp_path / "fan/test/section_00_source_test_normal_0003.wav").symlink_to(
        tmp_path / "disk/train/section_00_source_train_normal_0000.wav"
    )
    with pytest.raises(InputError, match="are one recording"):
        scan(tmp_path, "fan")


def test_what_a_manifest_tells_is_said_before_any_stage(caplog):
    row = conftest.manifest_row
    rows = [row("0.wav"), row("1.wav"), row("2.wav", "test")]
    check_complete(conftest.manifest(*rows), "fan.csv")
    assert not caplog.text
    with pytest.raises(InputError, match=r"section 01 has 2 test clips, but no training clips \(00 have some"):
        check_complete(conftest.manifest(*rows, row("3.wav", "test", "01"), row("4.wav", "test", "01")), "fan.csv")
    with pytest.raises(InputError, match=r"fan\.csv: found no training clips"):
        check_complete(conftest.manifest(rows[2]), "fan.csv")
    check_complete(conftest.manifest(*rows, row("3.wav", section="02")), "fan.csv")
    assert "section 02 has a single training recording" in caplog.text
    assert "section 02 has no test clips" in caplog.text


def test_only_the_base_name_says_domain_and_label(tmp_path):
    folder = tmp_path / "source_anomaly_train"
    lay(folder, "source_fan/train/section_00_target_train_normal_0000.wav", "source_fan/test/section_00_0000.wav")
    clips = scan(folder, "source_fan")
    assert list(clips["domain"]) == ["target", ""]
    assert list(clips["label"]) == ["normal", ""]


def test_rows_are_sorted_training_first(tmp_path):
    lay(
        tmp_path,
        "fan/test/section_00_source_test_normal_0001.wav",
        "fan/test/section_00_source_test_anomaly_0001.wav",
        "fan/train/section_01_source_train_normal_0000.wav",
        "fan/train/section_00_target_train_normal_0000.wav",
    )
    assert [file[:30] for file in scan(tmp_path, "fan")["file"]] == [
        "section_00_target_train_normal",
        "section_01_source_train_normal",
        "section_00_source_test_anomaly",
        "section_00_source_test_normal_",
    ]


def test_the_same_name_in_both_splits(tmp_path):
    """2020 numbers the normal clips of training and of test each from 0: only the folder tells them apart."""
    lay(tmp_path, *(f"fan/{split}/normal_id_00_00000000.wav" for split in ("train", "test")))
    lay(tmp_path, "fan/test/anomaly_id_00_00000000.wav", "fan/test/id_01_00000000.wav")
    clips = scan(tmp_path, "fan", "id")
    assert list(clips["split"]) == ["train", "test", "test", "test"]
    assert list(clips["label"]) == ["normal", "anomaly", "", "normal"]
    assert list(clips["section"]) == ["00", "00", "01", "00"]
    assert set(clips["domain"]) == {""}
    write_manifest(tmp_path / "fan/manifest.csv", clips)
    again = read_manifest(tmp_path / "fan/manifest.csv")
    assert len({*recordings(tmp_path / "fan/manifest.csv", again)}) == 4


@pytest.mark.parametrize("file", ["anomaly_id_00_00000000.wav", "id_00_00000000.wav"])
def test_no_training_clip_but_a_normal_one(tmp_path, file):
    with pytest.raises(InputError, match=file):
        scan(lay(tmp_path, "fan/train/normal_id_00_00000000.wav", f"fan/train/{file}"), "fan", "id")


@pytest.mark.parametrize(
    ("tests", "parts"),
    [
        # section 00 and 01 have a training clip each; expected: the parts of these two
        (["section_00_source_test_normal_0000.wav", "section_01_0000.wav"], ["development", "additional"]),
        (["section_00_0000.wav", "section_01_0000.wav"], ["additional", "additional"]),
        (["section_00_0000.wav", "section_00_source_test_normal_0000.wav"], ["development", "additional"]),
        (["section_00_source_test_normal_0000.wav"], ["development", "additional"]),
        ([], ["development", "development"]),
    ],
)
def test_parts(tmp_path, tests, parts):
    train = [f"fan/train/section_0{i}_source_train_normal_0000.wav" for i in (0, 1)]
    clips = scan(lay(tmp_path, *train, *(f"fan/test/{file}" for file in tests)), "fan")
    assert list(clips["part"][clips["split"] == "train"]) == parts
    test = clips[clips["split"] == "test"]
    assert list(test["part"]) == ["development" if label else "evaluation" for label in test["label"]]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("fan/train/section_00_source_train_normal_1.wav", "follow the naming scheme"),
        ("fan/train/caf\u00e9\x07.wav", r"'caf\u00e9\\x07.wav' does not follow the naming scheme"),
        ("fan/train/section_00_source_train_normal_0009.WAV", "follow the naming scheme"),
        ("fan/train/section_00_source_test_normal_0009.wav", "its name says test, but it lies in train"),
        ("fan/train/section_00_0009.wav", "its name says test, but it lies in train"),
        ("fan/test/section_00_source_train_normal_0009.wav", "its name says train, but it lies in test"),
        ("fan/section_00_source_train_normal_0009.wav", "outside the folders train and test"),
        ("fan/source_test/section_00_source_test_normal_0009.wav", "outside the folders train and test"),
        ("fan/train/more/section_00_source_train_normal_0009.wav", "outside the folders train and test"),
    ],
)
def test_a_stray_recording_is_refused(tmp_path, file, expected):
    with pytest.raises(InputError, match=expected) as caught:
        scan(fan(tmp_path, file), "fan")
    assert str(tmp_path / "fan") in str(caught.value)


def test_missing_folders_and_recordings(tmp_path):
    with pytest.raises(InputError, match="fan: no such folder"):
        scan(tmp_path, "fan")
    lay(tmp_path, "fan/train/notes.txt", "fan/test/section_00_source_test_normal_0000.wav")
    with pytest.raises(InputError, match="found no wav"):
        scan(tmp_path, "fan")


# --- attribute csvs -----------------------------------------------------------------------------------------

VALVE = [
    "valve/train/section_05_source_train_normal_0000_v1pat_00_v2pat_01.wav",
    "valve/train/section_05_target_train_normal_0001_v1pat_0.10.wav",
    "valve/test/section_05_0000.wav",
]


def valve(folder: Path, csv: str | bytes) -> Path:
    lay(folder, *VALVE)
    (folder / "valve/attributes_05.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    return folder


def test_attributes_of_a_ragged_csv(tmp_path):
    # As the real valve 05: rows of four and of six cells; values are text, and the csv spells the keys its own way.
    csv = f"file_name,d1p,d1v,d2p,d2v\n{VALVE[0]},pat1,00,pat2,01\n{VALVE[1]},pat1,0.10\n"
    clips = scan(valve(tmp_path, csv), "valve")
    assert list(clips["attributes"]) == ['{"pat1": "00", "pat2": "01"}', '{"pat1": "0.10"}', "{}"]


def test_a_csv_of_another_section_leaves_the_names_to_speak(tmp_path):
    valve(tmp_path, f"file_name,d1p,d1v\n{VALVE[0]},a,1\n{VALVE[1]},a,2\n")
    lay(tmp_path, "valve/train/section_06_source_train_normal_0000_vel_8.wav")
    assert list(scan(tmp_path, "valve")["attributes"]) == ['{"a": "1"}', '{"a": "2"}', '{"vel": "8"}', "{}"]


@pytest.mark.parametrize("name", [lambda file: file.split("/", 1)[1], lambda file: file.split("/")[-1]])
def test_shorter_file_names_and_padded_rows(tmp_path, name):
    csv = f"\ufefffile_name,d1p,d1v,d2p,d2v\r\n{name(VALVE[0])},a,1,,\r\n{name(VALVE[1])},,,,\r\n\r\n"
    assert list(scan(valve(tmp_path, csv), "valve")["attributes"]) == ['{"a": "1"}', "{}", "{}"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (f"{VALVE[0]},a,1\n{VALVE[1]},a\n", "row 3: found .*whole pairs"),
        (f"{VALVE[0]},a,1,b\n{VALVE[1]},a,1\n", "row 2: found .*whole pairs"),
        (f"{VALVE[0]},a,,b,2\n{VALVE[1]},a,1\n", "row 2: found .*whole pairs"),
        (f"{VALVE[0]},a,1,a,2\n{VALVE[1]},a,1\n", "row 2: found .*each key once"),
        (f"{VALVE[0]},a,1\n,a,1\n", "row 3: names '', found no such recording"),
        (f"{VALVE[0]},a,1\nvalve/train/gone.wav,a,1\n", "row 3: names 'valve/train/gone.wav', found no such"),
        (f"fan{VALVE[0][5:]},a,1\n", "row 2: names 'fan/train.*found no such recording"),
        (f"{VALVE[0].replace('train/', 'test/')},a,1\n", "row 2: .*found no such recording"),
        (f"{VALVE[0]},a,1\n{VALVE[1]},a,1\n{VALVE[0]},a,2\n", "row 4: names .* a second time"),
        (f"{VALVE[0]},a,1\n", "no row for 1 of the section's labelled clips .section_05_target_train_normal_0001"),
        (f'{VALVE[0]},"a,1\n', "not an attribute csv"),
    ],
)
def test_broken_rows(tmp_path, rows, expected):
    with pytest.raises(InputError, match=expected) as caught:
        scan(valve(tmp_path, "file_name,d1p,d1v\n" + rows), "valve")
    assert str(tmp_path / "valve/attributes_05.csv") in str(caught.value)


@pytest.mark.parametrize("csv", [b"", b"name,d1p,d1v\n", b"\xff\xfe\x00", b"RIFF\x00\x00\n"])
def test_files_that_are_no_attribute_csv(tmp_path, csv):
    with pytest.raises(InputError, match=r"attributes_05\.csv"):
        scan(valve(tmp_path, csv), "valve")


def test_attributes_of_a_section_without_recordings(tmp_path):
    (fan(tmp_path) / "fan/attributes_07.csv").write_text("file_name,d1p,d1v\nfan/train/section_07_0000.wav,a,1\n")
    with pytest.raises(InputError, match=r"attributes_07\.csv: row 2"):
        scan(tmp_path, "fan")


@settings(deadline=None, max_examples=60)
@given(csv=st.binary(max_size=80))
def test_any_bytes_are_attributes_or_an_input_error(tmp_path_factory, csv):
    path = tmp_path_factory.mktemp("csv") / "attributes_05.csv"
    path.write_bytes(b"file_name,d1p,d1v\n" + csv)
    clips = pd.DataFrame({"machine": ["valve"], "split": ["test"], "file": ["a.wav"]})
    with suppress(InputError):
        assert set(read_attributes(path, clips)) <= {"a.wav"}


# --- manifests ----------------------------------------------------------------------------------------------


def test_a_manifest_moves_with_the_recordings_below_it(tmp_path):
    clips = scan(fan(tmp_path / "a"), "fan")
    write_manifest(tmp_path / "a/fan/manifest.csv", clips)
    (tmp_path / "a").rename(tmp_path / "b")
    manifest = tmp_path / "b/fan/manifest.csv"
    again = read_manifest(manifest)
    assert list(again["path"]) == [f"{split}/{file}" for split, file in zip(again["split"], again["file"], strict=True)]
    assert all(path.is_file() for path in recordings(manifest, again))
    pd.testing.assert_frame_equal(again.drop(columns="path"), clips.drop(columns="path"), check_dtype=False)


def test_recordings_elsewhere_are_absolute(tmp_path, monkeypatch):
    fan(tmp_path / "plant")
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("data/fan/manifest.csv"), scan(Path("data/../plant"), "fan"))
    again = read_manifest(Path("data/fan/manifest.csv"))
    assert list(again["path"]) == [str(path) for path in recordings(tmp_path / "elsewhere.csv", again)]
    assert all(Path(path).is_file() for path in again["path"])


def test_texts_survive_a_manifest(tmp_path):
    home = tmp_path / 'a "plant", n\u00e4mlich 1\n2'
    write_manifest(tmp_path / "manifest.csv", scan(fan(home), "fan"))
    again = read_manifest(tmp_path / "manifest.csv")
    assert all(path.is_file() for path in recordings(tmp_path / "manifest.csv", again))
    assert list(again["section"]) == ["00", "00"]
    assert [json.loads(text) for text in again["attributes"]] == [{"m-n": "W"}, {"m-n": "X"}]


def test_a_folder_whose_name_is_not_text(tmp_path):
    clips = scan(fan(tmp_path / os.fsdecode(b"\xff")), "fan")
    with pytest.raises(InputError, match="is not text"):
        write_manifest(tmp_path / "manifest.csv", clips)
    assert [path.name for path in tmp_path.iterdir()] == [os.fsdecode(b"\xff")]


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda text: text.replace(",train,", ",training,"), "row 2: split: found 'training', expected 'train' or"),
        (lambda text: text.replace(",anomaly,", ",broken,"), "row 3: label: found 'broken'"),
        (lambda text: text.replace("development", "dev"), "row 2: part"),
        (lambda text: text.replace(",target,", ",Target,"), "row 3: domain"),
        (lambda text: text.replace(",00,", ",,"), "row 2: section: found ''"),
        (lambda text: text.replace('"{""m-n"": ""X""}"', '"[1]"'), "row 3: attributes"),
        (lambda text: text.replace('"{""m-n"": ""X""}"', '"{""a"": 1}"'), "row 3: attributes"),
        (lambda text: text.replace('"{""m-n"": ""X""}"', "{"), "row 3: attributes"),
        (lambda text: text[: text.index(",development") + 1] + "\n", "row 2: "),
        (lambda text: text + text.splitlines()[-1] + "\n", "row 4: file: .*each once"),
        (lambda text: text.replace("part,", "", 1), "found the columns|not a readable manifest"),
        (lambda text: text.splitlines()[0] + "\n", "no clips"),
        (lambda text: "", "not a readable manifest"),
        (lambda text: text + "a,b,c,d,e,f,g,h,i,j,k\n", "not a readable manifest"),
        (lambda text: text.replace("development", "develop,ment"), "rows with more cells than the header"),
    ],
)
def test_a_broken_manifest(tmp_path, break_it, expected):
    path = tmp_path / "manifest.csv"
    write_manifest(path, scan(fan(tmp_path), "fan"))
    text = path.read_text()
    assert break_it(text) != text
    path.write_text(break_it(text))
    with pytest.raises(InputError, match=expected) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_a_missing_manifest(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv"):
        read_manifest(tmp_path / "gone.csv")


# --- real recordings ----------------------------------------------------------------------------------------


def test_the_names_of_real_recordings():
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    machines = sorted(path.name for path in Path(real).iterdir() if path.is_dir())
    for machine in machines:
        clips = scan(Path(real), machine)
        assert set(clips["section"]) == {"00"}
        assert set(clips["part"]) == {"development"}
        assert (clips["attributes"] != "{}").all()
