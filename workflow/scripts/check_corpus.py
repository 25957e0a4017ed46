"""Check recordings before anything is computed from them: find faults, and plot levels and spectra.

Reads  manifests (the workflow's, or one of your own, see asd/own_manifest.py) and the recordings that they list.
Writes into <out-dir> corpus.csv, one row per recording with its level, peak, length and fault, if any; <machine>.svg
       with levels and spectra by split and domain; and summary.csv, if no recording is refused.

A recording is refused if it cannot be read to its end (truncated, not numbers, another format) or has a fault that
--refuse names. Refused recordings are printed, and the command ends with status 1. Other faults are listed only.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.settings import Check, LogMel


def main(
    manifests: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    settings: Annotated[LogMel, tyro.conf.arg(name="")],
    check: Annotated[Check, tyro.conf.arg(name="")],
    threads: int = 2,
    out_dir: Path,
) -> None:
    """Check recordings.

    Args:
        manifests: The manifests, or folders with a manifest.csv.
        settings: How recordings are read (--convert, --channel, --rate); the other settings have no effect here.
        check: What counts as a fault.
        threads: Number of recordings that are read at the same time.
        out_dir: The folder to write into.
    """
    import logging

    import pandas as pd

    from asd import corpus_check
    from asd.errors import InputError
    from asd.files import write_table
    from asd.own_manifest import read_all

    if not manifests or threads < 1:
        raise InputError("expected at least one manifest, and one thread; name them: check_corpus.py manifest.csv")
    manifests = tuple(path / "manifest.csv" if path.is_dir() else path for path in manifests)
    if missing := [path for path in manifests if not path.exists()]:
        raise InputError(
            f"{missing[0]}: no such file; make_manifest.py {missing[0].parent} writes a first manifest of the "
            "recordings there"
        )
    clips = pd.concat([read_all(path) for path in manifests], ignore_index=True)
    table, spectra = corpus_check.examine(clips, [Path(path) for path in clips["path"]], settings, check, threads)
    tables = {"corpus": table, "summary": corpus_check.summary(table)}
    (out_dir / "summary.csv").unlink(missing_ok=True)
    corpus_check.write_plots(out_dir, table, spectra)
    for name in ("corpus", "summary")[: 1 if table["refused"].any() else 2]:
        write_table(out_dir / f"{name}.csv", tables[name], "%.6g")
    print(tables["summary"].replace("", "-").to_string(index=False, float_format="%.1f"))
    for (refused, machine, fault), rows in table[table["fault"] != ""].groupby(["refused", "machine", "fault"]):
        file, reason = rows[["file", "reason"]].iloc[0]
        what = f"{file}: {fault}" if len(rows) == 1 else f"{len(rows)} recordings {fault}, the first {file}"
        print(f"{'refused' if refused else 'let through'}: {machine}: {what} ({reason})")
    for sentence in corpus_check.few(clips):
        logging.getLogger("check_corpus").warning("%s", sentence)
    print(f"{out_dir}/: corpus.csv and a plot for each machine")
    if refused := int(table["refused"].sum()):
        raise InputError(
            f"{refused} of {len(table)} recordings are refused ({out_dir / 'corpus.csv'}); record them again, take "
            "them out of the manifest, or leave their fault out of check.refuse"
        )


if __name__ == "__main__":
    command.run(main, __doc__)
