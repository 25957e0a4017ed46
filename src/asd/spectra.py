"""The features of a clip without a network: its mel spectrogram, pooled over time.

A clip's feature vector holds one or more poolings side by side, each with a value for every mel bin, low frequencies
first. Reshaped to (poolings, mels) it is again a set of spectra.
"""

from typing import TYPE_CHECKING

import numpy as np

from asd.audio import as_float, power_spectrum
from asd.mel import mel_filters
from asd.settings import LogMel, Spectrum
from asd.soundfiles import FULL_SCALE

if TYPE_CHECKING:
    from pathlib import Path

    from asd.cache import Cache


def pooled(values: np.ndarray, settings: Spectrum) -> np.ndarray:
    """Return mel spectrograms pooled over time.

    Args:
        values: (..., mels, frames), in the scale of the settings: log-mels in dB, or `mel_magnitude`.
        settings: the poolings.

    Returns:
        (..., poolings * mels) float64: the poolings side by side in the settings' order, without `level`, which is
        computed from the waveform.
    """
    values = np.asarray(values, dtype=np.float64)
    found = []
    for pool in (pool for pool in settings.pool if pool != "level"):
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


def write_spectra(path: "Path", cache: "Cache", settings: Spectrum) -> None:
    """Write the feature vectors of every clip of a cache, one row per clip, as a features file (`asd.features`).

    Args:
        path: the file to write.
        cache: an open log-mel cache of the machine.
        settings: the poolings.
    """
    from asd.features import features_file
    from asd.settings import Windows

    clips = len(cache.clips)
    width = settings.width(cache.settings.mels)
    with features_file(path, cache.clips, np.arange(clips + 1), [width], Windows()) as out:
        for row in range(clips):
            waveform = cache.read_waveform([row])[0] if settings.needs_waveform else None
            logmel = cache.read_logmel([row])[0] if settings.scale == "db" else None
            out[row] = features(logmel, waveform, settings, cache.settings)


def features(
    logmel: np.ndarray | None, waveform: np.ndarray | None, settings: Spectrum, front_end: LogMel
) -> np.ndarray:
    """Return the feature vector of a clip, (width,) float64.

    Args:
        logmel: (mels, frames) in dB; used with scale `db`.
        waveform: (samples,) int16; used with scale `magnitude` and for the pooling `level`.
        settings: the poolings.
        front_end: the settings of the log-mel.
    """
    parts = [pool for pool in settings.pool if pool != "level"]
    found = []
    if parts:
        values = logmel if settings.scale == "db" else mel_magnitude(waveform, front_end)
        found.append(pooled(values, settings))
    if "level" in settings.pool:
        found.append(np.array([level(waveform)]))
    return np.concatenate(found)


def level(waveform: np.ndarray) -> float:
    """Return the root mean square of a waveform (samples,) int16 in dB of full scale, no lower than -100."""
    return float(10 * np.log10(np.mean((waveform / FULL_SCALE) ** 2) + 1e-10))


def rank_pooled(values: np.ndarray, decays: list[float]) -> np.ndarray:
    """Return values (..., frames) pooled by rank: (decays, ...).

    Global weighted ranking pooling (Guan et al. 2023, "Time-weighted frequency domain audio representation with GMM
    estimator for anomalous sound detection", arXiv:2305.03328): the frames are sorted in descending order; the first
    has weight 1, each next one `decay` times the weight before it, and the weights are divided by their sum.
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
        settings: of the log-mel.

    Returns:
        (mels, frames) float64, linear.
    """
    magnitude = np.sqrt(power_spectrum(as_float(waveform), settings))
    return (magnitude @ mel_filters(settings.rate, settings.n_fft, settings.mels)).T
