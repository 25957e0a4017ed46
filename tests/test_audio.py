import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from asd import soundfiles
from asd.audio import as_float, log_mel, log_mels
from asd.mel import frames
from asd.settings import LogMel

RATE = 16000


def test_as_float():
    got = as_float(np.array([[-32768, 0, 16384, 32767]], np.int16))
    assert got.dtype == np.float32
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
    got = log_mel(waveform, default)
    assert got.dtype == np.float32
    assert got.shape == (224, 313)
    np.testing.assert_allclose(got, oracle(waveform, default), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        LogMel(rate=16000, n_fft=512, hop=160, mels=40),
        LogMel(rate=44100, n_fft=2048, hop=1000, mels=128),
        LogMel(rate=16000, n_fft=999, hop=501, mels=64),
        LogMel(rate=16000, n_fft=400, hop=400, mels=20),
    ],
)
@pytest.mark.parametrize("samples", [1, 499, 16000, 16001, 20037])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")
def test_other_settings_and_lengths(other, samples):
    waveform = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    expected = oracle(waveform, other)
    got = log_mel(waveform, other)
    assert got.shape == expected.shape == (other.mels, frames(samples, other))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


def test_silence_is_the_floor():
    assert np.unique(log_mel(np.zeros(16000, np.float32), LogMel())).tolist() == [-100.0]


def test_a_clip_does_not_depend_on_the_threads():
    waveform = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    alone, shared = ([], [])
    for threads, found in ((1, alone), (2, shared)):
        with threadpool_limits(threads):
            found += [log_mel(waveform[:samples], LogMel()) for samples in (40000, 160000, len(waveform))]
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensors_on_a_cpu_have_the_same_log_mels():
    batch = np.random.default_rng(0).normal(0, 0.1, (3, 40000)).astype(np.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = log_mels(torch.from_numpy(batch), LogMel())
    np.testing.assert_array_equal(got, [log_mel(one, LogMel()) for one in batch])
    assert log_mels(torch.zeros(0, 16000), LogMel()).shape == (0, 224, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_log_mel_on_cuda():
    waveforms = np.stack(list(signals().values()))
    expected = [log_mel(one, LogMel()) for one in waveforms]
    got = log_mels(torch.from_numpy(waveforms).cuda(), LogMel()).cpu()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


def test_real_recordings_agree_with_librosa():
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    for path in sorted(Path(real).glob("*/train/*.wav")):
        waveform = as_float(soundfiles.read(path, LogMel()))
        expected = oracle(waveform, LogMel())
        np.testing.assert_allclose(log_mel(waveform, LogMel()), expected, rtol=0, atol=1e-3, err_msg=str(path))
