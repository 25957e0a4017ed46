"""Rank the test clips of all machines, the most suspicious first.

Reads  score files and log-mel caches, one per machine: <anything>/<machine>.csv, <anything>/<machine>.h5.
Writes a CSV, one row per test clip: rank, machine, file, section, domain, label, score, deviations, decision, remark.
       Scores of different sections have no common unit, but deviations have: how many robust standard deviations the
       score lies above the median of the section's training scores (empty if there are too few of these). The remark
       says if the unlabelled clips of a section differ as a whole from its training clips in level or spectrum.
"""

from pathlib import Path

from asd import command


def main(*, scores: list[Path], caches: list[Path], out: Path) -> None:
    """Rank clips.

    Args:
        scores: The score files of all machines, of one model or of the ensemble.
        caches: The log-mel caches of all machines.
        out: The table to write.
    """
    from asd.cache import open_cache
    from asd.corpus import recording_count
    from asd.files import write_table
    from asd.results.shift import remarks
    from asd.results.suspicious import ranked
    from asd.scores import UNDECIDED, read_scores
    from asd.threshold import too_few

    read = {path.stem: read_scores(path) for path in scores}
    table = ranked(read)
    table["decision"] = table["decision"].astype("Int64").replace(UNDECIDED, None)  # an empty cell
    said = {}
    for path in caches:
        with open_cache(path) as cache:
            said |= {(path.stem, section): remark for section, remark in remarks(cache).items()}
    places = zip(table["machine"], table["section"], table["label"], strict=True)
    table["remark"] = ["" if label else said.get((machine, section), "") for machine, section, label in places]
    write_table(out, table)
    shown = table.head(20).drop(columns="remark").astype(object)
    print(shown.where(shown.notna(), "-").to_string(index=False))
    for machine, clips in read.items():
        for section, own in clips.groupby("section"):
            if (own["decision"][own["split"] == "test"] == UNDECIDED).any():
                count = recording_count(own[(own["split"] == "train") & own["score"].notna()])
                print(f"{machine}, section {section}: {too_few(count)}")
    for (machine, section), remark in said.items():
        print(f"{machine}, section {section}: {remark}; their scores may be high for this reason alone")


if __name__ == "__main__":
    command.run(main, __doc__)
