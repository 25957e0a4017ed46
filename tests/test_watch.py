"""A watched folder: what is being written waits, what was dealt with is known again."""

import os

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
    watched.append(watched.ready()[0], {"score": 1.5})
    assert watched.ready() == watched.ready() == []
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
