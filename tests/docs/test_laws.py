"""The page of laws names tests that exist."""

import ast
import re

from tests.golden import ROOT

PAGE = ROOT / "docs/laws_of_time.md"


def test_every_law_names_tests_that_exist() -> None:
    """Each row of the table says the law, at least one test by file and name, and how it was seen to fail."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("|")][2:]
    assert rows
    for law, tests, failed in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, law
        assert failed.strip(), law
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text())
            assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, f"{path}::{name}"
