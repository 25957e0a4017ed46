"""Fuse the scores of several models into those of one.

Reads  the score files of the members, <anything>/<model>/<machine>.csv, of one machine.
Writes a score file of the same clips. Each member's scores are standardised, section by section, by the held-out scores
       of the training clips; no labels are used.
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from asd import command
from asd.settings import Decision


def main(
    *,
    scores: list[Path],
    fuse: Literal["mean", "max", "min"] = "mean",
    weights: tuple[float, ...] = (),
    decision: Annotated[Decision, tyro.conf.arg(name="")],
    out: Path,
) -> None:
    """Fuse scores.

    Args:
        scores: the members' score files.
        fuse: how standardised scores become one.
        weights: the weights of the members, in the order of the score files; by default equal.
        decision: how the thresholds are found from the fused training scores.
        out: the scores to write.
    """
    from asd.fusion import fuse_tables
    from asd.scores import read_scores, write_scores
    from asd.threshold import of_sections

    clips, score = fuse_tables({path.parent.name: read_scores(path) for path in scores}, fuse, list(weights))
    write_scores(out, clips, score, of_sections(clips, score, decision))


if __name__ == "__main__":
    command.run(main, __doc__)
