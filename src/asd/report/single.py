"""The report's page as one file that contains its figures, pictures and sounds.

The page says itself what lies beside it: its links and images name the figures, and its data (the script `data`) names
the folders of the clips. A parser finds both, so the layout of the template does not matter.
"""

import base64
import json
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from asd.errors import InputError
from asd.files import written

KINDS = {".webp": "image/webp", ".svg": "image/svg+xml", ".flac": "audio/flac"}
FIGURES = "figures/"
"""The folder of the figures beside the page, as the page's links begin."""


class _Page(HTMLParser):
    """Finds the start tags that name figures, and that of the data.

    Attributes:
        figures: per tag that names a figure, as it stands in the page: its element and its attributes.
        data: the tag of the data as it stands in the page; empty if there is none.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, tuple[str, dict[str, str | None]]] = {}
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes, text = dict(attrs), self.get_starttag_text() or ""
        if attributes.get("id") == "data":
            self.data = text
        if any((value or "").startswith(FIGURES) for value in attributes.values()):
            self.figures[text] = tag, attributes


def write_single(path: Path, page: Path) -> None:
    """Write the page and all files beside it as one file.

    Figures become data URLs. The files of the clips become blocks of base64 with the names of the files; the page's
    script turns a block into a sound or a picture when its clip is opened.

    Args:
        path: the file to write.
        page: the page, in its folder.

    Raises:
        InputError: a file that the page shows is missing, or it is not the page of a report.
    """
    try:
        text = page.read_text(encoding="utf-8")
        found = _Page(text)
        if not found.data:
            raise InputError(f"{page}: found no data of clips, expected the page of a report; make the page again")
        for tag, (element, attributes) in found.figures.items():
            text = text.replace(tag, _embedded(element, attributes, page.parent))
        before, tag, after = text.partition(found.data)
        data, _, _ = after.partition("</script>")  # the data contain no "<": Jinja2's tojson writes it as a number
        with written(path) as aside, aside.open("w", encoding="utf-8") as out:
            out.write(before)
            for machine in json.loads(data)["machines"]:
                out.writelines(_blocks(page.parent, machine["folder"]))
            out.write(tag + after)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; make the page again, then this") from None


def _embedded(element: str, attributes: dict[str, str | None], folder: Path) -> str:
    """A start tag with the figure itself; a link to a figure gets the mark `data-large`, which the script follows."""
    if (attributes.get("href") or "").startswith(FIGURES):  # browsers open no data address as a page
        attributes |= {"href": "#", "data-large": None}
    if (source := attributes.get("src") or "").startswith(FIGURES):
        file = folder / source
        attributes["src"] = f"data:{KINDS[file.suffix]};base64,{_base64(file)}"
    given = (key if value is None else f'{key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{' '.join([element, *given])}>"


def _blocks(folder: Path, clips: str) -> Iterator[str]:
    """The files of a machine's clips, as scripts that are not run."""
    for file in sorted((folder / clips).iterdir()):
        if kind := KINDS.get(file.suffix):
            yield f'<script type="{kind}" id="{clips}/{file.name}">{_base64(file)}</script>\n'


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
