"""Holds the budgets: a file has at most 350 lines, a function 60, and a function nests at most 3 blocks deep."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE_LINES = 350
"""A file that a reader can keep in the head in one sitting."""

FUNCTION_LINES = 60
"""A function that fits one screen, signature and docstring included, decorators not."""

NESTING = 3
"""Blocks inside one another within a function; `elif`, `except` and `case` stand beside, not inside."""

BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True, order=True)
class Excess:
    """One budget that is not held."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def excesses(path: Path, source: str) -> list[Excess]:
    """Every budget that the file `path` with the text `source` does not hold, in order of lines."""
    found: list[Excess] = []
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        found.append(Excess(path, 1, f"the file has {lines} lines (at most {FILE_LINES})"))
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, FUNCTIONS):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(Excess(path, node.lineno, f"{node.name} has {length} lines (at most {FUNCTION_LINES})"))
            if (depth := nesting(node)) > NESTING:
                found.append(Excess(path, node.lineno, f"{node.name} nests {depth} blocks (at most {NESTING})"))
    return sorted(found)


def nesting(node: ast.AST) -> int:
    """How many blocks stand inside one another below `node`; a function or class inside counts for itself."""
    return max((_depth(child) for child in ast.iter_child_nodes(node)), default=0)


def _depth(node: ast.AST) -> int:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return 0
    if not isinstance(node, BLOCKS):
        return nesting(node)
    if isinstance(node, ast.If) and _is_elif(node):
        chained = node.orelse[0]
        return max(1 + max((_depth(child) for child in node.body), default=0), _depth(chained))
    return 1 + nesting(node)


def _is_elif(node: ast.If) -> bool:
    """Whether what follows `node` is `elif` and not `else:` with an `if` inside, which stands further right."""
    return len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) and node.orelse[0].col_offset == node.col_offset


def python_files(roots: Sequence[str]) -> Iterator[Path]:
    """All Python files below `roots`, in order."""
    for root in roots:
        yield from sorted(Path(root).rglob("*.py"))


def main(roots: Sequence[str]) -> int:
    """Prints every excess below `roots`; returns the exit status."""
    files = list(python_files(roots))
    found = [excess for path in files for excess in excesses(path, path.read_text(encoding="utf-8"))]
    for excess in found:
        print(excess)
    print(f"budgets: {len(files)} files, {len(found)} over budget")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
