"""The terminal face stands on its floor: API client, cluster state, errors, and names made harmless."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "peerinfer",
    "peerinfer.api.client",
    "peerinfer.control.apply",
    "peerinfer.control.events",
    "peerinfer.control.state",
    "peerinfer.errors",
    "peerinfer.names",
}
FILES = sorted((ROOT / "tui").rglob("*.py"))


def imported(source: str) -> set[str]:
    """Modules of peerinfer that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return {name for name in found if name.partition(".")[0] == "peerinfer"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_nothing_below_its_floor(path: Path) -> None:
    source = path.read_text("utf-8")
    assert imported(source) <= ALLOWED
    if "import __version__" not in source:
        assert "peerinfer" not in imported(source)


def test_what_is_forbidden_would_be_found() -> None:
    assert imported("def f():\n    from peerinfer.net import link\n") == {"peerinfer.net"}
    assert imported("import peerinfer.node.home as home") == {"peerinfer.node.home"}
