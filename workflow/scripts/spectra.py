"""Compute a feature vector of each clip of a machine without a network: its mel spectrogram pooled over time.

Reads  the machine's log-mel cache.
Writes a features file (HDF5) with one row per clip; asd/features.py explains its layout.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Spectrum


def main(*, cache: Path, settings: Annotated[Spectrum, tyro.conf.arg(name="")], out: Path) -> None:
    """Compute features.

    Args:
        cache: log-mel cache of the machine (HDF5).
        settings: how each mel bin is pooled over time.
        out: the features file to write (HDF5).
    """
    from asd.cache import open_cache
    from asd.spectra import write_spectra

    with open_cache(cache) as opened:
        write_spectra(out, opened, settings)


if __name__ == "__main__":
    command.run(main, __doc__)
