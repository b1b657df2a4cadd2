"""The reference pages are rendered from the code they describe."""

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mercato.cli import app
from mercato.settings import Settings
from tests.golden import ROOT, check_golden

SOURCES_OF = ("chorus", "online_retail")
_NEEDING = " and ".join(f"`{shop}`" for shop in SOURCES_OF)
SOURCES = f"""\
A shop's YAML may name more variables, in the paths and secrets of its sources ([sources](sources.md)).
`MERCATO_SOURCES` is the one of {_NEEDING}: the folder of their files; the heads of
their YAMLs say where to get them. `mercato demo --shop chorus` needs it; `complete_journey` needs none."""
"""What the settings do not hold."""


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(full name, command) of each leaf below `command`."""
    for name, each in sorted(getattr(command, "commands", {}).items()):
        yield from commands(each, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def test_the_command_page_lists_every_command() -> None:
    """docs/cli.md is the CLI's own help, example included."""
    lines = ["# Commands", "", "JSON on stdout (`--table` for people), logs on stderr.",
             "Exit codes: 0, 65 bad data, 70 our fault, 75 try again.", ""]  # fmt: skip
    for name, command in commands(typer.main.get_command(app), "mercato"):
        help_text = inspect.cleandoc(command.help)
        assert "Example: mercato" in help_text, f"{name} --help ends without an example"
        first, _, example = help_text.partition("Example: ")
        lines += [f"## `{name}`", "", first.strip(), ""]
        for param in command.params:
            if param.name == "help":
                continue
            label = " / ".join(param.opts) if param.param_type_name == "option" else param.name.upper()
            needed = " (needed)" if param.required else ""
            lines.append(f"- `{label}`{needed}: {getattr(param, 'help', '')}")
        lines += ["", f"    {example.strip()}", ""]
    check_golden(ROOT / "docs/cli.md", "\n".join(lines))


def field_docs() -> dict[str, str]:
    """Field -> the docstring below it."""
    tree = ast.parse(Path(inspect.getfile(Settings)).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings").body
    pairs = itertools.pairwise(body)
    return {
        node.target.id: doc.value.value
        for node, doc in pairs
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
    }


def test_the_settings_page_lists_every_setting() -> None:
    """docs/configuration.md is rendered from the settings' own docstrings."""
    docs = field_docs()
    lines = ["# Settings", "", "Read once, where a process starts.", ""]
    lines += ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if hasattr(field.default, "get_secret_value") else field.default
        lines.append(f"| `MERCATO_{name.upper()}` | `{default}` | {docs[name]} |".replace("``", "(empty)"))
    lines += ["", SOURCES]
    check_golden(ROOT / "docs/configuration.md", "\n".join(lines) + "\n")
    for shop in SOURCES_OF:
        assert "$MERCATO_SOURCES/" in (ROOT / f"data_contracts/shops/{shop}.yaml").read_text()
