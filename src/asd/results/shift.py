"""Whether the recordings without a label differ as a whole from the training recordings.

If they are all quieter, or were made with another microphone, their scores are high for that reason, and a list of the
most suspicious of them says little. This is examined per section: the unlabelled recordings differ if their median is
outside the range of nearly all training recordings (5 to 95 %), and at least `LEVEL` or `BAND` from their median.
"""

from typing import TYPE_CHECKING

import numpy as np

from asd.bands import band_edges
from asd.corpus_check import decibel
from asd.mel import mel_edges

if TYPE_CHECKING:
    from asd.cache import Cache

LEVEL, BAND = 2.0, 4.0
"""Smallest difference of the level, and of a frequency band relative to the others, that is reported, in dB."""

FEWEST = 5
"""With fewer recordings on either side nothing is reported."""

MOST = 200
"""Largest number of training and of unlabelled recordings per section that are examined, evenly chosen."""


def remarks(cache: "Cache") -> dict[str, str]:
    """Return section -> how its unlabelled recordings differ from the training recordings, as a text; only if they do.

    Args:
        cache: an open log-mel cache of the machine.
    """
    clips, settings = cache.clips, cache.settings
    found = {}
    for section in sorted(clips["section"].unique()):
        here = clips["section"] == section
        training = _evenly(np.flatnonzero(here & (clips["split"] == "train")))
        unlabelled = _evenly(np.flatnonzero(here & (clips["split"] == "test") & (clips["label"] == "")))
        if min(len(training), len(unlabelled)) < FEWEST:
            continue
        usual, other = (_described(cache, rows) for rows in (training, unlabelled))
        said = []
        if difference := _difference(usual[0], other[0], LEVEL)[0]:
            medians = " and ".join(f"{np.median(levels):.1f} dB" for levels, _ in (other, usual))
            word = "louder" if difference > 0 else "quieter"
            said.append(f"{abs(difference):.1f} dB {word} than the training recordings (medians {medians})")
        bands = _difference(usual[1], other[1], BAND)
        if bands.any():
            band = int(np.abs(bands).argmax())
            edges, hertz = band_edges(settings.mels), mel_edges(settings.rate, settings.mels)
            low, high = (hertz[edge] / 1000 for edge in (edges[band], edges[band + 1] + 1))
            word = "stronger" if bands[band] > 0 else "weaker"
            said.append(
                f"{abs(bands[band]):.1f} dB {word} from {low:.2f} to {high:.2f} kHz, relative to other frequencies"
            )
        if said:
            found[str(section)] = "the unlabelled recordings are as a whole " + ", and ".join(said)
    return found


def _evenly(rows: np.ndarray) -> np.ndarray:
    return rows if len(rows) <= MOST else rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]


def _described(cache: "Cache", rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels (clips, 1) in dB of full scale, and of each band in dB above the mean over the bands (clips, bands)."""
    edges = band_edges(cache.settings.mels)
    levels, bands = [], []
    for row in rows:
        levels.append(decibel(np.var(cache.read_waveform([row])[0] / 32768.0)))
        means = np.add.reduceat(cache.read_logmel([row])[0].mean(1, dtype=np.float64), edges[:-1]) / np.diff(edges)
        bands.append(means - means.mean())
    return np.array(levels)[:, None], np.stack(bands)


def _difference(usual: np.ndarray, other: np.ndarray, least: float) -> np.ndarray:
    """Return by how much the medians of others differ from the usual ones, 0 if they do not; (values,)."""
    low, middle, high = np.quantile(usual, (0.05, 0.5, 0.95), axis=0)
    median = np.median(other, axis=0)
    outside = (median < low) | (median > high)
    return np.where(outside & (np.abs(median - middle) >= least), median - middle, 0.0)
