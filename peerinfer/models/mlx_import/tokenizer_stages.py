"""The stages of a `tokenizer.json`: normalizers, splitters and what follows, each a JSON object with a type. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

from peerinfer.errors import CorruptModel

Step = dict[str, Any]

_PARTS: Final = ("processors", "pretokenizers", "normalizers", "decoders")
"""Under which key a `Sequence` has its parts, by the kind of stage."""


def steps(stage: object) -> list[Step]:
    """The steps of a stage: of a `Sequence` its parts, else itself; none for null. Raises `CorruptModel`."""
    if stage is None:
        return []
    if isinstance(stage, dict):
        step = cast(Step, stage)
        if step.get("type") != "Sequence":
            return [step]
        parts: object = next((step[key] for key in _PARTS if key in step), None)
        if isinstance(parts, list) and all(isinstance(part, dict) for part in cast("list[object]", parts)):
            return cast("list[Step]", parts)
    raise damaged("one of its stages is not as it should be")


def settings_of(step: Step, *keys: str) -> tuple[object, ...]:
    """What the step says under these keys; None where it says nothing."""
    return tuple(step.get(key) for key in keys)


def pattern_of(step: Step, key: str = "pattern") -> str:
    """The regular expression or the text by which a step splits or replaces; empty without one."""
    match step.get(key):
        case {"Regex": str(text)} | {"String": str(text)}:
            return text
        case _:
            return ""


def damaged(what: str) -> CorruptModel:
    """The error for a tokenizer that contradicts itself."""
    return CorruptModel(f"tokenizer.json is damaged: {what}. Fetch the model again.")
