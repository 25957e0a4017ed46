"""Write envs/asd.yaml, the locked set of envs/requirements.txt as a conda environment (run by `make lock`)."""

import re
from pathlib import Path

HERE = Path(__file__).parent
HEADER = """\
# The set of requirements.txt as a conda environment, for `snakemake --sdm conda`. Written by `make lock`.
name: asd
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(requirements: str) -> list[str]:
    """The pinned packages of a hash-locked requirements file, with their markers, without hashes."""
    return [line.rstrip(" \\") for line in requirements.splitlines() if re.match(r"[A-Za-z0-9]", line)]


if __name__ == "__main__":
    locked = pins((HERE / "requirements.txt").read_text())
    (HERE / "asd.yaml").write_text(HEADER + "".join(f'      - "{pin}"\n' for pin in locked))
