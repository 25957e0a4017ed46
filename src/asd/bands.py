"""Which frequencies make a clip anomalous to a model of spectra with a Gaussian: the share of each band of mel bins."""

import itertools

import numpy as np

from asd.gaussian import Gaussian
from asd.sections import Section

BANDS = 28
"""Bands of an equal number of mel bins: 8 of the 224. The shares of single bins would be small, since neighbouring bins
carry nearly the same information."""


def band_edges(mels: int) -> np.ndarray:
    """Return the first mel bin of each band, and the number of bins at the end: (bands + 1,)."""
    return np.linspace(0, mels, min(BANDS, mels) + 1).round().astype(int)


def band_shares(section: Section, row: np.ndarray, mels: int) -> np.ndarray:
    """Return the share of each band in a clip's squared distance, (bands,) float64 from 0 to 1.

    A share is the fall of the squared distance when the band takes the values that are expected from the rest of the
    clip (`asd.gaussian.Gaussian.falls`), divided by the squared distance. If bands carry the same information, their
    shares do not add up to 1.

    Args:
        section: the detector, a Gaussian.
        row: (d,), the clip's features: one or more poolings of `mels` values each, side by side.
        mels: mel bins.
    """
    gaussian: Gaussian = section.fitted
    edges = band_edges(mels)
    poolings = np.arange(0, len(row) // mels * mels, mels)
    groups = [
        np.concatenate([np.arange(begin, end) + pooling for pooling in poolings])
        for begin, end in itertools.pairwise(edges)
    ]
    distances = gaussian.distances(row[None])[0]
    domain = int((distances / section.divisor).argmin())
    return gaussian.falls(row, domain, groups) / max(distances[domain] ** 2, 1e-12)
