"""What the command of every drill does: reads common options, sees that it may run, and tells the outcome."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from drill_figures import Figures
from drill_hosts import missing, only_drill

Say = Callable[[str], None]


def options(about: str | None, repeats: str) -> argparse.ArgumentParser:
    """A parser with the options of every drill; `repeats` tells what `--repeat` counts."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, choices=range(1, 101), default=10, metavar="N", help=f"{repeats} (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, and the rest on stderr")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="leave the daemons' logs there")
    return parser


def carry_out(drill: Callable[[Say], Figures], *, as_json: bool) -> int:
    """Runs a drill if this machine can, and no other runs. Returns 0 if everything held."""
    if problem := missing():
        print(problem, file=sys.stderr)
        return 2
    out = sys.stderr if as_json else sys.stdout
    signal.signal(signal.SIGTERM, _terminated)
    with only_drill() as is_alone:
        if not is_alone:
            print("Another drill is running on this machine: wait for its end.", file=sys.stderr)
            return 2
        it = drill(lambda text: print(text, file=out, flush=True))
    if as_json:
        print(json.dumps({"figures": it.figures, "failed": it.failed}))
    print(f"{len(it.failed)} failed." if it.failed else "Everything held.", file=out)
    return 1 if it.failed else 0


def _terminated(signal_number: int, _frame: object) -> None:
    """SIGTERM ends the drill as Ctrl-C does: its network is taken away first."""
    sys.exit(128 + signal_number)
