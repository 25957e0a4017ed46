"""Compute the feature vectors of every clip of a machine: the stages of a network, pooled, side by side.

Reads  the machine's log-mel cache and a trained network.
Writes a features file (HDF5): one row per clip, or per window if --window is set; asd/features.py explains its layout.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Compute, Windows


def main(
    *,
    cache: Path,
    network: Path,
    settings: Annotated[Windows, tyro.conf.arg(name="")],
    compute: Annotated[Compute, tyro.conf.arg(name="")],
    out: Path,
) -> None:
    """Compute features.

    Args:
        cache: log-mel cache of the machine (HDF5).
        network: the trained network (safetensors).
        settings: how clips are cut into windows.
        compute: on which device, and with how many threads.
        out: the features file to write (HDF5).
    """
    from asd.cache import open_cache
    from asd.device import prepare
    from asd.features import write_features
    from asd.kinds import load

    device = prepare(compute)
    with open_cache(cache) as opened:
        write_features(out, load(network).for_scoring().to(device), opened, settings, device)


if __name__ == "__main__":
    command.run(main, __doc__)
