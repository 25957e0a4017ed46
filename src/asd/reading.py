"""Read what a run has made, for programs and notebooks: figures, scores and features as tables and arrays."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.features import open_features
from asd.results.metrics_table import read_metrics
from asd.scores import read_scores

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_features", "read_metrics", "read_scores"]


def read_features(path: Path) -> tuple["pd.DataFrame", np.ndarray]:
    """Read the features of a machine's clips.

    Args:
        path: results/features/<network or spectrum>/<machine>.h5.

    Returns:
        The manifest's columns and `window` (0, 1, … within a clip), one row per row of features; and the features,
        (rows, values) float32. A network of whole clips and a spectrum have one row per clip.

    Raises:
        InputError: the file is missing or damaged, or not a features file.
    """
    with open_features(path) as features:
        counts = np.diff(features.offsets)
        clips = features.clips.loc[np.repeat(features.clips.index, counts)]
        windows = np.arange(features.offsets[-1]) - np.repeat(features.offsets[:-1], counts)
        return clips.assign(window=windows).reset_index(drop=True), features.rows(0, int(features.offsets[-1]))
