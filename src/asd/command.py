"""Turn a function into a command: flags from its typed arguments, errors as one message."""

import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import tyro
from pydantic import ValidationError

from asd.errors import InputError


def before_torch() -> None:
    """Set what torch reads from the environment when it is imported.

    OpenMP's threads sleep while they wait for one another. By default they wait in a busy loop, which takes the
    processor from other threads if several jobs share it. What Apple's GPUs (MPS) cannot compute is computed on the
    processor.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def say_anything() -> None:
    """Make characters that the terminal's encoding lacks (names from old systems, LC_ALL=C) appear as their numbers."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _words() -> list[str]:
    """The command line's words; instead of a word @<file>, the content of that file if there is one."""
    files = {word: Path(word[1:]) for word in sys.argv[1:] if word.startswith("@")}
    return [
        files[word].read_text(encoding="utf-8") if word in files and files[word].is_file() else word
        for word in sys.argv[1:]
    ]


def run(main: Callable, description: str) -> None:
    """Run `main` with keyword arguments parsed from the command line.

    A word @<file> stands for the content of that file, since an argument of more than 128 KiB cannot be given to a
    process. An `InputError` ends the process with its message and status 1, without a traceback. So do an impossible
    value of a setting, and a file that cannot be read or written. Other exceptions are defects of the code and keep
    their traceback.

    Args:
        main: a function with typed, keyword-only arguments; the fields of a settings class become flags
            (`--mixup.alpha`).
        description: what the command reads and writes (the script's docstring).

    Raises:
        SystemExit: with status 1, after an error that the user can mend.
    """
    before_torch()
    say_anything()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        tyro.cli(main, args=_words(), description=description, config=(tyro.conf.FlagConversionOff,))
    except ValidationError as error:
        said = "; ".join(f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        print(f"error: {said}", file=sys.stderr)
        raise SystemExit(1) from None
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
