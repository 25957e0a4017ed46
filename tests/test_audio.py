import os
import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asd.audio import as_float, frames, log_mel, mel_filters, read_wav, wav_length
from asd.errors import InputError
from asd.settings import LogMel

RATE = 16000


# --- recordings ---------------------------------------------------------------------------------------------


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)


@pytest.fixture
def wav(tmp_path, noise) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    return path


def test_a_recording_is_read_bit_for_bit(wav, noise):
    read = read_wav(wav, RATE)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, noise)
    assert wav_length(wav, RATE) == len(noise)


def test_extensible_headers_and_further_chunks(tmp_path, wav, noise):
    soundfile.write(tmp_path / "x.wav", noise, RATE, subtype="PCM_16", format="WAVEX")
    np.testing.assert_array_equal(read_wav(tmp_path / "x.wav", RATE), noise)
    # A chunk of odd size before the samples (padded to even), another after them.
    data = wav.read_bytes()
    at = data.index(b"data")
    data = data[:at] + b"junk" + struct.pack("<I", 3) + b"data" + data[at:] + b"LIST" + struct.pack("<I", 4) + b"INFO"
    wav.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    np.testing.assert_array_equal(read_wav(wav, RATE), noise)


def refused(path: Path, expected: str) -> None:
    for read in (read_wav, wav_length):
        with pytest.raises(InputError, match=expected) as caught:
            read(path, RATE)
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


def test_as_float():
    got = as_float(np.array([[-32768, 0, 16384, 32767]], np.int16))
    assert got.dtype == torch.float32
    assert got.tolist() == [[-1.0, 0.0, 0.5, 32767 / 32768]]


# --- log-mel ------------------------------------------------------------------------------------------------


def oracle(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=settings.rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop,
        n_mels=settings.mels,
        power=2.0,
        center=True,
        pad_mode="constant",
    )
    return librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)


def signals() -> dict[str, np.ndarray]:
    rng, t = np.random.default_rng(0), np.arange(10 * RATE) / RATE
    made = {
        "noise": rng.normal(0, 0.1, len(t)),
        "quiet noise": rng.normal(0, 1e-4, len(t)),
        "loud tone": np.sin(2 * np.pi * 440 * t),  # the hard case: quiet bins beside a loud one
        "tone on a bin": 0.5 * np.sin(2 * np.pi * 1000 * t),
        "quiet tone": 0.01 * np.sin(2 * np.pi * 3333 * t),
        "tone, then silence": np.where(t < 5, np.sin(2 * np.pi * 440 * t), 0),
        "impulse": np.eye(1, len(t), 5000)[0],
        "silence": np.zeros(len(t)),
    }
    made |= {f"{name}, 16 bit": np.round(made[name] * 32767) / 32768 for name in ("loud tone", "quiet tone")}
    return {name: one.astype(np.float32) for name, one in made.items()}


@pytest.mark.parametrize("name", signals())
def test_log_mel_agrees_with_librosa(name):
    waveform, default = signals()[name], LogMel()
    got = log_mel(torch.from_numpy(waveform), default)
    assert got.dtype == torch.float32
    assert got.shape == (224, 313)
    np.testing.assert_allclose(got.numpy(), oracle(waveform, default), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        LogMel(rate=16000, n_fft=512, hop=160, mels=40),
        LogMel(rate=44100, n_fft=2048, hop=1000, mels=128),
        LogMel(rate=16000, n_fft=999, hop=501, mels=64),
        LogMel(rate=16000, n_fft=400, hop=1000, mels=20),
    ],
)
@pytest.mark.parametrize("samples", [1, 499, 16000, 16001, 20037])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")
def test_other_settings_and_lengths(other, samples):
    waveform = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    expected = oracle(waveform, other)
    got = log_mel(torch.from_numpy(waveform), other)
    assert got.shape == expected.shape == (other.mels, frames(samples, other))
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-3)


def test_silence_is_the_floor():
    assert log_mel(torch.zeros(16000), LogMel()).unique().tolist() == [-100.0]


def test_a_clip_does_not_depend_on_its_batch():
    batch = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 3, 40000)).astype(np.float32))
    got = log_mel(batch, LogMel())
    assert got.shape == (2, 3, 224, 79)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(got[i, j], log_mel(batch[i, j], LogMel()), rtol=0, atol=1e-4)


def test_autocast_does_not_reach_it():
    waveform = torch.from_numpy(signals()["noise"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(waveform, LogMel())
    assert torch.equal(inside, log_mel(waveform, LogMel()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_log_mel_on_cuda():
    waveform = torch.from_numpy(np.stack(list(signals().values())))
    np.testing.assert_allclose(log_mel(waveform.cuda(), LogMel()).cpu(), log_mel(waveform, LogMel()), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("rate", "n_fft", "mels"),
    [(16000, 1024, 224), (16000, 999, 64), (44100, 2048, 128), (8000, 256, 23), (1500, 256, 9)],
)
def test_mel_filters_are_librosa_s(rate, n_fft, mels):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels)
    got = mel_filters(rate, n_fft, mels, torch.device("cpu"))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy().T, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_more_bins_than_the_transform_can_fill():
    with pytest.raises(InputError, match=r"logmel\.mels: 224 bins are too many for n_fft 256"):
        mel_filters(RATE, 256, 224, torch.device("cpu"))


def test_real_recordings_agree_with_librosa():
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    for path in sorted(Path(real).glob("*/train/*.wav")):
        waveform = as_float(read_wav(path, RATE))
        expected = oracle(waveform.numpy(), LogMel())
        np.testing.assert_allclose(log_mel(waveform, LogMel()).numpy(), expected, rtol=0, atol=1e-3, err_msg=str(path))
