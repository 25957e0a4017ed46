"""Reading recordings: bit for bit where they are as they must be, converted where that is asked for."""

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from asd.errors import InputError
from asd.settings import LogMel
from asd.soundfiles import blocks, converted, float_blocks, length, read, to_int16

RATE = 16000
STRICT = LogMel()
ANY = LogMel(convert=True, channel="mix")


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)


@pytest.fixture
def wav(tmp_path, noise) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    return path


def test_a_recording_is_read_bit_for_bit(wav, noise):
    got = read(wav, STRICT)
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, noise)
    assert length(wav, STRICT) == len(noise)


def test_extensible_headers_and_further_chunks(tmp_path, wav, noise):
    soundfile.write(tmp_path / "x.wav", noise, RATE, subtype="PCM_16", format="WAVEX")
    np.testing.assert_array_equal(read(tmp_path / "x.wav", STRICT), noise)
    # A chunk of odd size before the samples (padded to even), another after them.
    data = wav.read_bytes()
    at = data.index(b"data")
    data = data[:at] + b"junk" + struct.pack("<I", 3) + b"data" + data[at:] + b"LIST" + struct.pack("<I", 4) + b"INFO"
    wav.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    np.testing.assert_array_equal(read(wav, STRICT), noise)


def refused(path: Path, expected: str, settings: LogMel = STRICT) -> None:
    for function in (read, length):
        with pytest.raises(InputError, match=expected) as caught:
            function(path, settings)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shape": (100, 2)}, "channels: 2, .*expected .*mono"),
        ({"rate": 44100}, "44100 Hz; expected .*16000 Hz"),
        ({"subtype": "PCM_24"}, "PCM_24"),
        ({"subtype": "PCM_U8"}, "PCM_U8"),
        ({"subtype": "FLOAT"}, "FLOAT"),
        ({"subtype": "ULAW"}, "ULAW"),
        ({"format": "FLAC"}, "found FLAC"),
        ({"format": "AIFF"}, "found AIFF"),
        ({"shape": (0,)}, "no samples"),
    ],
)
def test_another_format_is_refused(tmp_path, options, expected):
    path = tmp_path / "clip.wav"
    sound = np.zeros(options.get("shape", (100,)))
    subtype = options.get("subtype", "PCM_16")
    soundfile.write(path, sound, options.get("rate", RATE), subtype, format=options.get("format", "WAV"))
    refused(path, expected)


@pytest.mark.parametrize("content", [b"not a wav", b"RIFF\x24\x00\x00\x00WAVE", b"\x00" * 1000, b"RIFF"])
def test_what_is_no_wav(tmp_path, content):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    refused(path, "not a readable wav .*; expected a wav, 16-bit PCM, mono, 16000 Hz; copy it again")


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "an empty file")
    refused(tmp_path / "gone.wav", "No such file")
    (tmp_path / "folder.wav").mkdir()
    refused(tmp_path / "folder.wav", "not a readable wav")


@settings(deadline=None, max_examples=40)
@given(kept=st.integers(0, 44 + 7999))
def test_a_truncated_recording_is_refused_wherever_it_ends(tmp_path_factory, kept):
    path = tmp_path_factory.mktemp("cut") / "clip.wav"
    soundfile.write(path, np.ones(4000, np.int16), RATE, subtype="PCM_16")
    data = path.read_bytes()
    assert len(data) == 44 + 8000
    path.write_bytes(data[:kept])
    assume(kept not in (8000, 8008))  # the sizes of a header that counts itself
    refused(path, "truncated: found .* the header promises 4000|no samples|not a readable wav|empty file")


# --- headers that do not say how long the file is -----------------------------------------------------------


def with_sizes(wav: Path, samples: int, riff: int | None = None) -> bytes:
    """The bytes of a wav whose header states these sizes."""
    data = wav.read_bytes()
    at = data.index(b"data") + 4
    riff = samples + at - 4 if riff is None else riff
    return data[:4] + struct.pack("<I", riff % 2**32) + data[8:at] + struct.pack("<I", samples) + data[at + 4 :]


@pytest.mark.parametrize("stated", [0, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF])
def test_a_size_that_stands_for_an_unknown_one_is_read_to_the_end(wav, noise, stated, riff):
    wav.write_bytes(with_sizes(wav, stated, riff))
    np.testing.assert_array_equal(read(wav, STRICT), noise)
    assert length(wav, STRICT) == len(noise)


@pytest.mark.parametrize("more", [44, 36])
def test_a_header_that_counts_itself_is_no_truncation(wav, noise, more):
    wav.write_bytes(with_sizes(wav, 2 * len(noise) + more))
    np.testing.assert_array_equal(read(wav, STRICT), noise)


def test_a_header_shorter_than_the_file_is_said(wav, noise, caplog):
    wav.write_bytes(with_sizes(wav, len(noise)))  # half of the bytes
    np.testing.assert_array_equal(read(wav, STRICT), noise[: len(noise) // 2])
    assert (
        "clip.wav: the header says 0.12 s, but the file continues for another 0.12 s, which are left out" in caplog.text
    )


def test_titles_and_padding_after_the_samples_are_not_said(wav, caplog):
    data = wav.read_bytes()
    for more in (b"LIST" + struct.pack("<I", 4) + b"INFO", bytes(468)):
        wav.write_bytes(data + more)
        assert length(wav, STRICT) == 4000
    assert not caplog.text


def test_a_size_that_went_round_at_4_gib_is_refused(wav):
    data, size = wav.read_bytes(), 2**32 + 8000
    wav.write_bytes(data[:40] + struct.pack("<I", size % 2**32) + data[44:])
    with wav.open("r+b") as file:
        file.truncate(44 + size)  # sparse
    refused(wav, r"the file has 4\.0 GiB of samples, its header says 4000 samples.*save it as RF64 or W64")
    with wav.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<I", 0xFFFFFFFF))
    refused(wav, "more than 4 GiB, which the header of a wav cannot express")


@pytest.mark.parametrize("format", ["RF64", "W64", "CAF", "AIFF", "AU"])
def test_other_containers_are_read(tmp_path, noise, format):
    soundfile.write(tmp_path / "a.sound", noise, RATE, "PCM_16", format=format)
    np.testing.assert_array_equal(read(tmp_path / "a.sound", ANY), noise)
    refused(tmp_path / "a.sound", f"found {format} PCM_16")


def test_a_flac_and_an_au_that_were_streamed(tmp_path, noise):
    soundfile.write(tmp_path / "a.flac", noise, RATE, "PCM_16")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    soundfile.write(tmp_path / "a.au", noise, RATE, "PCM_16")
    data = bytearray((tmp_path / "a.au").read_bytes())
    data[8:12] = b"\xff" * 4
    (tmp_path / "a.au").write_bytes(data)
    for name in ("a.flac", "a.au"):
        np.testing.assert_array_equal(read(tmp_path / name, ANY), noise)
        assert length(tmp_path / name, ANY) == len(noise)


def test_what_macos_leaves_beside_a_recording_does_not_matter(tmp_path):
    path = write(tmp_path / "a.mp3", tone(RATE))
    expected = read(path, ANY)
    fork = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X", 1) + struct.pack(">III", 2, 38, 286)
    (tmp_path / "._a.mp3").write_bytes(fork + bytes(286))
    np.testing.assert_array_equal(read(path, ANY), expected)


def test_the_systems_reason_is_given(tmp_path, wav, monkeypatch):
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "not a file")  # and does not wait for a writer
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    refused(tmp_path / "loop.wav", os.strerror(errno.ELOOP))

    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    refused(wav, "not a readable wav .Permission denied.")


# --- converted ----------------------------------------------------------------------------------------------


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def write(path: Path, sound: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, sound, rate, subtype)
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 0),
        ("a.wav", "PCM_24", 0.51),
        ("a.wav", "PCM_32", 0.51),
        ("a.wav", "FLOAT", 0.51),
        ("a.wav", "DOUBLE", 0.51),
        ("a.wav", "PCM_U8", 256),
        ("a.flac", "PCM_16", 0),
        ("a.flac", "PCM_24", 0.51),
        ("a.ogg", "VORBIS", 1500),
        ("a.mp3", "MPEG_LAYER_III", 1500),
    ],
)
def test_every_format_and_depth(tmp_path, name, subtype, tolerance):
    sound = tone(RATE)
    if tolerance == 0:
        sound = to_int16(sound)
    path = write(tmp_path / name, sound, subtype=subtype)
    got = read(path, ANY)
    assert got.dtype == np.int16
    assert len(got) == length(path, ANY) == RATE
    expected = sound if tolerance == 0 else sound * 32768
    middle = slice(2000, -2000)  # mp3 and Ogg fade in
    assert np.abs(got[middle] - expected[middle]).max() <= tolerance
    if name.endswith("wav") and subtype == "PCM_16":
        assert converted(path, ANY) == ""
    else:
        refused(path, r"expected a wav, 16-bit PCM, mono, 16000 Hz; convert it, or set logmel\.convert")


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_another_rate_is_resampled(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(rate), rate, "FLOAT")
    got = read(path, ANY)
    assert len(got) == length(path, ANY) == RATE
    assert converted(path, ANY) == f"WAV FLOAT to 16 bit, {rate} Hz to 16000 Hz"
    expected = 32768 * resample_poly(tone(rate), RATE, rate)
    middle = slice(1000, -1000)
    assert np.abs(got[middle] - expected[middle]).max() < 60  # scipy's own filter ripples by 0.3 %
    assert np.abs(got[middle] - 32768 * tone(RATE)[middle]).max() < 4


def test_what_is_above_half_the_rate_does_not_fold_back(tmp_path):
    hiss = 0.5 * np.sin(2 * np.pi * 11000 * np.arange(48000) / 48000)
    path = write(tmp_path / "a.wav", hiss, 48000, "PCM_24")
    assert np.abs(read(path, ANY)[1000:-1000]).max() <= 2


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 3000), rate=st.sampled_from([8000, 11025, 44100, 48000]))
def test_the_header_tells_the_length(tmp_path_factory, samples, rate):
    path = write(tmp_path_factory.mktemp("any") / "a.wav", np.zeros(samples), rate, "PCM_24")
    assert len(read(path, ANY)) == length(path, ANY)


def test_channels(tmp_path):
    left, right = np.int16([100, -200, 300]), np.int16([300, 200, -32768])
    path = write(tmp_path / "a.wav", np.stack([left, right], 1), subtype="PCM_16")
    assert read(path, LogMel(channel="mix")).tolist() == [200, 0, -16234]
    assert read(path, LogMel(channel=1)).tolist() == left.tolist()
    assert read(path, LogMel(channel=2)).tolist() == right.tolist()
    refused(path, r"channels: 2.*expected a wav, FLAC, Ogg or mp3, mono; .*logmel\.channel", LogMel(convert=True))
    refused(path, r"channels: 2.*expected channel 3; correct logmel\.channel", LogMel(channel=3))


def test_beyond_full_scale_is_full_scale_and_said(tmp_path, caplog):
    path = write(tmp_path / "a.wav", np.array([0.5, 1.7, -3.0]), subtype="FLOAT")
    assert read(path, ANY).tolist() == [16384, 32767, -32768]
    assert "a.wav: the peak is 3.00 of full scale; samples above 1 are clipped" in caplog.text
    with float_blocks(path, ANY) as (rate, sound):
        assert ([one.tolist() for one in sound], rate) == ([[0.5, np.float32(1.7), -3.0]], RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    path = write(tmp_path / "a.wav", np.array([0.0, value, 0.0]), subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav: sample 1 is \[(nan|inf)\]; found samples that are no numbers"):
        read(path, ANY)


@pytest.mark.parametrize("scale", [32768, 2**31, 12, 1e30])
def test_floats_of_another_full_scale_are_refused(tmp_path, scale):
    sound = np.random.default_rng(0).uniform(-1, 1, 4000) * scale
    path = write(tmp_path / "a.wav", sound, subtype="DOUBLE")
    with pytest.raises(InputError, match=r"a\.wav: sample .*expected full scale at 1; divide them by the full scale"):
        read(path, ANY)


def test_quiet_integers_as_floats_are_told_by_being_whole(tmp_path):
    path = write(tmp_path / "a.wav", np.array([0.0, 3.0, -2.0]), subtype="FLOAT")
    with pytest.raises(InputError, match="expected full scale at 1"):
        read(path, ANY)
    path = write(tmp_path / "square.wav", np.array([1.0, -1.0, 1.0]), subtype="FLOAT")
    assert read(path, ANY).tolist() == [32767, -32768, 32767]


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.wav"])
def test_half_a_recording(tmp_path, name):
    path = write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 48000), 48000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"truncated|not a readable sound file"):
        read(path, ANY)


@pytest.mark.parametrize("rate", [8000, RATE, 44100])
def test_blocks_are_the_recording(tmp_path, monkeypatch, rate):
    sound = np.random.default_rng(0).normal(0, 0.1, (3 * rate + 17, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", sound, rate, subtype="FLOAT")
    expected = soxr.resample(sound.mean(1), rate, RATE, "HQ") if rate != RATE else sound.mean(1)
    for size in (1000, 2**20):
        monkeypatch.setattr("asd.soundfiles.BLOCK", size)
        some = list(blocks(tmp_path / "x.wav", ANY))
        assert size > len(sound) or max(map(len, some)) <= 4 * size
        got = np.concatenate(some)
        assert len(got) == length(tmp_path / "x.wav", ANY)
        np.testing.assert_array_equal(got[: len(expected)], to_int16(expected)[: len(got)])


def test_what_is_wrong_within_a_recording_names_its_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("asd.soundfiles.BLOCK", 1000)
    sound = np.zeros(5000, np.float32)
    sound[3210] = np.nan
    soundfile.write(tmp_path / "x.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"x\.wav: sample 3210 is \[nan\]"):
        read(tmp_path / "x.wav", ANY)
