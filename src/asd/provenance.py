"""What made the tables: code, configuration, versions, data and seeds, as one JSON document.

configuration   the effective settings; as a --configfile they make the tables again
seeds           the settings among them that are seeds, by dotted key
code            one digest per stage (asd.code_digest); the commit, if the project is a git repository
versions        Python, the kind of processor, and every distribution that is installed
recordings      per machine: number of clips, SHA-256 of its manifest, SHA-256 of its recordings in the manifest's order
files           path -> SHA-256 of every file that was given
"""

import hashlib
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from asd.corpus import read_manifest, recordings


def describe(
    configuration: dict[str, Any], code: dict[str, str], project: Path, manifests: list[Path], files: list[Path]
) -> dict[str, Any]:
    """Return the document.

    Args:
        configuration: the effective settings.
        code: stage -> digest of its code.
        project: the project's folder.
        manifests: of all machines.
        files: the files that were made, whose checksums are recorded.

    Raises:
        InputError: a manifest is wrong, or lists recordings that are missing.
    """
    return {
        "configuration": configuration,
        "seeds": {key: value for key, value in _leaves(configuration) if key.rpartition(".")[2] == "seed"},
        "code": {"commit": commit(project), "stages": code},
        "versions": {
            "python": platform.python_version(),
            "processor": platform.machine(),
            **dict(sorted((one.metadata["Name"], one.version) for one in distributions())),
        },
        "recordings": {path.parent.name: _recordings(path) for path in manifests},
        "files": {str(path): checksum(path) for path in files},
    }


def _leaves(block: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in block.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def commit(project: Path) -> str:
    """Return the commit of a git repository, with "+" if tracked files were changed; "" if there is no repository."""
    try:
        said = [
            subprocess.run(["git", "-C", project, *words], capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said[0].strip() + ("+" if said[1] else "")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recordings(manifest: Path) -> dict[str, Any]:
    clips = read_manifest(manifest)
    together = hashlib.sha256()
    for path in recordings(manifest, clips):
        together.update(bytes.fromhex(checksum(path)))
    return {"clips": len(clips), "manifest": checksum(manifest), "recordings": together.hexdigest()}
