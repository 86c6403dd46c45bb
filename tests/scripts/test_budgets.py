"""Budgets: what is measured, and that a file over budget is found."""

from __future__ import annotations

import ast
from pathlib import Path

import budgets
import pytest


def depth(source: str) -> int:
    return budgets.nesting(ast.parse(source).body[0])


def problems(source: str) -> list[str]:
    return [excess.what for excess in budgets.excesses(Path("some.py"), source)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 0),
        ("if a: pass", 1),
        ("if a: pass\n  elif b: pass\n  elif c: pass\n  else: pass", 1),
        ("if a: pass\n  elif b:\n   for x in y: pass", 2),
        ("if a: pass\n  else:\n   if b: pass", 2),
        ("try: pass\n  except OSError:\n   if a: pass\n  finally: pass", 2),
        ("match a:\n   case 1:\n    if b: pass", 2),
        ("with a:\n   while b:\n    for c in d:\n     if e: pass", 4),
        ("if a:\n   def g():\n    if b: pass", 1),
    ],
)
def test_nesting_counts_blocks_inside_one_another(body: str, expected: int) -> None:
    assert depth(f"def f():\n  {body}\n") == expected


def test_async_blocks_count_as_their_plain_kin() -> None:
    assert depth("async def f():\n  async with a:\n    async for b in c: pass\n") == 2


def test_a_function_may_fill_its_budget_but_not_pass_it() -> None:
    fits = "@decorated\ndef f():\n" + "    x = 1\n" * (budgets.FUNCTION_LINES - 1)
    assert problems(fits) == []
    assert problems(fits + "    x = 1\n") == ["f has 61 lines (at most 60)"]


def test_a_file_may_fill_its_budget_but_not_pass_it() -> None:
    assert problems("x = 1\n" * budgets.FILE_LINES) == []
    assert problems("x = 1\n" * (budgets.FILE_LINES + 1)) == ["the file has 351 lines (at most 350)"]


def test_a_method_is_measured_and_named_with_its_line() -> None:
    source = "class A:\n  def deep(self):\n    if a:\n      if b:\n        if c:\n          if d: pass\n"
    assert [str(excess) for excess in budgets.excesses(Path("some.py"), source)] == [
        "some.py:2: deep nests 4 blocks (at most 3)"
    ]


def test_the_status_tells_whether_all_budgets_hold(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text("x = 1\n")
    assert budgets.main([str(tmp_path)]) == 0
    (tmp_path / "long.py").write_text("x = 1\n" * 400)
    assert budgets.main([str(tmp_path)]) == 1


def test_a_mistyped_folder_is_not_taken_for_a_clean_one(tmp_path: Path) -> None:
    assert budgets.main([str(tmp_path / "absent")]) == 1
