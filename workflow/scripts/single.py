"""Write the report as one file that contains its figures, pictures and sounds.

Reads  the page that report.py wrote, and the files beside it.
Writes a page that needs no other file. It is about a third larger than the folder of the page.
"""

from pathlib import Path

from asd import command


def main(*, page: Path, out: Path) -> None:
    """Write the single-file version.

    Args:
        page: the report's page, in its folder.
        out: the page to write.
    """
    from asd.report.single import write_single

    write_single(out, page)


if __name__ == "__main__":
    command.run(main, __doc__)
