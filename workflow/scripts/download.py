"""List a machine's recordings, after downloading them (published years) or synthesising them (the demo).

Reads  with --kind demo: nothing; with folder: the recordings, and their owner's manifest if there is one (see
       asd/own_manifest.py); with dcase2020 to dcase2026: the archives of that year from --published.base_url or
       --published.archives, unless they were unpacked before.
Writes manifest.csv, one row per recording; asd/corpus.py explains its columns. For the demo also the recordings; for a
       published year also the recordings, contents.csv and checksums.csv (see asd/dcase/download.py); for a folder also
       contents.txt, the digest --contents. If that changes, log-mels and check of the earlier recordings are removed.
"""

import logging
from pathlib import Path
from typing import Annotated

import tyro

from asd import command
from asd.errors import InputError
from asd.settings import Dataset

log = logging.getLogger("download")


def main(
    *,
    machine: str,
    dataset: Annotated[Dataset, tyro.conf.arg(name="")],
    contents: str = "",
    threads: int = 1,
    out: Path,
) -> None:
    """List recordings.

    Args:
        machine: the machine's name, which is also the name of its folder.
        dataset: where the recordings come from.
        contents: a digest of the content of the recordings, if they may be replaced by others of the same names.
        threads: number of clips that are synthesised at the same time.
        out: the manifest to write, <folder of the data set>/<machine>/manifest.csv.
    """
    from asd.corpus import check_complete, scan, write_manifest

    folder = out.absolute().parent.parent
    source: Path | str = dataset.kind
    if dataset.is_published:
        from asd.dcase.download import receive
        from asd.releases import with_truth

        clips = receive(folder, machine, dataset.kind, dataset.published)
        if dataset.published.ground_truth:
            clips = with_truth(clips, Path(dataset.published.ground_truth))
    elif dataset.kind == "demo":
        from asd.demo.synthesis import write_machine

        write_machine(folder, machine, dataset.demo, jobs=threads)
        clips = scan(folder, machine)
    else:
        if not dataset.folder.path:
            raise InputError("folder.path: found nothing; expected the folder of the recordings")
        from asd.own_manifest import listed, manifest_of

        tree = Path(dataset.folder.path)
        own = manifest_of(tree, machine)
        clips = listed(own, machine) if own else scan(tree, machine)
        source = own or tree / machine
    check_complete(clips, source)
    if contents:
        _forget_others(folder, machine, out.with_name("contents.txt"), contents)
    write_manifest(out, clips)
    log.info("%s: %d recordings (%s)", machine, len(clips), clips["part"].value_counts().to_dict())


def _forget_others(folder: Path, machine: str, known: Path, contents: str) -> None:
    """Remove what was computed from recordings that were replaced, so that an interrupted run does not use it.

    The manifest does not show the replacement, since the names may be the same.
    """
    from asd.files import written

    if known.exists() and known.read_text(encoding="ascii") == contents:
        return
    for stale in [*folder.glob(f"logmel-*/{machine}.h5"), folder / "check/summary.csv"]:
        stale.unlink(missing_ok=True)
    with written(known) as aside:
        aside.write_text(contents, encoding="ascii")


if __name__ == "__main__":
    command.run(main, __doc__)
