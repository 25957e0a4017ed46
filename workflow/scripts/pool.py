"""Pool the scores of the clips that were cut from a recording, and decide which recordings are anomalous.

Reads  a score file of clips that were cut from long recordings (logmel.cut), named plant.wav@120.
Writes a score file with one row per recording. Its threshold is found from the pooled scores of training recordings.
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from asd import command
from asd.settings import Decision


def main(
    *,
    scores: Path,
    pool: Literal["mean", "max"] = "mean",
    decision: Annotated[Decision, tyro.conf.arg(name="")],
    out: Path,
) -> None:
    """Pool scores.

    Args:
        scores: the score file of the clips.
        pool: how the scores of a recording's clips become one.
        decision: how the thresholds are found from the pooled training scores.
        out: the scores to write.
    """
    from asd.scores import pooled, read_scores, write_scores
    from asd.threshold import of_sections

    recordings, score = pooled(read_scores(scores), pool)
    write_scores(out, recordings, score, of_sections(recordings, score, decision))


if __name__ == "__main__":
    command.run(main, __doc__)
