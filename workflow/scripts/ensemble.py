"""Choose one model for each machine, and gather its scores.

Reads  the score files of every model and machine, <anything>/<model>/<machine>.csv; the last two parts of a path are
       the names of model and machine.
Writes the selection with the values that decided, and <out-dir>/<machine>.csv: the chosen model's scores. If recordings
       were cut into clips, these are the scores of recordings, and those of clips are gathered likewise.

A machine's model is the one with the highest AUC (harmonic mean over source and target and over the development
sections). A machine without labels gets the fallback.
"""

from pathlib import Path

from asd.command import run


def main(
    *,
    scores: list[Path],
    clip_scores: tuple[Path, ...] = (),
    models: list[str],
    fallback: str,
    selection: Path,
    out_dir: list[Path],
) -> None:
    """Choose a model for each machine.

    Args:
        scores: The score files of these models and of the fallback, for all machines.
        clip_scores: Their score files of the clips that were cut from recordings, which are gathered too.
        models: The models to choose from. If two are equally good, the first is chosen.
        fallback: The model of machines without labelled development clips.
        selection: The table to write: machine, model, reason, criterion and each model's value.
        out_dir: The folder of the ensemble's score files; with clip_scores, a second one for these.
    """
    import logging

    from asd.files import write_table, written
    from asd.results.ensemble import read_scored
    from asd.results.ensemble import selection as choose

    log = logging.getLogger("ensemble")
    read = read_scored(scores, list(dict.fromkeys([*models, fallback])))
    chosen = choose(read, fallback, models)
    for row in chosen.itertuples():
        if row.reason == "fallback":
            log.warning("%s: no labels to choose by; the fallback, %s, is used", row.machine, row.model)
        elif row.criterion != "auc_total":
            log.warning("%s: a domain is missing; chosen by the AUC of all clips", row.machine)
    for paths, folder in zip(filter(None, (scores, clip_scores)), out_dir, strict=True):
        files = {(path.parent.name, path.stem): path for path in paths}
        for row in chosen.itertuples():
            with written(folder / f"{row.machine}.csv") as aside:
                aside.write_bytes(files[row.model, row.machine].read_bytes())
    write_table(selection, chosen)
    print(chosen.to_string(index=False))


if __name__ == "__main__":
    run(main, __doc__)
