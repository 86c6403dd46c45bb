"""Why no plan is possible, in words: what is short, what to try, and who was left out for which reason."""

from __future__ import annotations

from collections.abc import Sequence

from peerinfer.placement.plan import in_list, in_words, stage_bytes
from peerinfer.placement.problem import ModelNumbers, NodeNumbers, Problem, Room


def why_not(problem: Problem) -> str:
    """The sentences for a problem that no planner could answer."""
    model, nodes, min_nodes = problem.model, problem.nodes, problem.min_nodes
    ranked = sorted(nodes, key=lambda node: (-node.memory_bytes, node.node != problem.first, node.node))
    needed = stage_bytes(model, problem.room, 0, model.layers)
    free = sum(node.memory_bytes for node in nodes)
    if not nodes:
        reason = "No node can hold a part of this model."
        advice = "Put the same model file on a node that is up."
    elif len(model.cuts()) - 1 < min_nodes:
        reason = f"This model can be cut into at most {len(model.cuts()) - 1} stages, but {min_nodes} were asked for."
        advice = "Ask for fewer with --min-nodes."
    elif len(nodes) < min_nodes:
        reason = f"{min_nodes} nodes were asked for, but only {len(nodes)} can take part."
        advice = "Ask for fewer with --min-nodes, or bring up another node that has the model file."
    elif free < needed:
        reason = f"The model needs {in_words(needed)}, but {_offer(ranked)}: {in_words(needed - free)} are short."
        advice = _smaller(model, problem.room)
    else:
        reason = f"The model needs {in_words(needed)}; {_offer(ranked)}, but no way to cut it fits them."
        advice = _smaller(model, problem.room)
    return f"{reason} {advice}{_left_out(problem)}"


def _left_out(problem: Problem) -> str:
    named = "; ".join(f"{one.name} {one.reason}" for one in problem.excluded)
    return f" Left out: {named}." if named else ""


def _offer(nodes: Sequence[NodeNumbers]) -> str:
    offers = in_list([f"{node.name} can give {in_words(node.memory_bytes)}" for node in nodes[:8]])
    return offers if len(nodes) <= 8 else f"{offers}, and {len(nodes) - 8} more nodes less"


def _smaller(model: ModelNumbers, room: Room) -> str:
    cache = in_words(model.layers * model.kv_bytes * room.context * room.slots)
    return (
        f"Try a smaller --context or fewer --slots (the KV cache for {room.slots} × {room.context} tokens takes {cache}"
        " of it), a smaller quantisation, or one more node."
    )
