"""Damaged recordings and tables, at random, for some minutes: an answer or an `InputError`, nothing else.

    python tests/fuzz.py --minutes 10

Each input is a valid file with some bytes changed, most of them in its header, and perhaps cut off. Anything but an
`InputError` (another exception, more than `SLOWEST` seconds, more than `MOST` bytes of memory, a file that was not
there before) ends the run; hypothesis then prints the smallest input that does it.
"""

import argparse
import logging
import resource
import signal
import struct
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from asd.corpus import COLUMNS, read_attributes, read_manifest
from asd.errors import InputError
from asd.own_manifest import read_all
from asd.scores import read_scores
from asd.settings import LogMel
from asd.soundfiles import converted, float_blocks, length, read

SLOWEST = 20
MOST = 8 * 2**30
FORMATS = {"wav": "PCM_16", "wav24": "PCM_24", "wavf": "FLOAT", "wavx": "PCM_16", "rf64": "PCM_16", "flac": "PCM_16"}
FORMATS |= {
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "aiff": "PCM_16",
    "au": "PCM_16",
    "caf": "PCM_16",
    "w64": "PCM_16",
}
CONTAINERS = {"wav24": "WAV", "wavf": "WAV", "wavx": "WAVEX"}
NUMBERS = [0, 1, 2, 3, 16, 44, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FFFF000, 0xFFFFFFDB]
TABLES = {
    "own": "file,machine,split,section,domain,label,rpm\na.wav,fan,train,00,source,normal,1\nb.wav,fan,test,00,,,2\n",
    "manifest": ",".join(COLUMNS) + "\na.wav,a.wav,fan,00,train,development,source,normal,{}\n",
    "scores": "file,section,split,part,domain,label,score,decision\na.wav,00,test,development,source,normal,1.5,0\n",
    "attributes": "file_name,d1p,d1v\nfan/train/a.wav,vel,8\n",
}
PIECES = [b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"NA", b"nan", b"1e999", b"../", b"{"]
PIECES += [b"a.wav", b"fan", b"train", b"section", b"Unnamed: 0", b"\xe2\x80\xae", b"x" * 200_000, b"\n" * 50]
COUNT: Counter[str] = Counter()
LOG = logging.getLogger("asd")

numbers = st.sampled_from(NUMBERS).map(lambda number: struct.pack("<I", number)) | st.binary(min_size=1, max_size=8)
changes = st.lists(st.tuples(st.integers(0, 80) | st.integers(0, 20_000), numbers), max_size=4)
kept = st.none() | st.integers(0, 20_000)
edits = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 12), st.sampled_from(PIECES)), max_size=5)


def changed(data: bytes, places: list[tuple[int, bytes]], size: int | None) -> bytes:
    """Bytes with others written over them at some places, and cut off."""
    made = bytearray(data)
    for place, piece in places:
        at = place % max(1, len(made))
        made[at : at + len(piece)] = piece
    return bytes(made[:size])


def edited(data: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    """Bytes with pieces in place of some of them."""
    for place, length_, piece in places:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length_ :]
    return data


def tried(kind: str, function, *arguments) -> object:
    """What a function returns, None where it refuses its input; any other exception ends the run."""
    COUNT[kind] += 1
    signal.alarm(SLOWEST)
    try:
        return function(*arguments)
    except InputError:
        COUNT[f"{kind}, refused"] += 1
        return None
    finally:
        signal.alarm(0)


def recordings(folder: Path) -> dict[str, bytes]:
    """A valid recording of each format."""
    sound = np.random.default_rng(0).normal(0, 0.1, 4000)
    found = {}
    for name, subtype in FORMATS.items():
        path = folder / f"valid.{name}"
        soundfile.write(path, sound, 16000, subtype, format=CONTAINERS.get(name, name.upper()))
        found[name] = path.read_bytes()
        path.unlink()
    return found


def floats(path: Path, how: LogMel) -> list:
    """All blocks of a recording."""
    with float_blocks(path, how) as (_, sound):
        return list(sound)


def fuzz(folder: Path, minutes: float) -> None:
    """Try inputs until the time is over."""
    valid = recordings(folder)
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(valid["wav"])
    before = {*folder.iterdir(), folder / "input.wav", folder / "manifest.csv"}
    clips = read_all_of(folder)
    strict, loose = LogMel(), LogMel(convert=True, channel="mix")
    quick = settings(
        max_examples=300,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:

        @quick
        @seed(number)
        @given(name=st.sampled_from(list(valid)), places=changes, size=kept)
        def recording(name, places, size):
            path = folder / "input.wav"
            path.write_bytes(changed(valid[name], places, size))
            for how in (strict, loose):
                promised, got = tried("length", length, path, how), tried("read", read, path, how)
                tried("float_blocks", floats, path, how)
                tried("converted", converted, path, how)
                if got is not None:
                    assert got.dtype == np.int16
                    assert len(got) == promised > 0

        @quick
        @seed(number)
        @given(name=st.sampled_from(list(TABLES)), places=edits)
        def table(name, places):
            path = folder / "manifest.csv"
            path.write_bytes(edited(TABLES[name].encode(), places))
            for kind, function in (("own", read_all), ("manifest", read_manifest), ("scores", read_scores)):
                tried(kind, function, path)
            tried("attributes", read_attributes, path, clips)

        recording()
        table()
        assert set(folder.iterdir()) <= before, "a file was written"
        number += 1


def read_all_of(folder: Path):
    """The clips of the valid manifest."""
    (folder / "manifest.csv").write_text(TABLES["own"])
    return read_all(folder / "manifest.csv")


def main() -> None:
    """Run, and print how many inputs were tried."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
    with tempfile.TemporaryDirectory() as folder:
        try:
            fuzz(Path(folder), minutes)
        finally:
            for kind, count in sorted(COUNT.items()):
                print(f"{kind}: {count}")


if __name__ == "__main__":
    main()
