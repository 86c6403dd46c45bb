"""`plan`: where a model's layers would go, how fast that would be, and why; for this mesh or for a described one."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from peerinfer.api.actions import without_options
from peerinfer.api.admin import CONTEXT_MAX, NODES_MAX, POLICIES, SLOTS_MAX
from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.models import model_argument
from peerinfer.cli.plan_words import marked
from peerinfer.cli.show import note, result, result_json
from peerinfer.cli.verbs import Verbs, add_json, add_verb, whole_number, with_daemon
from peerinfer.errors import BadRequest, NoPlacement
from peerinfer.placement.cluster_file import FILE_MAX_BYTES, parse_cluster
from peerinfer.placement.explain import explain, explain_none
from peerinfer.placement.explain_report import report
from peerinfer.placement.explain_shortage import Waiver
from peerinfer.placement.explain_text import plan_text
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.service import Planner
from peerinfer.placement.variants import without

CONTEXT_LIVE, SLOTS_LIVE = 4096, 4
"""What `load` takes where nothing is said; a described mesh says its own."""
WRONG_USAGE = 2


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    plan = add_verb(
        verbs,
        "plan",
        "show where the layers of a model would go, how fast that would be, and why",
        run_plan,
        "  peerinfer plan qwen3:4b\n"
        "  peerinfer plan qwen3:4b --without lap          what if lap were switched off\n"
        "  peerinfer plan --cluster what-if.json          for a mesh that a file describes; needs no daemon",
    )
    plan.add_argument(
        "model", metavar="MODEL", nargs="?", default="", help="as for `load`; with --cluster the file describes it"
    )
    plan.add_argument(
        "--context",
        type=whole_number(1, CONTEXT_MAX),
        metavar="N",
        help=f"tokens per request ({CONTEXT_LIVE}; with --cluster what the file says)",
    )
    plan.add_argument(
        "--slots",
        type=whole_number(1, SLOTS_MAX),
        metavar="N",
        help=f"requests answered at once ({SLOTS_LIVE}; with --cluster what the file says)",
    )
    plan.add_argument(
        "--policy", choices=POLICIES, help="what the split is best for, as for `load` (latency, or what the file says)"
    )
    plan.add_argument("--min-nodes", type=whole_number(1, NODES_MAX), metavar="N", help="split over at least N nodes")
    plan.add_argument(
        "--without", action="append", default=[], metavar="NODE", help="leave a node out; may be given several times"
    )
    plan.add_argument("--cluster", type=Path, metavar="FILE.json", help="a file that describes model, nodes and links")
    add_json(plan)


def run_plan(args: argparse.Namespace) -> int:
    """Shows a plan. Returns 1 if there is none, saying why."""
    if args.cluster is not None:
        return _show(described_plan(args), as_json=args.json)
    if not args.model:
        note("peerinfer plan: name a MODEL, or describe a mesh with --cluster FILE.json")
        return WRONG_USAGE
    wish = {
        "model": model_argument(args.model),
        "context": args.context or CONTEXT_LIVE,
        "slots": args.slots or SLOTS_LIVE,
        "policy": args.policy or "latency",
        "min_nodes": args.min_nodes or 1,
        "without": args.without,
    }

    async def act(client: ApiClient) -> int:
        return _show(await client.act("plan", wish), as_json=args.json)

    return with_daemon(args, act)


def described_plan(args: argparse.Namespace) -> JsonObject:
    """The report on the mesh that a file describes. Raises `BadRequest` with the file and the field."""
    path: Path = args.cluster
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        whole, bits = parse_cluster(raw)
    except BadRequest as error:
        raise BadRequest(f"{path.name}: {error}") from None
    whole = _as_asked(whole, args)
    problem = without(whole, args.without)
    nobody = f"Leave nobody out: no {without_options(args.without)}."
    waivers = [Waiver(nobody, whole)] if args.without else []
    try:
        plan = asyncio.run(_solve(problem))
    except NoPlacement:
        return report(explain_none(problem, place, waivers=waivers, bits=bits))
    return report(explain(problem, plan, place))


async def _solve(problem: Problem) -> Plan:
    """The plan of rule, greedy planner and solver, as a node makes it. Raises `NoPlacement`."""
    planner = Planner()
    try:
        return await planner.solve(problem)
    finally:
        await planner.stop()


def _as_asked(problem: Problem, args: argparse.Namespace) -> Problem:
    """What the options say stands before what the file says."""
    room = problem.room
    return replace(
        problem,
        room=replace(room, context=args.context or room.context, slots=args.slots or room.slots),
        policy=args.policy or problem.policy,
        min_nodes=args.min_nodes or problem.min_nodes,
    )


def _show(told: JsonObject, *, as_json: bool) -> int:
    if as_json:
        result_json(told)
    elif told["infeasible"] is None:
        result(plan_text(marked(told)))
    else:
        note(plan_text(marked(told)))
    if told["infeasible"] is None:
        return 0
    if as_json:
        note(f"peerinfer: {told['infeasible']['reason']}")
    return 1
