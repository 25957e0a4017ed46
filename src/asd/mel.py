"""The mel filters and the frames of a spectrogram: what all its computations share, without torch."""

import math

import numpy as np

from asd.errors import InputError
from asd.settings import LogMel


def frames(samples: int, settings: LogMel) -> int:
    """Return the number of frames of a spectrogram: 313 for 10 s at 16 kHz."""
    return 1 + (samples + 2 * (settings.n_fft // 2) - settings.n_fft) // settings.hop


def mel_edges(rate: int, mels: int) -> np.ndarray:
    """Return the edges of the mel bins in Hz, (mels + 2,) float64: bin m rises from edge m, and falls to edge m + 2."""
    nyquist = rate / 2
    highest = nyquist * 15 / 1000 if nyquist < 1000 else 15 + 27 * math.log(nyquist / 1000, 6.4)
    mel = np.linspace(0, highest, mels + 2)
    return np.where(mel < 15, mel * 1000 / 15, 1000 * 6.4 ** ((mel - 15) / 27))


def mel_filters(rate: int, n_fft: int, mels: int) -> np.ndarray:
    """Return triangular filters of equal area from 0 Hz to half the rate: (n_fft // 2 + 1, mels) float64.

    The mel scale is Slaney's (Auditory Toolbox, 1998): 15 mels up to 1 kHz, linearly, then 27 for each factor
    of 6.4. The filters are those of librosa, whose import takes longer than a hundred clips.

    Args:
        rate: sample rate in Hz.
        n_fft: length of the transform, samples.
        mels: number of filters.

    Raises:
        InputError: there are so many bins that some lie between two frequencies of the transform and would be empty.
    """
    edges = mel_edges(rate, mels)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    frequency = np.fft.rfftfreq(n_fft, 1 / rate)[:, None]
    triangles = np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)).clip(min=0)
    if empty := int((triangles.max(axis=0) == 0).sum()):
        raise InputError(
            f"logmel.mels: {mels} bins are too many for n_fft {n_fft} at {rate} Hz, {empty} of them are empty; "
            "take fewer bins or a longer window"
        )
    return triangles * 2 / (high - low)
