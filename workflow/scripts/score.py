"""Score a machine's clips by the detector of their section, and decide.

Reads  the features of a machine's clips and the detector fitted to them (HDF5).
Writes a CSV, one row per clip, with score, decision (1: anomalous, 0: normal, empty: there is no threshold) and
       threshold; asd/scores.py explains its columns. A training clip is scored by a detector fitted without it.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Decision


def main(
    *, features: Path, fitted: Path, decision: Annotated[Decision, tyro.conf.arg(name="")], threads: int = 2, out: Path
) -> None:
    """Score clips.

    Args:
        features: features of the machine's clips (HDF5).
        fitted: the detector, fitted to these features (HDF5).
        decision: how the thresholds are found from the training scores.
        threads: number of threads of the linear algebra; the last bits of the result depend on it.
        out: the scores to write.
    """
    from threadpoolctl import threadpool_limits

    from asd.features import open_features
    from asd.scores import write_scores
    from asd.sections import read_sections, scores
    from asd.threshold import of_sections

    with open_features(features) as opened, threadpool_limits(threads):
        score = scores(opened, read_sections(fitted))
        write_scores(out, opened.clips, score, of_sections(opened.clips, score, decision))


if __name__ == "__main__":
    command.run(main, __doc__)
