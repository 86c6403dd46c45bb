"""Why a model cannot be placed, as a sentence that says what is short and what to try. Pure."""

from __future__ import annotations

from peerinfer.placement.plan import in_list, in_words, stage_bytes
from peerinfer.placement.problem import NodeNumbers, Problem

NAMED_MAX = 8
"""Nodes that a sentence names."""


def why_not(problem: Problem) -> str:
    """What keeps `problem` from having a plan, what to try, and who was left out."""
    reason, advice = reason_and_advice(problem)
    excluded = "; ".join(f"{one.name} {one.reason}" for one in problem.excluded)
    return f"{reason} {advice}" + (f" Left out: {excluded}." if excluded else "")


def reason_and_advice(problem: Problem) -> tuple[str, str]:
    """What is short, and what might help, a sentence each."""
    model, nodes, fewest = problem.model, problem.nodes, max(1, problem.min_nodes)
    needed = stage_bytes(model, problem.room, 0, model.layers)
    free = sum(usable(node) for node in nodes)
    most = len(model.cuts()) - 1
    if not nodes:
        reason = "No node can hold a part of this model."
        advice = "Put the same model file on a node that is up."
    elif most < fewest:
        reason = f"This model can be cut into at most {most} stages, but {fewest} were asked for."
        advice = "Ask for fewer with --min-nodes."
    elif len(nodes) < fewest:
        reason = f"{fewest} nodes were asked for, but only {len(nodes)} can take part."
        advice = "Ask for fewer with --min-nodes, or bring up another node that has the model file."
    elif free < needed:
        reason = f"The model needs {in_words(needed)}, but {_offer(nodes)}: {in_words(needed - free)} are short."
        advice = _smaller(problem)
    else:
        reason = f"The model needs {in_words(needed)}; {_offer(nodes)}, but no way to cut it fits them."
        advice = _smaller(problem)
    return reason, advice


def usable(node: NodeNumbers) -> int:
    """Bytes of weights and cache that a node can hold."""
    return max(0, node.memory_bytes - node.stage_bytes)


def _offer(nodes: tuple[NodeNumbers, ...]) -> str:
    roomy = sorted(nodes, key=lambda node: (-usable(node), node.node))
    offers = in_list([f"{node.name} can give {in_words(usable(node))}" for node in roomy[:NAMED_MAX]])
    return offers if len(nodes) <= NAMED_MAX else f"{offers}, and {len(nodes) - NAMED_MAX} more nodes less"


def _smaller(problem: Problem) -> str:
    model, room = problem.model, problem.room
    cache = in_words(model.layers * model.kv_bytes * room.context * room.slots)
    return (
        f"Try a smaller --context or fewer --slots (the KV cache for {room.slots} × {room.context} tokens takes {cache}"
        " of it), a smaller quantisation, or one more node."
    )
