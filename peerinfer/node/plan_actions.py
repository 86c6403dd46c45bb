"""What `plan` asks of the node: the problem of this mesh as it is, a plan for it, and the reasons."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from peerinfer.api.actions import PlanWish, without_options
from peerinfer.api.replies import JsonObject
from peerinfer.control.catalogue import find_in_mesh
from peerinfer.control.engines import engine_for
from peerinfer.control.members import Member, Members
from peerinfer.control.messages import LoadRequest
from peerinfer.control.planning import is_here, wishes_of
from peerinfer.control.problems import Standing, problem_of
from peerinfer.control.state import Instance
from peerinfer.errors import BadRequest, NoPlacement, UnknownModel
from peerinfer.gossip.snapshot import FREE_POLICY, HeldModel
from peerinfer.models.store import ModelStore
from peerinfer.node.portrait import held_model
from peerinfer.placement.explain import explain, explain_none
from peerinfer.placement.explain_report import report
from peerinfer.placement.explain_shortage import Waiver, quantisation_bits
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan, Stages
from peerinfer.placement.problem import Problem

Solve = Callable[[Problem], Awaitable[Plan]]
"""The planner with its solver. Raises `NoPlacement`."""


async def find_held(model: str, store: ModelStore, members: Members) -> HeldModel:
    """The model that is meant, of this node or another. Raises `UnknownModel` or `BadRequest`; pulls nothing."""
    try:
        entry = await store.find(model)
    except UnknownModel:
        return find_in_mesh(model, members)
    return held_model(entry.name, entry.digest, entry.size_bytes, entry.facts)


@dataclass(frozen=True, slots=True)
class Look:
    """At the mesh, for one model: what its leader would plan with."""

    model: HeldModel
    wish: PlanWish
    members: Members
    instances: Sequence[Instance]
    first: str
    """The node that asks."""

    def check(self) -> None:
        """Raises `BadRequest` for a node in `without` that is not there, `NoPlacement` if weights are missing."""
        known = {name for member in self.members for name in (member.node, member.name)}
        for name in self.wish.without:
            if name not in known:
                there = ", ".join(sorted(member.name for member in self.members))
                raise BadRequest(f"There is no node {name} to leave out. Nodes: {there}.")
        if not is_here(self.model, self.members):
            raise NoPlacement(
                f"The nodes that are up do not have all of {self.model.name} together. "
                "Switch on the node that has it, or pull it again."
            )

    def problem(self, *, is_lenient: bool) -> Problem:
        """As the leader would see it; who obeys whom at the moment is its own business.

        What runs of the same model counts as gone: a load would take its place. Raises `BadRequest`.
        """
        model, wish = self.model, self.wish
        asked = (wish.context, wish.slots, wish.policy, wish.min_nodes)
        standing = Standing(
            [one for one in self.instances if one.digest != model.digest],
            [one for one in self.instances if one.digest == model.digest],
        )
        return problem_of(
            model,
            wishes_of(LoadRequest("", model.name, model.digest, *asked), model),
            self.members,
            standing,
            obeying={member.node for member in self.members},
            first=self.first,
            without=wish.without,
            is_lenient=is_lenient,
        )

    def waivers(self) -> list[Waiver]:
        """What owners, or whoever asked, could take back."""
        found: list[Waiver] = []
        for member in self.members:
            text = _what_limits(member)
            if text:
                freed = tuple(_freed(each) if each is member else each for each in self.members)
                found.append(Waiver(text, replace(self, members=freed).problem(is_lenient=True)))
        if self.wish.without:
            whole = replace(self, wish=replace(self.wish, without=()))
            text = f"Leave nobody out: no {without_options(self.wish.without)}."
            found.append(Waiver(text, whole.problem(is_lenient=True)))
        return found

    def engines(self) -> dict[str, str]:
        """The engine that runs layers on each node, by its id."""
        told = {one.node: engine_for(one.snapshot, self.model) for one in self.members if one.snapshot}
        return {node: engine for node, engine in told.items() if engine}


async def plan_report(look: Look, solve: Solve) -> JsonObject:
    """The object of `plan --json` for this mesh as it is. Raises as `Look.check`."""
    look.check()
    for is_lenient in (False, True):  # as the leader does: who is busy is asked only if it must be
        problem = look.problem(is_lenient=is_lenient)
        with contextlib.suppress(NoPlacement):
            plan = await solve(problem)
            told = report(await asyncio.to_thread(explain, problem, plan, place), look.engines())
            return {**told, "guessed": _guessed(problem, plan.stages)}
    bits = quantisation_bits(look.model.quantisation)
    problem = look.problem(is_lenient=True)
    none = await asyncio.to_thread(explain_none, problem, place, waivers=look.waivers(), bits=bits)
    return {**report(none, look.engines()), "guessed": _guessed(problem, ())}


def _guessed(problem: Problem, stages: Stages) -> list[JsonObject]:
    """The nodes whose speed was not measured: what is predicted of them is a guess by their devices.

    A node that holds a stage is judged by the devices that compute it, another by the first that has room for a layer.
    """
    least = problem.model.layer_bytes
    used = {one.node: (one.last_layer - one.first_layer, one.accelerated) for one in stages}
    return [
        {"node": node.node, "name": node.name}
        for node in problem.nodes
        if node.is_guessed(*used.get(node.node, (1, int(node.devices[0].memory_bytes >= least))))
    ]


def _what_limits(member: Member) -> str:
    """What its owner could take back, with the commands for it; empty if he set nothing that is in the way."""
    told = member.snapshot
    if told is None:
        return ""
    policy, commands = told.policy, list[str]()
    commands += ["exclude no"] if policy.exclude else []
    commands += ["never-on-battery no"] if policy.never_on_battery and told.on_battery else []
    how = "take part: its owner keeps it out" if commands else "give more: its owner limits it"
    commands += ["keep-light no"] if policy.keep_light else []
    commands += ["memory-limit none"] if policy.memory_limit_bytes else []
    typed = " and ".join(f"`peerinfer config {command}`" for command in commands)
    return f"Let {member.name} {how}; {typed} there." if commands else ""


def _freed(member: Member) -> Member:
    return member if member.snapshot is None else replace(member, snapshot=replace(member.snapshot, policy=FREE_POLICY))
