"""Reads the command line, runs the verb, and turns what went wrong into one sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from peerinfer import __version__
from peerinfer.cli import bench, chat, config, demo, doctor, face, imports, mesh, models, node, plan, pull, status
from peerinfer.cli.show import ENDED_WITH, note
from peerinfer.errors import PeerinferError

DONE, FAILED = 0, 1
_DESCRIPTION = """\
One private inference machine out of the laptops and desktops of a home or office:
each holds a part of a model's layers, and any of them answers.
"""
_FIRST_STEPS = """\
first steps:
  peerinfer demo                    see three nodes on this machine answer together
  peerinfer up                      run this machine's node in the background, and look at it
  peerinfer invite                  show six digits for another machine to join with
  peerinfer join 482-913            join, on the other machine (it also runs `up`)
  peerinfer pull MODEL              bring a model here (peerinfer models --catalogue lists some)
  peerinfer load MODEL              split a model over the machines
  peerinfer chat MODEL              talk to it

`peerinfer VERB --help` explains a verb. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="peerinfer",
        description=_DESCRIPTION,
        epilog=_FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"peerinfer {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for group in (demo, node, face, status, doctor, mesh, models, pull, imports, plan, chat, config, bench):
        group.add(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `peerinfer ARGUMENTS`. Returns the exit code; argparse itself exits for `--help` (0) and bad usage (2)."""
    for stream in (sys.stdout, sys.stderr):
        _tolerate(stream)
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except PeerinferError as error:
        note(f"{ENDED_WITH}{error}")
        return FAILED
    except KeyboardInterrupt:
        note("Stopped.")
        return FAILED
    except BrokenPipeError:
        # The reader of our output has gone (`peerinfer status | head`): nothing is left to say, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _tolerate(stream: TextIO) -> None:
    """Text that the terminal's encoding lacks (an old Windows console) is shown as `?` and is no error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
