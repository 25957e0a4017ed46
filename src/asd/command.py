"""Turn a function into a command: flags from its typed arguments, errors as one message."""

import io
import logging
import os
import sys
from collections.abc import Callable

import tyro

from asd.errors import InputError


def share_processor() -> None:
    """Make OpenMP's threads sleep while they wait for one another; to be called before torch is imported.

    By default they wait actively. If several jobs share the processor, they then take it from the thread for which they
    wait.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def say_anything() -> None:
    """Have what cannot be written in the terminal's encoding (names from old systems, LC_ALL=C) written as numbers."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(main: Callable, description: str) -> None:
    """Run `main` with keyword arguments parsed from the command line.

    Args:
        main: a function with typed, keyword-only arguments; the fields of a settings class become flags
            (`--mixup.alpha`).
        description: what the command reads and writes (the script's docstring).

    An `InputError` ends the process with its message and status 1, without a traceback. Other exceptions are defects of
    the code and keep their traceback.
    """
    share_processor()
    say_anything()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        tyro.cli(main, description=description, config=(tyro.conf.FlagConversionOff,))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
