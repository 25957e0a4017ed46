"""Nothing half-written carries a final name."""

import errno
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from asd.errors import InputError
from asd.files import digest, printable, read_table, walk, written


def fail_halfway(path):
    with written(path) as aside:
        aside.write_text("half")
        raise RuntimeError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "scores.csv"
    with pytest.raises(RuntimeError):
        fail_halfway(path)
    assert list(path.parent.iterdir()) == []
    with written(path) as aside:
        assert aside.suffix == ".csv"
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fail_halfway(path)
    assert path.read_text() == "old"


def test_writers_of_one_path_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    both = threading.Barrier(2)

    def write(text):
        with written(path) as aside:
            aside.write_text(text)
            both.wait()
            assert aside.read_text() == text

    threads = [threading.Thread(target=write, args=(text * 1000,)) for text in "ab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert path.read_text() in ("a" * 1000, "b" * 1000)


KILLED = """
import os, sys, time
from pathlib import Path
from asd.files import written
with written(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print(aside.name, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_and_by_no_other(tmp_path):
    path = tmp_path / "a.b.txt"
    writers = [
        subprocess.Popen([sys.executable, "-c", KILLED, one], stdout=subprocess.PIPE, text=True)
        for one in (path, path, tmp_path / "a.txt")
    ]
    killed, alive, other = names = [writer.stdout.readline().strip() for writer in writers]
    for writer in (writers[0], writers[2]):
        writer.kill()
        writer.wait()
    try:
        elsewhere = tmp_path / killed.replace(f".{platform.node()}.", ".another.host.")
        elsewhere.write_text("half")
        with written(path) as aside:
            aside.write_text("whole")
        left = sorted(one.name for one in tmp_path.iterdir())
    finally:
        writers[1].kill()
        writers[1].wait()
    assert len(set(names)) == 3
    assert left == sorted([path.name, alive, other, elsewhere.name])


def test_digest_is_sha256():
    assert digest("abc", 8) == "ba7816bf"


def test_a_walk_follows_links_and_names_what_it_leaves_out(tmp_path):
    for name in ("b.wav", "a/c.wav", ".hidden/d.wav", "a/.e.wav", "lost+found/f.wav"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/g.wav").touch()
    (tmp_path / "tree/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "tree/a/up").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/self").symlink_to("self")
    (tmp_path / "root").symlink_to("tree")
    files, skipped = walk(tmp_path / "root")
    assert [str(path.relative_to(tmp_path / "root")) for path in files] == ["a/c.wav", "b.wav", "linked/g.wav"]
    assert {str(path.relative_to(tmp_path / "root")): why for path, why in skipped.items()} == {
        "a/up": "a link to a folder that it lies in",
        "self": os.strerror(errno.ELOOP),
    }
    assert walk(tmp_path / "none") == ([], {tmp_path / "none": os.strerror(errno.ENOENT)})


def test_a_folder_that_may_be_listed_but_not_entered(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "in/b.wav"):
        (tmp_path / name).touch()
    stat = Path.stat

    def guarded(path, **options):
        if path.parent.name == "in":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", guarded)
    assert walk(tmp_path) == ([tmp_path / "a.wav"], {tmp_path / "in/b.wav": os.strerror(errno.EACCES)})


def test_a_name_that_is_no_text_is_printable():
    name = os.fsdecode(b"L\xfcfter.wav")
    assert printable(name) == "L\\udcfcfter.wav"
    assert printable("Lüfter.wav") == "Lüfter.wav"


def test_names_of_a_table_are_text(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("machine,section,value\n1,00,0.5\nNA,01,\ntrue,1e3,nan\n")
    table = read_table(path, numbers=["value"])
    assert table["machine"].tolist() == ["1", "NA", "true"]
    assert table["section"].tolist() == ["00", "01", "1e3"]
    np.testing.assert_array_equal(table["value"], [0.5, np.nan, np.nan])
    for text, said in (("machine,value\n1,high\n", "high"), ("machine\n1\n", "value"), ("", "No columns")):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"metrics\.csv: not a readable table .*{said}"):
            read_table(path, numbers=["value"])
    with pytest.raises(InputError, match="not a readable table"):
        read_table(tmp_path / "none.csv")
