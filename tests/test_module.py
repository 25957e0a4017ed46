"""The workflow as a module of another Snakefile, from a folder and from a git host, as snakedeploy writes it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULE = """
configfile: {config!r}

module sound:
    snakefile: {snakefile}
    config: config

use rule * from sound as {names}
"""


def planned(folder: Path, snakefile: Path, *arguments: str) -> dict[str, int]:
    """The jobs that a dry run of a Snakefile in a folder lists: rule -> number."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(snakefile),
        "--dry-run",
        "--cores",
        "1",
        *arguments,
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "localrules" not in done.stdout  # a warning that rules which were to run locally have other names
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, int]:
    """What the workflow itself plans in an empty folder."""
    return planned(tmp_path_factory.mktemp("alone"), ROOT / "Snakefile")


def test_another_snakefile_uses_the_rules_under_its_own_names(tmp_path, alone):
    text = MODULE.format(
        config=str(ROOT / "config/config.yaml"), snakefile=repr(str(ROOT / "Snakefile")), names="sound_*"
    )
    (tmp_path / "Snakefile").write_text(text)
    found = planned(tmp_path, tmp_path / "Snakefile")
    assert found == {rule if rule == "total" else f"sound_{rule}": count for rule, count in alone.items()}
    assert not (tmp_path / ".snakemake/asd").exists()  # the files are used where they are


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_snakefile_that_snakedeploy_wrote_uses_the_rules_from_a_git_host(tmp_path, alone):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=asd", "-c", "user.email=asd@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=clone, check=True, capture_output=True)

    # Where Snakemake keeps its clone of someone/asd, so that nothing is fetched.
    clone = tmp_path / "cache/snakemake/snakemake/source-cache/snakemake-git-cache/github.com/someone/asd"
    for name in ("src/asd", "workflow", "config", "envs", "resources"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", clone)
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    (clone / "src/asd/later.py").touch()
    git("add", ".")
    git("commit", "-m", "second")
    git("tag", "v2")

    shutil.copytree(ROOT / "config", tmp_path / "config")
    for tag in ("v1", "v2"):
        source = f'github("someone/asd", path="workflow/Snakefile", tag="{tag}")'
        (tmp_path / "Snakefile").write_text(MODULE.format(config="config/config.yaml", snakefile=source, names="*"))
        found = planned(tmp_path, tmp_path / "Snakefile")
        assert found.pop("everything") == 1
        assert found == {rule: count for rule, count in alone.items() if rule != "all"}
        assert (tmp_path / ".snakemake/asd/workflow/scripts/train.py").is_file()
        assert (tmp_path / ".snakemake/asd/src/asd/later.py").exists() == (tag == "v2")


def test_the_catalog_finds_what_it_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True}
    assert usage["report"] is True
    assert (ROOT / "workflow/Snakefile").is_file()
    assert (ROOT / "config/README.md").is_file()
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
