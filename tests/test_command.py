"""What every script's command line has in common."""

import os
import subprocess
import sys

SCRIPT = """
from asd import command
from asd.errors import InputError

def main(*, text: str, names: list[str] = []) -> None:
    if not text:
        raise InputError("text: found nothing")
    print(len(text), text[:5], *names)

command.run(main, "A script.")
"""


def test_what_the_system_does_not_allow_and_impossible_values_have_no_traceback(tmp_path):
    code = SCRIPT.replace("text: str, names: list[str] = []", "out: Path, settings: Annotated[LogMel, arg(name='')]")
    code = "from pathlib import Path\nfrom typing import Annotated\nfrom tyro.conf import arg\n" + code
    code = "from asd.settings import LogMel\n" + code.replace(
        "    if not text:", "    out.write_text('')\n    if not out:"
    )
    for words, said in (
        (["--out", str(tmp_path)], "Is a directory"),
        (["--out", str(tmp_path / "a"), "--hop", "2000"], "hop: 2000 is more than n_fft, 1024"),
        (["--out", str(tmp_path / "a"), "--crop_limit", "nan"], "--crop_limit: Input should be a finite number"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SCRIPT, *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_a_long_argument_is_read_from_a_file(tmp_path):
    path = tmp_path / "argument"
    path.write_text("Grüße" * 40_000, encoding="utf-8")
    assert run("--text", f"@{path}", "--names", "@nobody", "a").stdout == "200000 Grüße @nobody a\n"


def test_an_input_error_is_one_line_and_names_that_are_no_text_are_numbers():
    done = run("--text", "")
    assert (done.returncode, done.stderr) == (1, "error: text: found nothing\n")
    done = run("--text", "L\udcfcfter", LC_ALL="C.UTF-8")
    assert done.stdout == "6 L\\udcfcfte\n"
