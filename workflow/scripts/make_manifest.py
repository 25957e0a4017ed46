"""Write a first manifest of a folder of recordings, which you then check and complete by hand.

Reads  the names of the recordings (wav, FLAC, Ogg, mp3) in a folder and its subfolders.
Writes manifest.csv into the folder, one row per recording; asd/own_manifest.py explains its columns.

A pattern says what the parts of a path mean: {name} takes the value of a column, * stands for any text within one name,
** for any text. machine and split are needed; section, domain and label are known columns; every other name is an
attribute. If several patterns fit a path, the first counts:

    make_manifest.py /recordings --pattern '{machine}/{split}/*'
    make_manifest.py /recordings --pattern '{machine}/baseline/**' '{machine}/{month}/**' --words baseline=train
    make_manifest.py /recordings --fixed machine=pump --pattern '{split}/{label}_{rpm}rpm_*.flac' --words io=normal

Names of machines and sections have letters, digits, '_' and '-'; --words 'Fan 3=fan3' gives another name.
"""

from pathlib import Path
from typing import Annotated

import tyro

from asd import command


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    *,
    pattern: tuple[str, ...] = ("{machine}/{split}/**",),
    fixed: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    replace: bool = False,
) -> None:
    """Write a manifest.

    Args:
        folder: The folder of recordings.
        pattern: The parts of a path relative to the folder; several patterns are tried in order.
        fixed: Values for all recordings for which the pattern gives none: machine=pump split=train.
        words: The meaning of words in the paths, besides train, test, normal, ok, anomaly, ng …: baseline=train; and
            other names of machines and sections: "Fan 3=fan3".
        replace: Replace a manifest that exists.
    """
    from asd.errors import InputError
    from asd.files import write_table
    from asd.own_manifest import propose

    out = folder / "manifest.csv"
    if out.exists() and not replace:
        raise InputError(f"{out}: exists already, perhaps completed by hand; remove it, or add --replace True")
    table = propose(folder, list(pattern), _pairs("fixed", fixed), _pairs("words", words))
    write_table(out, table)
    counts = table.groupby(["machine", "section", "split", "domain", "label"]).size().reset_index(name="recordings")
    print(counts.replace("", "-").to_string(index=False))
    attributes = {name: table[name].nunique() for name in table.columns[6:]}
    print("attributes:", ", ".join(f"{name} ({count} values)" for name, count in attributes.items()) or "none")
    print(f"{out}: check it, and add what you know")


def _pairs(flag: str, words: tuple[str, ...]) -> dict[str, str]:
    from asd.errors import InputError

    if wrong := [word for word in words if not all(word.partition("="))]:
        raise InputError(f"--{flag}: found {wrong[0]!r}, expected a pair like {flag}=value")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


if __name__ == "__main__":
    command.run(main, __doc__)
