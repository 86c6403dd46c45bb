"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite-stories` and `--rewrite-pictures` write what is printed and shown now: look at the difference then."""
    parser.addoption("--rewrite-stories", action="store_true", help="write the stories' printout anew")
    parser.addoption("--rewrite-pictures", action="store_true", help="write the pictures of the terminal face anew")
