"""List a machine's recordings, after synthesising them where they are the demo's.

Reads  by --kind: demo, nothing (the recordings are synthesised beside the manifest); folder, the recordings where
       they are; dcase2022, the published recordings, unpacked beside the manifest.
Writes manifest.csv, a row a recording; its columns are in asd/corpus.py.
"""

import logging
from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.errors import InputError
from asd.settings import Dataset

log = logging.getLogger("download")

ARCHIVES = {
    "development": "dev_{}.zip of Zenodo record 6355122",
    "additional": "eval_data_{}_train.zip of Zenodo record 6462969",
    "evaluation": "eval_data_{}_test.zip of Zenodo record 6586456",
}
"""Where each part of the 2022 data set is published."""


def main(
    *,
    machine: str,
    dataset: Annotated[Dataset, tyro.conf.arg(name="")],
    threads: int = 1,
    out: Path,
) -> None:
    """List recordings.

    Args:
        machine: the machine's name, which is the name of its folder.
        dataset: where the recordings come from.
        threads: clips that are synthesised at a time.
        out: the manifest to write, <folder of the data set>/<machine>/manifest.csv.
    """
    from asd.corpus import scan, write_manifest

    folder = out.absolute().parent.parent
    if dataset.kind == "folder":
        if not dataset.folder.path:
            raise InputError("folder.path: found nothing; expected the folder that holds a folder for each machine")
        folder = Path(dataset.folder.path)
    elif dataset.kind == "demo":
        from asd.synthesis import write_machine

        write_machine(folder, machine, dataset.demo, jobs=threads)
    elif not (folder / machine / "train").is_dir():
        raise _missing(folder, machine, dataset.dcase2022.parts)
    clips = scan(folder, machine)
    if dataset.kind == "dcase2022":
        clips = clips[clips["part"].isin(dataset.dcase2022.parts)]
        if missing := [part for part in dataset.dcase2022.parts if part not in set(clips["part"])]:
            raise _missing(folder, machine, missing)
    write_manifest(out, clips)
    log.info("%s: %d recordings (%s)", machine, len(clips), clips["part"].value_counts().to_dict())


def _missing(folder: Path, machine: str, parts: list[str]) -> InputError:
    archives = ", ".join(ARCHIVES[part].format(machine) for part in parts)
    return InputError(
        f"{folder / machine}: found no recordings of the part {' and '.join(parts)} of the 2022 data set; "
        f"download {archives}, and unpack them in {folder}"
    )


if __name__ == "__main__":
    command.run(main, __doc__)
