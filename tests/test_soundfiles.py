"""Reading recordings: bit for bit where they are as they must be, converted where that is asked for."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from asd.errors import InputError
from asd.settings import LogMel
from asd.soundfiles import converted, length, read, read_float, to_int16

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
    refused(path, "truncated: found .* the header promises 4000|no samples|not a readable wav|empty file")


@pytest.mark.parametrize("promised", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_header_that_was_never_finished(wav, promised):
    data = wav.read_bytes()
    at = data.index(b"data") + 4
    wav.write_bytes(data[:at] + struct.pack("<I", promised) + data[at + 4 :])
    refused(wav, "truncated|not a readable wav")


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
    refused(path, r"channels: 2.*expected a channel 3; correct logmel\.channel", LogMel(channel=3))


def test_beyond_full_scale_is_full_scale_and_said(tmp_path, caplog):
    path = write(tmp_path / "a.wav", np.array([0.5, 1.7, -3.0]), subtype="FLOAT")
    assert read(path, ANY).tolist() == [16384, 32767, -32768]
    assert "a.wav: the peak is 3.00 of full scale; samples above 1 are clipped" in caplog.text
    sound, rate = read_float(path, ANY)
    assert (sound.tolist(), rate) == ([0.5, np.float32(1.7), -3.0], RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    path = write(tmp_path / "a.wav", np.array([0.0, value, 0.0]), subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav: sample 1 is \[(nan|inf)\]; expected numbers"):
        read(path, ANY)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.wav"])
def test_half_a_recording(tmp_path, name):
    path = write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 48000), 48000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"truncated|not a readable sound file"):
        read(path, ANY)
