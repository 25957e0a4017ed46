"""The page in one file, read back with a parser of the tests."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asd.errors import InputError
from asd.report.single import write_single

MACHINES = [{"folder": "clips/fan", "text": 'src="figures/none.svg" <a href="figures/none.svg">'}]


class Elements(HTMLParser):
    """(tag, attributes, text) of the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data


def make_page(folder: Path, figure: str) -> Path:
    """A page that shows a figure and one clip of a machine, with what it shows beside it."""
    for name in ("figures/fan/map.svg", "clips/fan/3.flac", "clips/fan/3.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "clips/fan/clips.json").write_text("{}")
    said = json.dumps({"machines": MACHINES}).replace("<", "\\u003c")  # as Jinja2's tojson
    data = f'<script type="application/json" id="data">{said}</script>'
    (folder / "index.html").write_text(
        f"<!doctype html>\n<body>\n<p>1 &lt; 2 &amp; figures/fan/map.svg</p>\n{figure}\n{data}\n"
        "<script>if (1 < 2) say('<a href=\"figures/fan/map.svg\">');</script>\n</body>\n"
    )
    return folder / "index.html"


@pytest.mark.parametrize(
    "figure",
    [
        '<a href="figures/fan/map.svg" aria-label="Large: a & b"><img src="figures/fan/map.svg" alt="" hidden></a>',
        "<a\n aria-label='Large: a &amp; b' href='figures/fan/map.svg'><img alt='' src='figures/fan/map.svg'/></a>",
    ],
)
def test_the_single_file_holds_every_file_that_the_page_shows(tmp_path, figure):
    made = make_page(tmp_path, figure)
    write_single(tmp_path / "out/single.html", made)
    text = (tmp_path / "out/single.html").read_text()
    elements = Elements(text).found
    ((_, link, _),) = [one for one in elements if one[0] == "a"]
    assert {key: link[key] for key in ("href", "aria-label", "data-large")} == {
        "href": "#",
        "aria-label": "Large: a & b",
        "data-large": None,
    }
    ((_, image, _),) = [one for one in elements if one[0] == "img"]
    head, _, content = image["src"].partition(",")
    assert (head, base64.b64decode(content)) == ("data:image/svg+xml;base64", b"figures/fan/map.svg")
    assert image["alt"] == ""
    held = {one["id"]: content for tag, one, content in elements if tag == "script" and "id" in one}
    assert json.loads(held.pop("data"))["machines"] == MACHINES
    assert {name: base64.b64decode(content).decode() for name, content in held.items()} == {
        name: name for name in ("clips/fan/3.flac", "clips/fan/3.webp")
    }


def test_nothing_else_of_the_page_changes(tmp_path):
    made = make_page(tmp_path, "<p>No figures.</p>")
    write_single(tmp_path / "single.html", made)
    lines = (tmp_path / "single.html").read_text().splitlines()
    blocks = [line for line in lines if 'id="clips/' in line]
    assert len(blocks) == 2
    assert [line for line in lines if line not in blocks] == made.read_text().splitlines()


@pytest.mark.parametrize("gone", ["figures/fan/map.svg", "index.html"])
def test_what_the_single_file_lacks_is_named(tmp_path, gone):
    made = make_page(tmp_path, '<img src="figures/fan/map.svg">')
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=rf"{gone}: No such file .*; make the page again"):
        write_single(tmp_path / "single.html", made)
    assert not (tmp_path / "single.html").exists()


def test_a_page_that_is_no_report_is_refused(tmp_path):
    (tmp_path / "index.html").write_text("<p>Hello.</p>")
    with pytest.raises(InputError, match=r"index\.html: found no data of clips, expected the page of a report"):
        write_single(tmp_path / "single.html", tmp_path / "index.html")
