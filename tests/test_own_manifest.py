"""A plain tree of recordings: reading its manifest, and proposing a first one."""

import csv
import errno
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from asd.corpus import COLUMNS, read_manifest, recordings, scan, write_manifest
from asd.errors import InputError
from asd.own_manifest import listed, manifest_of, propose, read_all, recordings_below
from asd.settings import load

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/make_manifest.py"


def lay(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return folder


def tree(folder: Path, text: str, *more: str) -> Path:
    """A tree with this manifest, and the files that its first column names."""
    lay(folder, *(line.split(",")[0] for line in text.splitlines()[1:] if line), *more)
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder / "manifest.csv"


FULL = """file,machine,split,section,domain,label,rpm,note
b/2.flac,pump,train,left,source,,900,
b/1.wav,pump,train,left,target,normal,0.10,"new, bearing"
c/1.wav,pump,test,left,,anomaly,,
c/2.wav,pump,test,right,,,,
b/3.wav,pump,train,right,,,,
x.mp3,press,train,,,,,
"""


def test_what_a_manifest_says(tmp_path):
    clips = listed(tree(tmp_path, FULL), "pump")
    assert list(clips.columns) == COLUMNS
    assert list(clips["file"]) == ["b/1.wav", "b/2.flac", "b/3.wav", "c/1.wav", "c/2.wav"]  # train first, by file
    assert list(clips["section"]) == ["left", "left", "right", "left", "right"]
    assert list(clips["domain"]) == ["target", "source", "", "", ""]
    assert list(clips["label"]) == ["normal", "normal", "normal", "anomaly", ""]
    assert list(clips["part"]) == ["development", "development", "additional", "development", "evaluation"]
    attributes = [json.loads(one) for one in clips["attributes"]]
    assert attributes == [{"rpm": "0.10", "note": "new, bearing"}, {"rpm": "900"}, {}, {}, {}]
    assert all(Path(one).is_file() for one in clips["path"])
    write_manifest(tmp_path / "out/manifest.csv", clips)
    again = read_manifest(tmp_path / "out/manifest.csv")
    pd.testing.assert_frame_equal(again, clips, check_dtype=False)
    assert all(path.is_file() for path in recordings(tmp_path / "out/manifest.csv", again))


def test_three_columns_are_enough(tmp_path):
    path = tree(tmp_path, "split,file,machine\n", "1.wav")
    path.write_text("split, file, machine\ntrain, 1.wav, fan\n", encoding="utf-8-sig")  # as a spreadsheet writes it
    row = listed(path, "fan").iloc[0]
    assert row.drop("path").to_dict() == {
        "file": "1.wav",
        "machine": "fan",
        "section": "00",
        "split": "train",
        "part": "development",
        "domain": "",
        "label": "normal",
        "attributes": "{}",
        "recording": "",
    }


def test_parts_of_recordings(tmp_path, caplog):
    lay(tmp_path, *(f"{number}.wav" for number in range(5)))
    header = "file,machine,split,recording,speed\n"
    rows = "0.wav,fan,train,a,1\n1.wav,fan,train,a,2\n2.wav,fan,train,,3\n3.wav,fan,test,b,4\n"
    path = tmp_path / "manifest.csv"
    path.write_text(header + rows + "4.wav,pump,train,b,5\n")
    clips = listed(path, "fan")
    assert clips["recording"].tolist() == ["a", "a", "", "b"]
    assert clips["attributes"].tolist() == [f'{{"speed": "{number}"}}' for number in range(1, 5)]
    assert "both splits" not in caplog.text
    path.write_text(header + rows + "4.wav,fan,train,b,5\n")
    listed(path, "fan")
    assert "machine fan: 1 recordings have parts in both splits (b)" in caplog.text


def test_a_manifest_of_the_workflow_itself(tmp_path):
    lay(tmp_path, "fan/train/section_00_source_train_normal_0000_vel_8.wav", "fan/test/section_00_0000.wav")
    expected = scan(tmp_path, "fan")
    write_manifest(tmp_path / "fan/manifest.csv", expected)
    assert manifest_of(tmp_path, "fan") == tmp_path / "fan/manifest.csv"
    pd.testing.assert_frame_equal(listed(tmp_path / "fan/manifest.csv", "fan"), expected, check_dtype=False)


def test_the_machine_s_own_manifest_comes_first(tmp_path):
    assert manifest_of(tmp_path, "fan") is None
    lay(tmp_path, "manifest.csv")
    assert manifest_of(tmp_path, "fan") == tmp_path / "manifest.csv"
    lay(tmp_path, "fan/manifest.csv")
    assert manifest_of(tmp_path, "fan") == tmp_path / "fan/manifest.csv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,machine\n1.wav,fan\n", "found the columns file, machine; expected also split"),
        ("file,machine,split\n", "found no rows"),
        ("file,machine,split\n1.wav,fan,train,more\n", "row 2: found 4 cells, the header has 3"),
        ("", "found the columns ; expected also file, machine, split"),
        (",file,machine,split\n0,1.wav,fan,train\n", "column 1 has no name .*'0'.*row numbers"),
        ("Unnamed: 0,file,machine,split\n0,1.wav,fan,train\n", "column 1 has no name .*'Unnamed: 0'"),
        ("file,machine,split,rpm,rpm\n1.wav,fan,train,1,2\n", "found the column 'rpm' 2 times"),
        ("file,machine,split\n1.wav,fan,train\nfile,machine,split\n", "row 3: the header a second time"),
        ("file;machine\n1.wav;fan\n", r"found the columns file;machine \(separated by semicolons\?\)"),
        ('file,machine,split\n"1.wav,fan,train\n', "not a readable csv"),
        ("file,machine,split\n\n\n1.wav,fan,Train\n", "row 4: split: found 'Train'"),
        ("file,machine,split\n1.wav,fan,Train\n", "row 2: split: found 'Train', expected 'train' or 'test'"),
        ("file,machine,split\n1.wav,fan,train\n2.wav,fan,\n", "row 3: split: found ''"),
        ("file,machine,split\n1.wav,fan,train\n1.wav,fan,test\n", "row 3: file: found '1.wav', expected each .* once"),
        ("file,machine,split,label\n1.wav,fan,train,anomaly\n", "row 2: label: found 'anomaly', expected 'normal'"),
        ("file,machine,split,domain\n1.wav,fan,train,home\n", "row 2: domain: found 'home', expected 'source' or"),
        ("file,machine,split,section\n1.wav,fan,train,a/b\n", "row 2: section: found 'a/b', expected a name"),
        ("file,machine,split\n1.wav,my fan,train\n", "row 2: machine: found 'my fan', expected a name"),
        ("file,machine,split\n1.wav,press,train\n", r"no training recordings of 'fan'.*machines are press \(1\)"),
        ("file,machine,split\n1.wav,fan,test\n", "no training recordings of 'fan'"),
    ],
)
def test_a_broken_manifest(tmp_path, text, expected):
    with pytest.raises(InputError, match=expected) as caught:
        listed(tree(tmp_path, text), "fan")
    assert "manifest.csv" in str(caught.value)


def test_a_row_without_its_file(tmp_path):
    path = tree(tmp_path, "file,machine,split\n1.wav,fan,train\n2.wav,fan,train\n")
    (tmp_path / "2.wav").unlink()
    with pytest.raises(InputError, match=r"row 3: names '2\.wav', found no such file \(1 such rows\)"):
        listed(path, "fan")


def test_a_file_without_a_row_is_said(tmp_path, caplog):
    path = tree(
        tmp_path, "file,machine,split\n1.wav,fan,train\n", "deep/2.FLAC", "notes.txt", ".hidden/3.wav", "._1.wav"
    )
    assert len(listed(path, "fan")) == 1
    assert "1 left out" in caplog.text
    assert "2.FLAC (no row in the manifest)" in caplog.text


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_what_spreadsheets_write(tmp_path, mark):
    path = tree(tmp_path, FULL)
    expected = read_all(path)
    text = FULL.replace('"new, bearing"', '"new, bearing"' if mark == "," else "new§ bearing").replace(",", mark)
    text = text.replace("§", ",").replace("\n", "\r\n")
    header, rows = text.split("\r\n", 1)
    text = f"{header}{mark}{mark}\r\n{rows.replace(chr(13), 2 * mark + chr(13))}{mark * 9}\r\n\r\n"  # padded
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    pd.testing.assert_frame_equal(read_all(path), expected)


def test_one_recording_under_two_names(tmp_path):
    text = "file,machine,split\na/1.wav,fan,train\nb/2.wav,fan,test\n{},fan,test\n"
    path = tree(tmp_path, text.format("a/3.wav"))
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "b/hard.wav").hardlink_to(tmp_path / "a/1.wav")
    for name in ("./a/1.wav", "b/../a/1.wav", "link/1.wav", "b/hard.wav", str(tmp_path / "a/1.wav")):
        path.write_text(text.format(name))
        with pytest.raises(InputError, match=r"a/1\.wav and .* are one recording"):
            read_all(path)
    path.write_text(text.format("a/1.wav").replace("a/1.wav,fan,test", "a/1.wav,press,train"))
    assert len(read_all(path)) == 3  # another machine may have it too


def test_names_that_are_spelled_alike(tmp_path, monkeypatch):
    lay(tmp_path, unicodedata.normalize("NFD", "a/Lüfter.wav"), "b/2.wav", "home/3.wav")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = "file,machine,split\na/Lüfter.wav,fan,train\nb\\2.wav,fan,test\n~/3.wav,fan,test\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
    clips = read_all(tmp_path / "manifest.csv")
    assert all(Path(one).is_file() for one in clips["path"])
    assert set(clips["file"]) == {"a/Lüfter.wav", "b\\2.wav", "~/3.wav"}


def test_an_attribute_that_numbers_the_rows_is_said(tmp_path, caplog):
    rows = [f"{i}.wav,fan,{'train' if i < 6 else 'test'},{i % 2},{i}" for i in range(8)]
    read_all(tree(tmp_path, "\n".join(["file,machine,split,speed,number", *rows])))
    (said,) = [one for one in caplog.messages if "attribute" in one]
    assert "machine fan: the attribute 'number' is different for each of 8 clips" in said


def test_recordings_behind_links_are_found(tmp_path, caplog):
    lay(tmp_path, "disk/train/1.wav", "disk/test/2.wav", "disk/test/.trash/3.wav", "disk/$RECYCLE.BIN/4.wav")
    (tmp_path / "tree/pump").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "tree/pump" / split).symlink_to(tmp_path / "disk" / split)
    (tmp_path / "tree/pump/again").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/gone.wav").symlink_to("nowhere.wav")
    table = propose(tmp_path / "tree", ["{machine}/{split}/*"], {}, {})
    assert list(table["file"]) == ["pump/test/2.wav", "pump/train/1.wav"]
    assert "pump/again (a link to a folder that it lies in)" in caplog.text
    assert f"gone.wav ({os.strerror(errno.ENOENT)})" in caplog.text


def test_what_cannot_be_read_is_named(tmp_path, caplog):
    lay(tmp_path, "pump/train/1.wav", "pump/train/2.m4a", "pump/train/3.aiff", "pump/train/4.opus", "notes.txt")
    (tmp_path / "pump/train" / os.fsdecode(b"L\xfcfter.wav")).write_bytes(b"sound")
    table = propose(tmp_path, ["{machine}/{split}/*"], {}, {})
    assert [Path(file).name for file in table["file"]] == ["1.wav", "3.aiff", "4.opus"]
    assert "2 left out" in caplog.text
    assert "2.m4a (.m4a is no format that can be read; convert it to wav or FLAC)" in caplog.text
    assert "L\\udcfcfter.wav (a name that is not UTF-8; rename it)" in caplog.text
    caplog.text.encode("utf-8")


CELLS = st.sampled_from(["", "train", "test", "a.wav", "b.wav", "./a.wav", "fan", "anomaly", "source", "x,y", '"', "0"])
HEADERS = st.sampled_from(["file", "machine", "split", "section", "label", "domain", "rpm", "", "Unnamed: 0", "file"])


@settings(deadline=None, max_examples=150)
@given(
    header=st.lists(HEADERS, max_size=7) | st.just(["file", "machine", "split", "label", "rpm"]),
    rows=st.lists(st.lists(CELLS, max_size=7), max_size=6),
    mark=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_a_table_of_any_cells_is_a_manifest_or_an_input_error(tmp_path_factory, header, rows, mark, end):
    path = lay(tmp_path_factory.mktemp("any"), "a.wav", "b.wav") / "manifest.csv"
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark, lineterminator=end).writerows([header, *rows])
    path.write_bytes(text.getvalue().encode())
    try:
        clips = read_all(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    assert list(clips.columns) == COLUMNS
    assert all(Path(one).is_file() for one in clips["path"])
    assert not clips.duplicated(["machine", "file"]).any()
    write_manifest(path.with_name("again.csv"), clips)
    pd.testing.assert_frame_equal(read_manifest(path.with_name("again.csv"))[COLUMNS[1:]], clips[COLUMNS[1:]])


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_manifest_or_an_input_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError):
        read_all(path)


# --- a first manifest ---------------------------------------------------------------------------------------


def test_a_pattern_names_the_columns(tmp_path):
    lay(tmp_path, "pump/baseline/ok_900rpm_1.wav", "pump/march/ng_1200rpm_x_2.flac", "pump/march/readme.txt")
    table = propose(tmp_path, ["{machine}/{split}/{label}_{rpm}rpm_*"], {}, {"baseline": "train", "march": "test"})
    assert table.to_dict("records") == [
        {"file": "pump/baseline/ok_900rpm_1.wav", "machine": "pump", "split": "train", "section": "", "domain": "",
         "label": "normal", "recording": "", "rpm": "900"},
        {"file": "pump/march/ng_1200rpm_x_2.flac", "machine": "pump", "split": "test", "section": "", "domain": "",
         "label": "anomaly", "recording": "", "rpm": "1200"},
    ]  # fmt: skip


def test_machines_and_sections_get_names_that_the_configuration_takes(tmp_path):
    lay(tmp_path, "Fan 3/unit 1/train/x.wav")
    table = propose(tmp_path, ["{machine}/{section}/{split}/*"], {}, {"Fan 3": "fan3", "unit 1": "01"})
    assert table[["machine", "section"]].values.tolist() == [["fan3", "01"]]
    with pytest.raises(InputError, match=r"section: found 'unit 1', expected a name.*--words 'unit 1=unit_1'"):
        propose(tmp_path, ["{machine}/{section}/{split}/*"], {}, {"Fan 3": "fan3"})


def test_patterns_in_turn_and_what_is_fixed(tmp_path):
    lay(tmp_path, "a.wav", "deep/er/b.wav", "train/c.wav")
    table = propose(tmp_path, ["{split}/*", "**"], {"machine": "fan", "split": "test"}, {})
    assert dict(zip(table["file"], table["split"], strict=True)) == {
        "a.wav": "test",
        "deep/er/b.wav": "test",
        "train/c.wav": "train",
    }


@pytest.mark.parametrize(
    ("patterns", "fixed", "expected"),
    [
        (
            ["{machine}/{split}/x*"],
            {},
            r"1 of 1 recordings fit none of the patterns .*: pump/train/1\.wav; add a pattern",
        ),
        (["{machine}/**"], {}, r"nothing says its split; put \{split\} into the pattern, or .*--fixed split=…"),
        (["{split}/**"], {"machine": "fan"}, "split: found 'pump', expected train, .*--words pump=train"),
        (["**"], {"machine": "Fan 3", "split": "test"}, "'Fan 3', expected a name: letters, .*--words 'Fan 3=Fan_3'"),
        (["{machine}/{machine}/*"], {}, "expected names of columns, each once"),
        (["{file}"], {}, "expected names of columns, each once, other than file"),
    ],
)
def test_patterns_that_do_not_do(tmp_path, patterns, fixed, expected):
    with pytest.raises(InputError, match=expected):
        propose(lay(tmp_path, "pump/train/1.wav"), patterns, fixed, {})


def test_no_recordings(tmp_path):
    with pytest.raises(InputError, match="found no recordings; expected files that end in"):
        propose(tmp_path, ["**"], {}, {})


def make_manifest(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, env=os.environ)


def test_make_manifest(tmp_path):
    lay(tmp_path, "pump/train/1.wav", "pump/test/2.wav")
    done = make_manifest(str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(listed(tmp_path / "manifest.csv", "pump")["file"]) == ["pump/train/1.wav", "pump/test/2.wav"]
    again = make_manifest(str(tmp_path))
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_a_proposal_is_a_manifest_of_the_real_recordings(tmp_path):
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    for number, path in enumerate(recordings_below(Path(real))[0]):
        target = (
            tmp_path / path.parts[-3] / {"train": "reference", "test": "march"}[path.parts[-2]] / f"{number:04}.wav"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    table = propose(tmp_path, ["{machine}/{split}/*"], {}, {"reference": "train", "march": "test"})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    for machine in sorted(set(table["machine"])):
        clips = listed(tmp_path / "manifest.csv", machine)
        assert len(clips) == len(list(Path(real, machine).rglob("*.wav")))
        assert set(clips["part"]) == {"additional", "evaluation"}


def test_the_configuration_of_my_machines():
    root = Path(__file__).parents[1] / "config"
    default, own = (yaml.safe_load((root / name).read_text()) for name in ("config.yaml", "my_machines.yaml"))
    loaded = load({key: {**value, **own.get(key, {})} if isinstance(value, dict) else own.get(key, value)
                   for key, value in default.items()})  # fmt: skip
    assert loaded.dataset.kind == "folder"
    assert (loaded.logmel.convert, loaded.logmel.channel, loaded.logmel.lengths) == (True, "mix", "crop")
    assert loaded.fallback in loaded.run_models
