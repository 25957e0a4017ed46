"""Sound from a pipe: samples, headers, gaps and the end; and what `asd listen` makes of it."""

import errno
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from detectors import asd, with_threshold

from asd import cli, listen
from asd.errors import InputError
from asd.listen import Pcm
from asd.settings import LogMel
from asd.soundfiles import read

RATE = 16000
STRICT, MIX = LogMel(), LogMel(convert=True, channel="mix")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return np.random.default_rng(0).integers(-3000, 3000, 3 * RATE).astype(np.int16)


def wav(sound: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, **{"format": "WAV", "subtype": "PCM_16"} | options)
    return file.getvalue()


def heard(
    data: bytes, settings: LogMel = STRICT, rate: int | None = None, channels: int | None = None, size: int = 999
):
    """What comes out of a pipe into which bytes are written in pieces of a size; and what is said of it."""
    begin, end = os.pipe()

    def write() -> None:
        with os.fdopen(end, "wb", buffering=0) as pipe:
            for i in range(0, len(data), size):
                pipe.write(data[i : i + size])

    writer = threading.Thread(target=write)
    writer.start()
    said: list[str] = []
    try:
        pcm = Pcm(begin, rate, channels, settings)
        got = np.concatenate([np.empty(0, np.int16), *pcm.blocks(said.append)])
        return got, [*said, pcm.end()]
    finally:
        while os.read(begin, 2**16):  # so that the writer can end
            pass
        os.close(begin)
        writer.join()


def placeholder(data: bytes) -> bytes:
    """A wav as a recorder that cannot go back writes it."""
    at = data.index(b"data") + 4
    return data[:4] + b"\xff\xff\xff\xff" + data[8:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def test_samples_raw_or_behind_a_header(sound):
    plain = wav(sound)
    at = plain.index(b"data")
    forms = {
        "raw": sound.tobytes(),
        "wav": plain,
        "streamed": placeholder(plain),
        "extensible": wav(sound, format="WAVEX"),
        "chunks": plain[:at] + b"junk" + struct.pack("<I", 3) + b"abc\0" + plain[at:] + b"LIST\4\0\0\0INFO",
    }
    for name, data in forms.items():
        for size in (1, 999, 10**6):
            if size > 1 or name == "raw":
                got, said = heard(data[: 20_001 if size == 1 else None], size=size)
                np.testing.assert_array_equal(got, sound[: len(got)], name)
                assert len(got) == (10_000 if size == 1 else len(sound)), name
                assert said == (
                    ["the input ended, after 0:00:00.6 of sound, within a sample"]
                    if size == 1
                    else ["the input ended, after 0:00:03 of sound"]
                )


@pytest.mark.parametrize(("channel", "index"), [("mix", None), (2, 1)])
def test_channels_and_another_rate_as_in_a_file(tmp_path, sound, channel, index):
    both = np.stack([sound, sound[::-1] // 2], axis=1)
    for rate in (RATE, 44100):
        soundfile.write(tmp_path / "x.wav", both, rate, "PCM_16")
        settings = LogMel(convert=True, channel=channel)
        got, _ = heard(both.tobytes(), settings, rate, 2)
        np.testing.assert_array_equal(got, read(tmp_path / "x.wav", settings))
        np.testing.assert_array_equal(got, heard((tmp_path / "x.wav").read_bytes(), settings)[0])


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (b"fLaC....", (STRICT,), "standard input: found FLAC; expected raw samples of 16 bit .* -ar 16000 -"),
        (b"OggS....", (STRICT,), "standard input: found Ogg"),
        (b"RIFF....WAVEfmt ", (STRICT,), "ended within the header of a wav"),
        ("float", (STRICT,), r"found a wav of 32 bit \(format 3\); expected PCM of 16 bit"),
        ("24 bit", (STRICT,), r"found a wav of 24 bit \(format 1\)"),
        ("wav", (STRICT, 8000), "--rate: found 8000, but the header of the wav says 16000; leave --rate out"),
        ("wav", (STRICT, None, 2), "--channels: found 2, but the header of the wav says 1"),
        (b"", (STRICT, 0), "--rate: found 0; expected a number of at least 1"),
        (b"", (STRICT, None, -1), "--channels: found -1"),
        (b"12345678", (STRICT, None, 2), "2 channels; choose one of them"),
        (b"12345678", (LogMel(channel=3), None, 2), "--channel: found 3, but the input has 2"),
    ],
)
def test_what_is_refused(sound, data, arguments, message):
    subtypes = {"float": "FLOAT", "24 bit": "PCM_24", "wav": "PCM_16"}
    data = data if isinstance(data, bytes) else wav(sound, subtype=subtypes[data])
    with pytest.raises(InputError, match=message):
        heard(data, *arguments)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_gap_is_said_when_it_begins_and_when_it_is_over(sound, monkeypatch):
    monkeypatch.setattr(listen, "GAP", 0.05)
    begin, end = os.pipe()
    said: list[str] = []

    def write() -> None:
        with os.fdopen(end, "wb", buffering=0) as pipe:
            pipe.write(sound[:RATE].tobytes())
            until(lambda: len(said) == 1)
            pipe.write(sound[RATE : 2 * RATE].tobytes())

    writer = threading.Thread(target=write)
    writer.start()
    pcm = Pcm(begin, None, None, STRICT)
    got = np.concatenate(list(pcm.blocks(said.append)))
    writer.join()
    os.close(begin)
    np.testing.assert_array_equal(got, sound[: 2 * RATE])
    assert said[0] == "no sound for 0.05 s, after 0:00:01 of sound; waiting for more"
    assert re.fullmatch(r"sound again, after a gap of \d+\.\d s", said[1])
    assert len(said) == 2
    assert pcm.gap_in(0.0, 1.0) == ""  # it lies between two steps
    assert re.fullmatch(r"a gap of \d+\.\d s after 0:00:01", pcm.gap_in(0.5, 1.0))
    assert pcm.gap_in(1.0, 1.0) == ""


@pytest.fixture
def long(recordings, tmp_path) -> Path:
    parts = [soundfile.read(path, dtype="int16")[0] for path in list(recordings.values())[:4]]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE, "PCM_16")
    return tmp_path / "long.wav"


@pytest.fixture
def words(detectors) -> tuple:
    return ("listen", "--detector", detectors / "spectrum/fan.zip", "--every", "0.75", "--section", "00")


def test_it_scores_as_score_does(detectors, long, words, monkeypatch, capsys, caplog):
    with long.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        status, out, _ = asd(monkeypatch, capsys, *words, "--after", "1000")
    assert status == 0
    *rows, last = map(json.loads, out.splitlines())
    _, out, _ = asd(monkeypatch, capsys, "score", long, *words[1:], "--format", "jsonl")
    expected = [json.loads(line) for line in out.splitlines()]
    assert [row["start"] for row in rows] == [0, 0.75, 1.5, 2.25, 3]
    assert [row | {"file": str(long)} for row in rows] == [
        row | {"scored": mine["scored"], "alarm": False} for row, mine in zip(expected, rows, strict=True)
    ]
    assert (last["start"], last["remark"]) == (4, "the input ended, after 0:00:04 of sound")
    assert last["remark"] in caplog.text


def test_alarms_of_steps_in_a_row(detectors, long, tmp_path, monkeypatch, capsys):
    told = tmp_path / "told"
    with long.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        words = ("listen", "--after", "2", "--detector", with_threshold(detectors, tmp_path, 0.0))
        status, out, _ = asd(monkeypatch, capsys, *words, "--exec", "cp", "/dev/stdin", told)
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()[:-1]]
    assert [row["alarm"] for row in rows] == [False, True, False, False]
    assert json.loads(told.read_text()) == rows[1] | {"machine": "fan", "in_a_row": 2}


@pytest.mark.parametrize(
    ("data", "more", "status", "message"),
    [
        (b"", (), 1, "nothing was scored: a step takes 1.00 s"),
        (bytes(20_000), (), 1, "nothing was scored: a step takes 1.00 s"),
        (b"fLaC....", (), 2, "standard input: found FLAC"),
        (b"", ("--every", "0"), 2, "--every: found 0; expected seconds from one step to the next"),
    ],
)
def test_an_input_of_which_nothing_is_scored(words, tmp_path, monkeypatch, capsys, caplog, data, more, status, message):
    (tmp_path / "input").write_bytes(data)
    with (tmp_path / "input").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        found, _, err = asd(monkeypatch, capsys, *words, *more)
    assert found == status
    assert message in caplog.text + err


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_closed_input_and_a_full_disk_are_said(long, words, monkeypatch, capsys, stream):
    def full(text: str, **options) -> None:
        if "file" not in options:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        print(text, **options)

    with long.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file if stream == "stdout" else None)
        monkeypatch.setattr(cli, "print", full, raising=False)
        status, _, err = asd(monkeypatch, capsys, *words)
    assert status == 2
    said = {
        "stdin": "standard input is closed; expected sound",
        "stdout": "standard output: cannot be written (No space left on device)",
    }
    assert said[stream] in err


def command(words: tuple) -> subprocess.Popen:
    program = [sys.executable, "-c", "from asd.cli import main; main()", *map(str, words)]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


def test_a_step_is_scored_as_soon_as_its_sound_is_there(long, words):
    """The next samples are written only after the line of those before was read."""
    samples = read(long, STRICT)
    first, step = RATE, RATE * 3 // 4
    with command(words) as process:
        process.stdin.write(samples[:first].tobytes())
        starts = [json.loads(process.stdout.readline())["start"]]
        for end in range(first + step, len(samples) + 1, step):
            process.stdin.write(samples[end - step : end].tobytes())
            starts.append(json.loads(process.stdout.readline())["start"])
        process.stdin.close()
        assert starts == [0, 0.75, 1.5, 2.25, 3]
        assert json.loads(process.stdout.readline())["remark"] == "the input ended, after 0:00:04 of sound"
    assert process.returncode == 0


@pytest.mark.slow
def test_at_real_speed_a_step_is_scored_before_the_next_one_is_complete(long, words):
    samples, piece = np.tile(read(long, STRICT), 2), RATE // 8  # a recorder's period
    with command(words) as process:
        process.stdin.write(samples[:RATE].tobytes())
        process.stdout.readline()  # it has started
        written, before = RATE, []
        reader = threading.Thread(target=lambda: [before.append(written) for _ in process.stdout])
        reader.start()
        begun = time.monotonic()
        while written < len(samples):
            time.sleep(max(0.0, begun + (written - RATE + piece) / RATE - time.monotonic()))
            process.stdin.write(samples[written : written + piece].tobytes())
            written += piece
        time.sleep(1)
        process.stdin.close()
        reader.join()
    steps = [RATE + number * RATE * 3 // 4 for number in range(1, len(before))]
    late = [there - needed for there, needed in zip(before, steps, strict=False)]
    assert len(before) >= 9
    assert max(late) < RATE * 3 // 4
