"""`python -m tui`: the terminal face over the node of one home; `peerinfer up` and `peerinfer tui` start it so."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tui.app import PeerinferApp


def main() -> int:
    """Runs until a person leaves. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="peerinfer tui", description="The terminal face of peerinfer.")
    parser.add_argument("--home", type=Path, required=True, help="folder of the node that is meant")
    parser.add_argument(
        "options", nargs="*", help="behind --: what `peerinfer up` is given if the node must be started"
    )
    asked = parser.parse_args()
    home: Path = asked.home
    app = PeerinferApp(home.expanduser().absolute(), tuple(asked.options))
    app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
