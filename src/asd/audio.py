"""From a waveform to its log-mel spectrogram, one function per step."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from asd.mel import mel_filters
from asd.settings import LogMel
from asd.soundfiles import FULL_SCALE

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FLOOR = 1e-10
"""Floor of the mel power: -100 dB."""

FRAMES_AT_ONCE = 64
"""Frames that a CPU transforms together: they fit into a core's cache, which doubles the speed on a busy machine."""

CLIPS_AT_ONCE = 64
"""Clips that a GPU transforms together: 160 MB of float64 at 10 s each."""


def as_float(waveform: np.ndarray) -> torch.Tensor:
    """Return int16 samples as a float32 tensor in [-1, 1) of the same shape."""
    return torch.from_numpy(waveform).float() / FULL_SCALE


# --- log-mel ------------------------------------------------------------------------------------------------


@lru_cache
def _filters(rate: int, n_fft: int, mels: int, device: torch.device) -> torch.Tensor:
    """`asd.mel.mel_filters` on a device: (n_fft // 2 + 1, mels) float32."""
    return torch.from_numpy(mel_filters(rate, n_fft, mels)).float().to(device)


@lru_cache
def _sparse_filters(rate: int, n_fft: int, mels: int) -> "csr_matrix":
    """`mel_filters` without their zeros, (mels, n_fft // 2 + 1): a frequency lies within two filters at most."""
    from scipy.sparse import csr_matrix

    return csr_matrix(mel_filters(rate, n_fft, mels).astype(np.float32).T)


def log_mel(waveform: torch.Tensor, settings: LogMel) -> torch.Tensor:
    """Return the log-mel spectrogram: 10 log10 of the mel power, with a floor of -100 dB.

    The transform is computed in double precision, so that the result agrees with librosa's to 1e-4 dB. In single
    precision, rounding errors change quiet bins beside a loud tone by up to half a decibel.

    Args:
        waveform: (..., samples) in [-1, 1], on any device.
        settings: of the spectrogram.

    Returns:
        (..., mels, frames) float32 in dB. On a CPU a clip's values depend neither on its batch nor on the threads.
    """
    n_fft, device = settings.n_fft, waveform.device
    window = torch.hann_window(n_fft, dtype=torch.float64, device=device)
    padded = F.pad(waveform, (n_fft // 2, n_fft // 2)).reshape(-1, waveform.shape[-1] + n_fft // 2 * 2)
    windows = padded.unfold(-1, n_fft, settings.hop)  # (clips, frames, n_fft), a view
    made = torch.empty(len(windows), settings.mels, windows.shape[1], device=device)
    with torch.autocast(device.type, enabled=False):  # the eight bits of bfloat16 would be errors of 0.03 dB
        if device.type == "cpu":
            _mel_powers(windows, window, settings, made)
        else:
            filters = _filters(settings.rate, n_fft, settings.mels, device)
            for some, out in zip(*(one.split(CLIPS_AT_ONCE) for one in (windows, made)), strict=True):
                spectrum = torch.view_as_real(torch.fft.rfft(some * window)).float().square_()
                out.copy_(((spectrum[..., 0] + spectrum[..., 1]) @ filters).mT)
    return made.clamp_(min=FLOOR).log10_().mul_(10).reshape(*waveform.shape[:-1], *made.shape[1:])


def _mel_powers(windows: torch.Tensor, window: torch.Tensor, settings: LogMel, made: torch.Tensor) -> None:
    """Write the mel powers of clips, by one thread: the steps are so short that several threads would mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for clip, out in zip(windows, made, strict=True):
            _mel_power(clip, window, settings, out)
    finally:
        torch.set_num_threads(threads)


def _mel_power(clip: torch.Tensor, window: torch.Tensor, settings: LogMel, out: torch.Tensor) -> None:
    """Write the mel power of a clip's windows (frames, n_fft) into `out` (mels, frames), on a CPU.

    The memory of all steps is allocated beforehand and stays in the core's cache. Frequencies come before frames, so
    that the sparse product reads memory in order.
    """
    bins = settings.n_fft // 2 + 1
    tapered = torch.empty(FRAMES_AT_ONCE, settings.n_fft, dtype=torch.float64)
    spectrum, parts = torch.empty(FRAMES_AT_ONCE, bins, dtype=torch.complex128), torch.empty(FRAMES_AT_ONCE, bins, 2)
    power = torch.empty(bins, len(clip))
    for some, place in zip(clip.split(FRAMES_AT_ONCE), power.split(FRAMES_AT_ONCE, dim=1), strict=True):
        count = len(some)
        torch.mul(some, window, out=tapered[:count])
        torch.fft.rfft(tapered[:count], out=spectrum[:count])
        squares = parts[:count].copy_(torch.view_as_real(spectrum[:count])).square_()
        torch.add(squares[..., 0].T, squares[..., 1].T, out=place)
    out.numpy()[:] = _sparse_filters(settings.rate, settings.n_fft, settings.mels) @ power.numpy()
