"""The digest of a script's code: every change of what runs, and nothing else."""

import pytest

from asd.code_digest import code_digest

FILES = {
    "script.py": '"""Doc."""\nfrom asd import command, gaussian\n\ndef main():\n    from asd.cache import Cache\n',
    "gaussian.py": "import numpy\nfrom asd.shape import N\n\nX = 1\n",
    "shape.py": "N = 2\n",
    "cache.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from asd.other import Thing\n",
    "other.py": "Y = 1\n",
    "command.py": "Z = 1\n",
    "settings.py": "A = 1\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def of(package, **keywords):
    return code_digest(package / "script.py", package, **keywords)


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("script.py", FILES["script.py"].replace("Doc.", "Other words."), False),
        ("script.py", FILES["script.py"].replace("main", "start"), True),
        ("gaussian.py", "# why\nimport numpy\nfrom asd.shape import N\nX  =  1\n", False),
        ("gaussian.py", FILES["gaussian.py"].replace("X = 1", "X = 2"), True),
        ("shape.py", "N = 3\n", True),  # reached through gaussian
        ("cache.py", FILES["cache.py"] + "B = 1\n", True),  # imported inside a function
        ("other.py", "Y = 2\n", False),  # imported for type checking only
        ("command.py", "Z = 2\n", False),
        ("settings.py", "A = 2\n", False),
    ],
)
def test_an_edit_counts_where_it_runs(package, name, text, changes):
    before = of(package)
    (package / name).write_text(text)
    assert (of(package) != before) == changes


def test_a_module_that_this_use_does_not_run_is_left_out_with_what_it_reaches(package):
    before = of(package, unused=frozenset({"gaussian"}))
    (package / "shape.py").write_text("N = 3\n")
    assert of(package, unused=frozenset({"gaussian"})) == before


def test_a_module_that_is_imported_by_name_counts_if_the_importing_module_is_reached(package):
    before = of(package, by_name={"gaussian": ["other"], "elsewhere": ["else"]})
    (package / "other.py").write_text("Y = 2\n")
    (package / "else.py").write_text("E = 2\n")
    assert of(package, by_name={"gaussian": ["other"], "elsewhere": ["else"]}) != before
    assert of(package, by_name={"elsewhere": ["else"]}) == of(package)
    assert of(package, by_name={"gaussian": ["other"]}, unused=frozenset({"other"})) == of(package)
