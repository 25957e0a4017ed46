"""The features of a clip without a network: its mel spectrogram, pooled over time.

A clip's feature vector holds one or more poolings side by side, each with a value for every mel bin, low frequencies
first. Reshaped to (poolings, mels) it is again a set of spectra.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from asd.mel import mel_filters
from asd.soundfiles import FULL_SCALE
from asd.settings import LogMel, Model


class Spectrum(Model):
    """A clip's mel spectrogram pooled over time: an entry of `spectra`."""

    pool: list[Literal["mean", "deviation", "quantiles", "gwrp"]] = Field(["mean"])
    """What is taken of each mel bin over time, side by side in this order. gwrp: global weighted ranking pooling."""
    decays: list[Annotated[float, Field(ge=0, le=1)]] = Field([])
    """Of gwrp: the weight of a frame relative to the next louder one, one pooling for each: 1 is the mean, 0 the
    maximum."""
    quantiles: list[Annotated[float, Field(ge=0, le=1)]] = Field([])
    """Of quantiles, one pooling for each: 0.5 is the median."""
    scale: Literal["db", "magnitude"] = "db"
    """db: of the log-mel. magnitude: of the mel of the magnitude spectrum, in which loud frames weigh more."""

    @model_validator(mode="after")
    def _used(self) -> "Spectrum":
        if not self.pool or len(set(self.pool)) < len(self.pool):
            raise ValueError(f"pool: expected at least one pooling, each once; found {self.pool}")
        for pool, key in (("gwrp", "decays"), ("quantiles", "quantiles")):
            values = getattr(self, key)
            if (pool in self.pool) != bool(values):
                raise ValueError(f"pool {pool} and {key} need each other; found pool {self.pool} and {key} {values}")
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: expected each once; found {values}")
        return self

    @property
    def poolings(self) -> int:
        """Values of each mel bin in the feature vector."""
        lists = {"gwrp": self.decays, "quantiles": self.quantiles}
        return sum(len(lists[pool]) if pool in lists else 1 for pool in self.pool)


def pooled(values: np.ndarray, settings: Spectrum) -> np.ndarray:
    """Return mel spectrograms pooled over time.

    Args:
        values: (..., mels, frames), in the scale of the settings: log-mels in dB, or `mel_magnitude`.

    Returns:
        (..., poolings * mels) float64: the poolings side by side in the settings' order.
    """
    values = np.asarray(values, dtype=np.float64)
    found = []
    for pool in settings.pool:
        if pool == "mean":
            found.append(values.mean(-1)[None])
        elif pool == "deviation":
            found.append(values.std(-1)[None])
        elif pool == "quantiles":
            found.append(np.quantile(values, settings.quantiles, axis=-1))
        else:
            found.append(rank_pooled(values, settings.decays))
    poolings = np.moveaxis(np.concatenate(found), 0, -2)  # (..., poolings, mels)
    return poolings.reshape(*values.shape[:-2], -1)


def rank_pooled(values: np.ndarray, decays: list[float]) -> np.ndarray:
    """Return values (..., frames) pooled by rank: (decays, ...).

    Global weighted ranking pooling (Guan et al. 2023, "Time-weighted frequency domain audio representation with GMM
    estimator for anomalous sound detection", arXiv:2305.03328): of frames in descending order the
    first weighs 1, each next one `decay` times as much, and the weights are divided by their sum.
    """
    ranks = np.arange(values.shape[-1])
    weights = np.array([decay**ranks for decay in decays])  # 0**0 is 1
    weights /= weights.sum(1, keepdims=True)
    descending = np.sort(values, axis=-1)[..., ::-1]
    return np.moveaxis(descending @ weights.T, -1, 0)


def mel_magnitude(waveform: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return the mel of the magnitude spectrum of a clip, with the frames and filters of its log-mel.

    It is not the square root of the mel power, which adds up squares within a bin.

    Args:
        waveform: (samples,) int16.

    Returns:
        (mels, frames) float64, linear.
    """
    from scipy.fft import rfft
    from scipy.signal.windows import hann

    n_fft = settings.n_fft
    padded = np.pad(waveform / FULL_SCALE, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: settings.hop]
    magnitude = np.abs(rfft(windows * hann(n_fft, sym=False)))  # (frames, n_fft // 2 + 1)
    return (magnitude @ mel_filters(settings.rate, n_fft, settings.mels)).T
