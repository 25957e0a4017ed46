"""Rank the test clips of all machines, the most suspicious first.

Reads  score files, one per machine: <anything>/<machine>.csv.
Writes a CSV, one row per test clip: rank, machine, file, section, domain, label, score, deviations, decision. Scores of
       different sections have no common unit, but deviations have: how many robust standard deviations the score lies
       above the median of the section's training scores (empty if there are too few of these).
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
    from asd.scores import UNDECIDED, read_scores

    table = ranked({path.stem: read_scores(path) for path in scores})
    table["decision"] = table["decision"].astype("Int64").replace(UNDECIDED, None)  # an empty cell
    with written(out) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
    print(table.head(20).to_string(index=False))


if __name__ == "__main__":
    command.run(main, __doc__)
