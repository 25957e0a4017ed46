"""Compute the log-mel spectrograms of a machine's recordings.

Reads  a manifest, and the recordings that it lists (by default mono wav, 16-bit PCM, at --rate; see --convert).
Writes the log-mel cache (HDF5): spectrograms, waveforms and the manifest's columns; asd/cache.py explains its layout.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import LogMel


def main(
    *,
    manifest: Path,
    settings: Annotated[LogMel, tyro.conf.arg(name="")],
    out: Path,
) -> None:
    """Compute log-mels.

    Args:
        manifest: the machine's manifest.csv.
        settings: how recordings are read, and how the spectrogram is computed.
        out: the log-mel cache to write (HDF5).
    """
    from threadpoolctl import threadpool_limits

    from asd.cache import write_cache

    with threadpool_limits(1):  # a clip is too short to be divided; several machines are computed at the same time
        write_cache(out, manifest, settings)


if __name__ == "__main__":
    command.run(main, __doc__)
