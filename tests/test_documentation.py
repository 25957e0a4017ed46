"""The documentation: its links, its tables and its configurations agree with the project.

`python tests/test_documentation.py` writes the table of docs/reruns.md from reruns.csv.
"""

import ast
import csv
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import merged

from asd.expansion import expand
from asd.settings import load

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "config/README.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BEGIN, END = "<!-- written by `python tests/test_documentation.py`: begin -->\n", "<!-- end -->\n"


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that a git host gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))


def reruns() -> str:
    """The table of docs/reruns.md."""
    with (ROOT / "tests/reruns.csv").open() as file:
        rows = [(row["keys"].split(), row["stages"] or "nothing") for row in csv.DictReader(file)]
    lines = [f"| {', '.join(f'`{key}`' for key in keys)} | {stages.replace(' ', ', ')} |" for keys, stages in rows]
    return "\n".join(["", "| keys | stages that run again |", "| --- | --- |", *lines, "", ""])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_links_to_every_page():
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 150
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    assert {*PAGES} - {readme, ROOT / "config/README.md"} <= linked


def test_nothing_is_said_twice():
    """No sentence, row of a table or line of code stands on two pages."""
    places = Counter()
    for page in PAGES:
        text = re.sub(r"\n(?=[^\n|#`-])", " ", page.read_text())  # a paragraph as one line
        lines = [line for line in text.splitlines() if line[:1] != "|" or re.search(r"\d", line)]  # no heads of tables
        parts = {part.strip() for line in lines for part in re.split(r"(?<=[.:;]) ", line)}
        places.update(part for part in parts if len(part) > 70)
    assert [part for part, count in places.items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_files_that_a_page_names_are_there(page):
    named = re.findall(
        r"`((?:src|workflow|config|tests|benchmarks|docs|profiles|envs|resources)/[\w./-]*)`", page.read_text()
    )
    assert [path for path in named if not (ROOT / path).exists() and not path.startswith("benchmarks/results/")] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_configurations_of_a_page_are_valid(page):
    if page.name == "extending.md":
        pytest.skip("its configurations need the code of the page: tests/test_extending.py")
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())

    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        overlay = yaml.safe_load(block)
        if "default-resources" not in overlay:  # a profile of Snakemake
            load(expand(merged(default, overlay)))


def test_the_table_of_reruns_is_that_of_the_tests():
    text = (ROOT / "docs/reruns.md").read_text()
    assert text.split(BEGIN)[1].split(END)[0] == reruns(), "run python tests/test_documentation.py"


def public_functions(node: ast.AST) -> list[ast.FunctionDef]:
    """The public functions of a module, and the public methods of its public classes."""
    named = [one for one in getattr(node, "body", []) if not getattr(one, "name", "_").startswith("_")]
    functions = [one for one in named if isinstance(one, ast.FunctionDef)]
    return functions + [one for owner in named if isinstance(owner, ast.ClassDef) for one in public_functions(owner)]


@pytest.mark.parametrize("module", sorted((ROOT / "src/asd").rglob("*.py")), ids=lambda path: path.stem)
def test_docstrings_name_arguments_and_errors(module):
    """Of three or more arguments all are described; what a function raises itself is named."""
    for function in public_functions(ast.parse(module.read_text())):
        said = ast.get_docstring(function) or ""
        arguments = {one.arg for one in (*function.args.args, *function.args.kwonlyargs)} - {"self", "cls"}
        assert len(arguments) < 3 or "Args:" in said, function.name  # ruff checks that it names them all
        own = [one for one in ast.walk(function) if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call)]
        assert not own or "Raises:" in said, function.name


if __name__ == "__main__":
    page = ROOT / "docs/reruns.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + reruns() + END + rest.split(END)[1])
