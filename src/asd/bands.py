"""Which frequencies make a clip anomalous to a model of spectra with a Gaussian: the share of each band of mel bins."""

import itertools

import numpy as np

from asd.gaussian import Gaussian
from asd.sections import Section

BANDS = 28
"""Bands of an equal number of mel bins: 8 of the 224. Single bins would say little, since their neighbours know the
same."""


def band_edges(mels: int) -> np.ndarray:
    """Return the first mel bin of each band, and the number of bins at the end: (bands + 1,)."""
    return np.linspace(0, mels, min(BANDS, mels) + 1).round().astype(int)


def band_shares(section: Section, row: np.ndarray, mels: int) -> np.ndarray:
    """Return the share of each band in a clip's squared distance, (bands,) float64 from 0 to 1.

    It is the fall of the squared distance if the band were as the rest of the clip lets expect
    (`asd.gaussian.Gaussian.falls`), over the squared distance. Shares of bands that tell the same do not add up to 1.

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
