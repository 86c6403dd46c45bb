"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite-stories` writes what the stories print now into `tests/scenarios/`: look at the difference then."""
    parser.addoption("--rewrite-stories", action="store_true", help="write the stories' printout anew")
