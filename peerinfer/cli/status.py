"""`status`: who is here, who leads, which models run and where."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from peerinfer.api.client import ApiClient
from peerinfer.cli.show import SHORT_ID, names_of, result, result_json, size, stages_text, table
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    add_json(add_verb(verbs, "status", "show the mesh as this node sees it", run_status))


def run_status(args: argparse.Namespace) -> int:
    """Prints the state once."""

    async def act(client: ApiClient) -> int:
        state = await client.state()
        if args.json:
            result_json(state)
        else:
            result(status_text(state))
        return 0

    return with_daemon(args, act)


def status_text(state: Mapping[str, Any]) -> str:
    """The object of `status` for a person."""
    node, mesh, names = state["node"], state["mesh"], names_of(state)
    leader = mesh["leader"]
    parts = [
        f"{node['name']} ({node['id'][:SHORT_ID]}), peerinfer {node['version']}, "
        f"engines: {', '.join(node['engines']) or 'none'}\n"
        f"mesh {mesh['id'][:SHORT_ID]}, "
        + (f"led by {names.get(leader, leader[:SHORT_ID])}" if leader else "without a leader at the moment"),
        table(("NODE", "STATE", "FREE MEMORY", ""), [_member_row(member, node["id"]) for member in state["members"]]),
    ]
    if state["instances"]:
        rows = [(each["model"], each["state"], stages_text(each["stages"], names)) for each in state["instances"]]
        parts.append(table(("MODEL", "STATE", "LAYERS"), rows))
        reasons = (f"{each['model']}: {each['reason']}" for each in state["instances"] if each.get("reason"))
        parts.extend(reasons)
    else:
        parts.append("No model is loaded: `peerinfer models` lists them, `peerinfer load MODEL` loads one.")
    if state["nearby"]:
        rows = [(each["address"], "invites you: peerinfer join" if each["pairing"] else "") for each in state["nearby"]]
        parts.append(table(("NEARBY", ""), rows))
    return "\n\n".join(parts)


def _member_row(member: Mapping[str, Any], this: str) -> tuple[str, str, str, str]:
    snapshot: Mapping[str, Any] | None = member["snapshot"]
    free = "?" if snapshot is None else size(snapshot["memory_free_bytes"])
    here = "this node" if member["id"] == this else ""
    return member["name"] or member["id"][:SHORT_ID], member["state"], free, here
