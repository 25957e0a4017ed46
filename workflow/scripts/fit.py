"""Fit a detector to each section's training clips (or windows), and score these clips held out.

Reads  the features of a machine's clips (HDF5).
Writes an HDF5 file with a detector per section, and the score of each training clip by one fitted without it.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Fit


def main(
    *,
    features: Path,
    settings: Annotated[Fit, tyro.conf.arg(name="")],
    threads: int = 2,
    out: Path,
) -> None:
    """Fit a detector.

    Args:
        features: features of the machine's clips (HDF5).
        settings: the settings of the detector.
        threads: number of threads of the linear algebra; the last bits of the result depend on it.
        out: the detector to write (HDF5).
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    from asd.features import open_features
    from asd.sections import fit_sections, write_sections

    with open_features(features) as opened, threadpool_limits(threads):
        write_sections(out, fit_sections(opened, settings, np.random.default_rng(0)))


if __name__ == "__main__":
    command.run(main, __doc__)
