"""`python -m peerinfer`, and the program `peerinfer`."""

from __future__ import annotations

import sys

from peerinfer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
