"""Score a machine's clips by the classifier's uncertainty about their section (outlier exposure), and decide.

Reads  the machine's log-mel cache and a trained network with a section head.
Writes a CSV, one row per clip, with score, decision (1: anomalous, 0: normal, empty: there is no threshold) and
       threshold; asd/scores.py explains its columns.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Compute, Decision, Windows


def main(
    *,
    cache: Path,
    network: Path,
    settings: Annotated[Windows, tyro.conf.arg(name="")],
    decision: Annotated[Decision, tyro.conf.arg(name="")],
    compute: Annotated[Compute, tyro.conf.arg(name="")],
    out: Path,
) -> None:
    """Score clips.

    Args:
        cache: log-mel cache of the machine (HDF5).
        network: the trained network (safetensors).
        settings: how clips are cut into windows.
        decision: how the thresholds are found from the training scores.
        compute: where, and with how many threads.
        out: the scores to write.
    """
    from asd import exposure
    from asd.cache import open_cache
    from asd.device import prepare
    from asd.kinds import load
    from asd.scores import write_scores
    from asd.threshold import of_sections

    device = prepare(compute)
    with open_cache(cache) as opened:
        score = exposure.scores(load(network).for_scoring().to(device), opened, settings, device)
        write_scores(out, opened.clips, score, of_sections(opened.clips, score, decision))


if __name__ == "__main__":
    command.run(main, __doc__)
