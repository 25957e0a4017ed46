"""A block of settings, the types of its fields, and its flags.

`flags` turns a block into the flags of a script, in canonical form, so that two spellings of a value (0.001, 1e-3) give
the same flags.
"""

import math
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

LONGEST = 120
"""The most characters of a name. File systems allow 255 bytes, and the name of a temporary file needs some more."""


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"{value!r} is not a name: letters, digits, '_' and '-', beginning with a letter or digit")
    if len(value) > LONGEST:
        raise ValueError(f"{value[:40]!r}… has {len(value)} characters; a name has {LONGEST} at most")
    return value


def _path(value: str) -> str:
    """A path as a person writes it, in one spelling: ~ expanded, without ./, // and a slash at the end."""
    try:
        value = os.path.normpath(Path(value.strip()).expanduser()) if value.strip() else ""
    except RuntimeError as error:  # ~name of a user that does not exist
        raise ValueError(f"{value!r}: {error}") from None
    if strange := re.search(r"[\x00-\x1f{}$]", value):
        raise ValueError(f"{value!r}: a path with {strange[0]!r}, which is not expanded; write the whole path")
    return value


def _folder(value: str) -> str:
    value = _path(value)
    if value in ("", ".", "/"):
        raise ValueError(f"{value!r}: expected a folder that holds nothing else; name one, such as results")
    return value


Source = Annotated[str, AfterValidator(_path)]
"""A file or folder to read; empty: none."""

Target = Annotated[str, AfterValidator(_folder)]
"""A folder to write into, which holds nothing else."""

Name = Annotated[str, AfterValidator(_name)]
"""A name that becomes part of a path."""


class Model(BaseModel):
    """A block of settings: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


Slice = TypeVar("Slice", bound=Model)


def part(kind: type[Slice], block: Slice) -> Slice:
    """Return the fields of a block that belong to the class `kind`."""
    return kind.model_validate(block.model_dump(include=set(kind.model_fields)))


def flat(block: Model, prefix: str = "") -> dict[str, Any]:
    """Return the values of a block by dotted key, sorted by key: {'mixup.alpha': 0.4, …}."""
    leaves: dict[str, Any] = {}
    for key in sorted(type(block).model_fields):
        value = getattr(block, key)
        if isinstance(value, Model):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves


def canonical(block: Model) -> str:
    """Return a block as a text that depends on its values only."""
    return flags(block)


def flags(block: Model, prefix: str = "") -> str:
    """Return a block as the flags of a script, quoted for the shell: `--covariance ledoit_wolf --ridge 0.01 …`."""
    return flags_of(flat(block, prefix))


def flags_of(leaves: dict[str, Any]) -> str:
    """Return values by dotted key, as `flat` gives them, as flags."""
    words: list[str] = []
    for key, value in leaves.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{key}", *(_word(one) for one in values)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    return str(value)
