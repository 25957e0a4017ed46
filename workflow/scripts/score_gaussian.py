"""Score a machine's clips by their Mahalanobis distance to their section's Gaussian, and decide.

Reads  the features of a machine's clips and its Gaussians (HDF5).
Writes a CSV, a row a clip: file, section, split, part, domain, label, score, decision (1: anomalous). A training
clip has the score that a Gaussian fitted without it gives.
"""

from pathlib import Path

from asd import command


def main(*, features: Path, mvg: Path, quantile: float = 0.9, threads: int = 2, out: Path) -> None:
    """Score clips.

    Args:
        features: features of the machine's clips (HDF5).
        mvg: the machine's Gaussians, fitted to these features (HDF5).
        quantile: of the gamma distribution fitted to the training scores; above it a clip is anomalous.
        threads: of the linear algebra; the last bits of the result depend on it.
        out: the scores to write.
    """
    from threadpoolctl import threadpool_limits

    from asd.features import open_features
    from asd.gaussian import read_sections, scores
    from asd.scores import write_scores
    from asd.threshold import threshold

    with open_features(features) as opened, threadpool_limits(threads):
        score = scores(opened, read_sections(mvg))
        clips = opened.clips
    limit, _ = threshold(score[(clips["split"] == "train").to_numpy()], quantile)
    write_scores(out, clips, score, limit)


if __name__ == "__main__":
    command.run(main, __doc__)
