"""A watched folder: what is being written waits, what was dealt with is known again."""

import errno
import io
import json
import os
from pathlib import Path

import pytest

from asd.errors import InputError
from asd.watch import Watched


def put(path, data: bytes, second: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (second, second))


def test_a_recording_that_still_grows_waits(tmp_path):
    watched = Watched(tmp_path, tmp_path / "log.jsonl")
    put(tmp_path / "a.wav", b"1", 1)
    assert watched.ready() == []
    put(tmp_path / "a.wav", b"12", 2)
    assert watched.ready() == []
    assert watched.ready() == [("a.wav", 2, 2_000_000_000)]


def test_recordings_below_in_the_order_of_their_change_and_nothing_else(tmp_path):
    for second, name in enumerate(("z.WAV", "deep/y.flac", "x.txt", ".hidden.wav", "a.wav"), 1):
        put(tmp_path / name, b"1", second)
    put(tmp_path / "empty.wav", b"", 9)
    watched = Watched(tmp_path, tmp_path / "log.jsonl")
    watched.ready()
    assert [name for name, *_ in watched.ready()] == ["z.WAV", "deep/y.flac", "a.wav"]


def test_what_is_in_the_log_is_done_until_it_changes(tmp_path):
    log = tmp_path / "logs/log.jsonl"
    put(tmp_path / "a.wav", b"1", 1)
    watched = Watched(tmp_path, log)
    watched.ready()
    watched.append(watched.ready()[0], [{"score": 1.5}])
    assert watched.ready() == watched.ready() == []
    watched.close()
    again = Watched(tmp_path, log)
    assert again.ready() == again.ready() == []
    put(tmp_path / "a.wav", b"2", 2)
    assert again.ready() == []
    assert again.ready() == [("a.wav", 1, 2_000_000_000)]


@pytest.mark.parametrize("text", ["mine\n", "mine", '{"file": "a.wav"}\n'])
def test_another_file_than_a_log_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(InputError, match=r"notes\.txt: line 1: found no entry"):
        Watched(tmp_path, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == text


def test_a_half_written_line_is_cut_off(tmp_path):
    log = tmp_path / "log.jsonl"
    whole = '{"file": "a.wav", "size": 1, "changed": 2}\n'
    for half in ('{"fi', '{"file": "b.wa'):
        log.write_text(whole + half)
        assert Watched(tmp_path, log).done == {("a.wav", 1, 2)}
        assert log.read_text() == whole


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="none: no such folder"):
        Watched(tmp_path / "none", tmp_path / "log.jsonl").ready()


def test_one_writer_at_a_time(tmp_path):
    log = tmp_path / "log.jsonl"
    first = Watched(tmp_path, log)
    with pytest.raises(InputError, match=r"log\.jsonl: another asd watch writes this log"):
        Watched(tmp_path, log)
    Watched(tmp_path, tmp_path / "other.jsonl")
    first.close()
    Watched(tmp_path, log)


def test_links_are_followed_and_what_cannot_be_looked_at_is_said_once(tmp_path, caplog):
    put(tmp_path / "disk/a.wav", b"1", 1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "in/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/loop.wav").symlink_to("loop.wav")
    put(tmp_path / "in/memo.m4a", b"1", 1)
    put(tmp_path / "in/$RECYCLE.BIN/b.wav", b"1", 1)
    watched = Watched(tmp_path / "in", tmp_path / "log.jsonl")
    watched.ready()
    assert [name for name, *_ in watched.ready()] == ["linked/a.wav"]
    assert len(caplog.messages) == 1
    assert "3 left out" in caplog.text
    for said in ("loop.wav (", "up (a link to a folder that it lies in)", "memo.m4a (.m4a is no format"):
        assert said in caplog.text


def test_a_name_that_is_no_text_is_known_again(tmp_path):
    log, name = tmp_path / "log.jsonl", os.fsdecode(b"L\xfcfter.wav")
    put(tmp_path / name, b"1", 1)
    watched = Watched(tmp_path, log)
    watched.ready()
    watched.append(watched.ready()[0], [{"score": 1.5}])
    watched.close()
    assert json.loads(log.read_bytes().decode("utf-8"))["file"] == name
    again = Watched(tmp_path, log)
    assert again.ready() == again.ready() == []


def test_a_full_disk_is_said_and_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    for name in ("a.wav", "b.wav"):
        put(tmp_path / name, b"1", 1)
    watched = Watched(tmp_path, log)
    watched.ready()
    first, second = watched.ready()
    watched.append(first, [{"score": 1.5}])
    before = log.read_bytes()

    class Full(io.FileIO):
        def write(self, data) -> int:
            if len(data) > 10:  # there is room for a part
                return super().write(data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watched.file.close()
    watched.file = Full(log, "ab")
    with pytest.raises(
        InputError, match=r"log\.jsonl: cannot be written \(No space left on device\).* b\.wav is scored"
    ):
        watched.append(second, [{"score": 2.5}])
    watched.close()
    assert log.read_bytes() == before
    again = Watched(tmp_path, log)
    again.ready()
    assert again.ready() == [second]


def test_a_device_as_the_log_is_not_read(tmp_path):
    put(tmp_path / "a.wav", b"1", 1)
    watched = Watched(tmp_path, Path("/dev/full"))
    watched.ready()
    with pytest.raises(InputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        watched.append(watched.ready()[0], [{"score": 1.5}])
    watched.close()
