"""Fuse the scores of several models into those of one.

Reads  the score files of the members, <anything>/<model>/<machine>.csv, of one machine.
Writes a score file of the same clips. Each member's scores are standardised, section by section, by the held-out scores
       of the training clips; no labels are used.
"""

from pathlib import Path
from typing import Literal

from asd import command


def main(
    *,
    scores: list[Path],
    fuse: Literal["mean", "max", "min"] = "mean",
    weights: tuple[float, ...] = (),
    quantile: float = 0.9,
    out: Path,
) -> None:
    """Fuse scores.

    Args:
        scores: the members' score files.
        fuse: how standardised scores become one.
        weights: of the members, in the order of the score files; by default all alike.
        quantile: of the gamma distribution fitted to the fused training scores; above it a clip is anomalous.
        out: the scores to write.
    """
    from asd.fusion import fuse_tables
    from asd.scores import read_scores, write_scores
    from asd.threshold import of_training

    clips, score = fuse_tables({path.parent.name: read_scores(path) for path in scores}, fuse, list(weights))
    write_scores(out, clips, score, of_training(clips, score, quantile))


if __name__ == "__main__":
    command.run(main, __doc__)
