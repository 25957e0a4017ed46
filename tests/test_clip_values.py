"""Files of clips and numbers: the values, and every fault by its name."""

import math

import pytest

from asd import clip_values
from asd.errors import InputError


def test_each_fault_is_named_and_the_other_values_are_kept(tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text("a.wav,1\n\nb.wav,2\nc.wav,high\nd.wav,0\nd.wav,1\nfile,score\ne.wav,0,0\nf.wav,0\n")
    values, faults = clip_values.examine(path, (0, 1))
    assert {clip for clip, value in values.items() if math.isnan(value)} == {"b.wav", "c.wav", "d.wav"}
    assert {clip: value for clip, value in values.items() if not math.isnan(value)} == {"a.wav": 1, "f.wav": 0}
    assert faults == {
        "not <clip>.wav,<number>": ["row 7 (file,score)", "row 8 (e.wav,0,0)"],
        "there more than once": ["d.wav"],
        "not a finite number": ["c.wav (high)"],
        "neither 0 nor 1": ["b.wav (2)"],
    }


def test_the_first_fault_is_an_error(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("\ufeffa.wav,0.25\n", encoding="utf-8")
    assert clip_values.read(path, encoding="utf-8-sig") == {"a.wav": 0.25}
    for text, fault in ((b"a.wav,inf\n", "not a finite number: a.wav .inf."), (b"\xff", "not a readable text file")):
        path.write_bytes(text)
        with pytest.raises(InputError, match=rf"scores\.csv: {fault}"):
            clip_values.read(path)
    with pytest.raises(InputError, match=r"none\.csv: not a readable text file: .*No such file"):
        clip_values.read(tmp_path / "none.csv")
