"""What a source needs from the environment: paths with `~` and `$VARIABLES`, and secrets that no YAML may hold."""

import os
import re
from pathlib import Path

from data_contracts.errors import SourceMissing

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def expanded(text: str) -> str:
    """`text` with `~` and `$VARIABLES` filled in; SourceMissing names a variable that is not set."""
    filled = os.path.expandvars(str(Path(text).expanduser()) if text.startswith("~") else text)
    if left := _VARIABLE.search(filled):
        name = left.group(1).strip("{}")
        raise SourceMissing(f"the source {text!r} names the variable {name}, which is not set; export {name}=...")
    return filled


def secret(name: str, what: str) -> str:
    """The value of the environment variable `name`, without blanks around it; SourceMissing says what it is for."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise SourceMissing(f"the environment variable {name}, which holds {what}, is not set; export {name}=...")
    if not value.isprintable():
        raise SourceMissing(
            f"the environment variable {name}, which holds {what}, has a control character such as a line break in "
            f"it; export {name}=... again, in one line"
        )
    return value
