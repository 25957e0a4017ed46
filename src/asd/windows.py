"""When a window is: what the scores of windows over time have in common."""

import numpy as np

from asd.settings import LogMel


def window_times(count: int, hop: int, window: int, settings: LogMel) -> np.ndarray:
    """Return the seconds at the middle of each window, (count,), for windows every `hop` frames."""
    return (np.arange(count) * hop + (window - 1) / 2) * settings.hop / settings.rate
