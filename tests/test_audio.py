import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from asd import soundfiles
from asd.audio import as_float, log_mel
from asd.mel import frames
from asd.settings import LogMel

RATE = 16000


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
        LogMel(rate=16000, n_fft=400, hop=400, mels=20),
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


def test_a_clip_depends_neither_on_its_batch_nor_on_the_threads():
    batch = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 3, 40000)).astype(np.float32))
    threads = torch.get_num_threads()
    got = log_mel(batch, LogMel())
    assert got.shape == (2, 3, 224, 79)
    try:
        torch.set_num_threads(threads + 1)
        assert torch.equal(log_mel(batch, LogMel()), got)
    finally:
        torch.set_num_threads(threads)
    for i in range(2):
        for j in range(3):
            assert torch.equal(log_mel(batch[i, j], LogMel()), got[i, j])


def test_an_empty_batch():
    assert log_mel(torch.zeros(0, 16000), LogMel()).shape == (0, 224, 32)


def test_autocast_does_not_reach_it():
    waveform = torch.from_numpy(signals()["noise"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(waveform, LogMel())
    assert torch.equal(inside, log_mel(waveform, LogMel()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_log_mel_on_cuda():
    waveform = torch.from_numpy(np.stack(list(signals().values())))
    np.testing.assert_allclose(log_mel(waveform.cuda(), LogMel()).cpu(), log_mel(waveform, LogMel()), rtol=0, atol=1e-3)


def test_real_recordings_agree_with_librosa():
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    for path in sorted(Path(real).glob("*/train/*.wav")):
        waveform = as_float(soundfiles.read(path, LogMel()))
        expected = oracle(waveform.numpy(), LogMel())
        np.testing.assert_allclose(log_mel(waveform, LogMel()).numpy(), expected, rtol=0, atol=1e-3, err_msg=str(path))
