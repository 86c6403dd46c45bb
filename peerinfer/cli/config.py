"""`config`: what the owner of this machine allows, shown and set, whether its node runs or not."""

from __future__ import annotations

import argparse

from peerinfer.api.actions import TROUBLES
from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.show import note, result, result_json, table
from peerinfer.cli.verbs import Verbs, add_json, add_verb, home_of, with_daemon
from peerinfer.errors import BadRequest, DaemonAbsent


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    config = add_verb(
        verbs,
        "config",
        "show or set what this machine allows the mesh",
        run_config,
        "  peerinfer config                          all settings, and what they mean\n"
        "  peerinfer config memory-limit 8GB\n"
        "  peerinfer config never-on-battery yes",
    )
    config.add_argument("key", metavar="KEY", nargs="?", default="", help="a setting, as `peerinfer config` lists them")
    config.add_argument(
        "value", metavar="VALUE", nargs="?", default=None, help="what it shall be; without it, it is shown"
    )
    add_json(config)


def run_config(args: argparse.Namespace) -> int:
    """Shows or sets a setting. The node that runs on this home does it, else this process does."""

    async def act(client: ApiClient) -> int:
        return _show(args, await client.act("config", {"key": args.key, "value": args.value}))

    try:
        return with_daemon(args, act)
    except DaemonAbsent:
        return _show(args, _offline(args))


def _offline(args: argparse.Namespace) -> JsonObject:
    """No node runs: the file itself is read, or written under the lock of the home, so that none starts meanwhile."""
    from peerinfer.node.home import Home
    from peerinfer.node.policy import PolicyDesk

    home = home_of(args)
    if args.value is None:
        return PolicyDesk(home).current.shown()
    with Home.open(home):
        return PolicyDesk(home).set(args.key, args.value).shown()


def _show(args: argparse.Namespace, settings: JsonObject) -> int:
    from peerinfer.node.policy import KEYS, MEANINGS, shown_text

    troubles: list[str] = settings.get(TROUBLES, [])
    settings = {key: value for key, value in settings.items() if key != TROUBLES}
    if args.key and args.key not in KEYS:
        raise BadRequest(f"There is no setting {args.key}. Settings: {', '.join(KEYS)}.")
    if args.json:
        result_json({args.key: settings[args.key]} if args.key else settings)
    elif args.key:
        result(shown_text(args.key, settings))
    else:
        result(table(("SETTING", "VALUE", ""), [(key, shown_text(key, settings), MEANINGS[key]) for key in KEYS]))
    for sentence in troubles if args.key == "engines" else ():
        note(sentence)
    return 0
