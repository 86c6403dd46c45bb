"""How a verb is declared: a parser with help and examples, and the function that does it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from peerinfer.api.client import ApiClient
from peerinfer.config import Listen, default_home
from peerinfer.errors import ConfigInvalid

Do = Callable[[argparse.Namespace], int]
"""Does what a verb says. Returns the exit code; raises a `PeerinferError` for code 1."""

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]  # has no public name
else:
    Verbs = object


def add_verb(verbs: Verbs, name: str, does: str, run: Do, examples: str = "") -> argparse.ArgumentParser:
    """Adds a verb that acts on one home."""
    parser = verbs.add_parser(
        name,
        help=does,
        description=does[0].upper() + does[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of the node that is meant (default: $PEERINFER_HOME, else this system's place for program data)",
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse._ActionsContainer) -> None:  # pyright: ignore[reportPrivateUsage]  # a parser, or a group of one
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else there")


def home_of(args: argparse.Namespace) -> Path:
    """The home folder that is meant."""
    home: Path | None = args.home
    return (home or default_home()).expanduser().absolute()


def with_daemon(args: argparse.Namespace, act: Callable[[ApiClient], Awaitable[int]]) -> int:
    """Runs `act` with a client of the daemon on the home that is meant."""

    async def run() -> int:
        async with ApiClient(home_of(args)) as client:
            return await act(client)

    return asyncio.run(run())


def listen_address(text: str) -> Listen:
    """An address to listen on, as argparse wants to hear of a bad one."""
    try:
        return Listen.parse(text)
    except ConfigInvalid as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A number from `low` to `high`, as an argparse type."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return number
