"""From a waveform to its log-mel spectrogram, one function per step, without torch: its import takes seconds."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from asd.mel import frames, mel_filters
from asd.settings import LogMel
from asd.soundfiles import FULL_SCALE

if TYPE_CHECKING:
    import torch

FLOOR = 1e-10
"""Floor of the mel power: -100 dB."""

FRAMES_AT_ONCE = 32
"""Frames that a CPU transforms together: they fit into a core's cache."""

MELS_AT_ONCE = 16
"""Mel bins that are summed together."""

CLIPS_AT_ONCE = 64
"""Clips that a GPU transforms together: 160 MB of float64 at 10 s each."""


def as_float(waveform: np.ndarray) -> np.ndarray:
    """Return int16 samples as float32 in [-1, 1) of the same shape."""
    return waveform.astype(np.float32) / np.float32(FULL_SCALE)


@lru_cache
def hann(n_fft: int) -> np.ndarray:
    """Return the periodic Hann window, (n_fft,) float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def power_spectrum(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return the power of each frame's frequencies, as librosa's stft with center and pad_mode "constant" has them.

    The transform is computed in double precision. In single precision, rounding errors change quiet bins beside a loud
    tone by up to half a decibel.

    Args:
        waveform: (samples,) floating point in [-1, 1].
        settings: `n_fft` and `hop`.

    Returns:
        (frames, n_fft // 2 + 1) float32.
    """
    n_fft = settings.n_fft
    padded = np.pad(waveform, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: settings.hop]  # (frames, n_fft), a view
    power = np.empty((len(windows), n_fft // 2 + 1), np.float32)
    for begin in range(0, len(windows), FRAMES_AT_ONCE):
        some = slice(begin, begin + FRAMES_AT_ONCE)
        spectrum = np.fft.rfft(windows[some] * hann(n_fft))
        power[some] = spectrum.real**2 + spectrum.imag**2
    return power


@lru_cache
def _bands(rate: int, n_fft: int, mels: int) -> list[tuple[slice, slice, np.ndarray]]:
    """`mel_filters` in bands of neighbouring mel bins: the bins, their frequencies, and (bins, frequencies) float32.

    Most of a filter is zeros: a frequency lies within two filters at most.
    """
    filters = mel_filters(rate, n_fft, mels).astype(np.float32).T
    found = []
    for begin in range(0, mels, MELS_AT_ONCE):
        own = filters[begin : begin + MELS_AT_ONCE]
        frequencies = own.any(0).nonzero()[0]
        inside = slice(frequencies[0], frequencies[-1] + 1)
        found.append((slice(begin, begin + len(own)), inside, np.ascontiguousarray(own[:, inside])))
    return found


def log_mel(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return the log-mel spectrogram: 10 log10 of the mel power, with a floor of -100 dB.

    It agrees with librosa's to 1e-4 dB.

    Args:
        waveform: (samples,) floating point in [-1, 1].
        settings: of the spectrogram.

    Returns:
        (mels, frames) float32 in dB. They do not depend on the number of threads.
    """
    power = power_spectrum(waveform, settings)
    made = np.empty((settings.mels, len(power)), np.float32)
    for bins, frequencies, filters in _bands(settings.rate, settings.n_fft, settings.mels):
        np.matmul(filters, power[:, frequencies].T, out=made[bins])
    np.log10(np.maximum(made, np.float32(FLOOR), out=made), out=made)
    made *= 10
    return np.maximum(made, np.float32(-100), out=made)  # the logarithm of the floor is off by its last digit


def log_mels(waveforms: "torch.Tensor", settings: LogMel) -> "torch.Tensor":
    """Return the log-mels of waveforms on their device: those of `log_mel`, on a CUDA device to 1e-3 dB.

    Args:
        waveforms: (clips, samples) float32 in [-1, 1].
        settings: of the spectrogram.

    Returns:
        (clips, mels, frames) float32 in dB.
    """
    import torch
    import torch.nn.functional as F

    n_fft, device = settings.n_fft, waveforms.device
    made = torch.empty(len(waveforms), settings.mels, frames(waveforms.shape[1], settings), device=device)
    if device.type != "cuda":
        for waveform, out in zip(waveforms.cpu().numpy(), made, strict=True):
            out.copy_(torch.from_numpy(log_mel(waveform, settings)))
        return made
    windows = F.pad(waveforms, (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, settings.hop)  # (clips, frames, n_fft)
    window, filters = _on(device, settings.rate, n_fft, settings.mels)
    with torch.autocast(device.type, enabled=False):  # the eight bits of bfloat16 would be errors of 0.03 dB
        for some, out in zip(*(one.split(CLIPS_AT_ONCE) for one in (windows, made)), strict=True):
            spectrum = torch.view_as_real(torch.fft.rfft(some * window)).float().square_()
            out.copy_(((spectrum[..., 0] + spectrum[..., 1]) @ filters).mT)
    return made.clamp_(min=FLOOR).log10_().mul_(10)


@lru_cache
def _on(device: "torch.device", rate: int, n_fft: int, mels: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The window and `mel_filters` on a device: (n_fft,) float64, (n_fft // 2 + 1, mels) float32."""
    import torch

    return torch.from_numpy(hann(n_fft)).to(device), torch.from_numpy(mel_filters(rate, n_fft, mels)).float().to(device)
