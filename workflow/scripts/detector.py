"""Pack a detector: one file with all that scoring a recording of a machine needs.

Reads  the machine's log-mel cache (its settings), a trained network, for the gaussian detector the Gaussians, and the
       scores of the machine's clips, whose training clips' make the threshold.
Writes a zip: weights (safetensors), Gaussians (HDF5), and what it is (JSON); its layout is in asd/detector.py.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Windows


def main(
    *,
    cache: Path,
    network: Path,
    mvg: Path | None = None,
    scores: Path,
    model: str,
    title: str,
    settings: Annotated[Windows, tyro.conf.arg(name="")],
    quantile: float = 0.9,
    out: Path,
) -> None:
    """Pack a detector.

    Args:
        cache: log-mel cache of the machine (HDF5).
        network: the trained network (safetensors).
        mvg: the machine's Gaussians (HDF5); without them the classifier's doubt is the score.
        scores: of the machine's clips by this model.
        model: its name.
        title: its title.
        settings: how clips are cut into windows.
        quantile: of the gamma distribution fitted to the training scores; above it a clip is anomalous.
        out: the detector to write (zip).
    """
    from asd.cache import open_cache
    from asd.detector import write_detector

    with open_cache(cache) as opened:
        logmel, samples = opened.settings, opened.samples
    write_detector(
        out,
        network=network,
        mvg=mvg,
        scores=scores,
        samples=samples,
        logmel=logmel,
        windows=settings,
        model=model,
        title=title,
        quantile=quantile,
    )


if __name__ == "__main__":
    command.run(main, __doc__)
