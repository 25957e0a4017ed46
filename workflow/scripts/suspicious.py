"""Rank the test clips of all machines, the most suspicious first.

Reads  score files, one a machine: <anything>/<machine>.csv.
Writes a CSV, a row a test clip: rank, machine, file, section, domain, label, score, deviations, decision. Scores of two
       machines have no common unit; deviations do: how far the score lies above the median of the machine's training
       clips, in their robust standard deviations (empty where these are too few).
"""

from pathlib import Path

from asd import command


def main(*, scores: list[Path], out: Path) -> None:
    """Rank clips.

    Args:
        scores: The score files of all machines, of one model or of the ensemble.
        out: The table to write.
    """
    from asd.files import written
    from asd.results.suspicious import ranked
    from asd.scores import read_scores

    table = ranked({path.stem: read_scores(path) for path in scores})
    with written(out) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
    print(table.head(20).to_string(index=False))


if __name__ == "__main__":
    command.run(main, __doc__)
