"""Byte-level BPE, as Llama 3, SmolLM and Qwen have it: which of llama.cpp's ways to split a text is theirs. Pure.

llama.cpp knows these by a name (`tokenizer.ggml.pre`), with the regular expressions in its own code
(`llm_tokenizer_bpe` in `src/llama-vocab.cpp`); a tokenizer is taken for one of them only if its stages are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from peerinfer.models.architecture_rules import Entry
from peerinfer.models.mlx_import.config import Settings, quoted, unsupported
from peerinfer.models.mlx_import.hyperparameters import entry_of
from peerinfer.models.mlx_import.tokenizer_stages import Step, pattern_of, settings_of, steps

_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BY_PATTERN: Final[Mapping[str, str]] = {
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"\p{N}" + _REST: "qwen2",
}
"""llama.cpp's name for what splits by a regular expression."""
_WHOLE_WORDS: Final = ("llama-bpe",)
"""Where llama.cpp takes a word that is a token as it is, without its merges."""


def byte_level_keys(
    tokenizer: Settings,
    model: Settings,
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    added: frozenset[str],  # noqa: ARG001  # the shape of `piece_keys`
) -> dict[str, Entry]:
    """The keys that make llama.cpp tokenise as this tokenizer does. Raises `UnsupportedModel`."""
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        model.only(key, "")
    pre = _pre(steps(tokenizer.raw("pre_tokenizer")))
    normalizers = [step.get("type") for step in steps(tokenizer.raw("normalizer"))]
    # llama.cpp brings no text into a normal form. What people type and what models write is in NFC with few exceptions.
    if normalizers not in ([], ["NFC"]):
        raise unsupported(f"its tokenizer changes texts by {quoted(normalizers)}")
    if model.flag("ignore_merges", False) and pre not in _WHOLE_WORDS:
        raise unsupported("its tokenizer ignores its merges, which llama.cpp does otherwise for this kind")
    if not merges:
        raise unsupported("its tokenizer has no merges")
    for left, right in merges:
        if left + right not in ids:
            raise unsupported(f"its tokenizer merges {quoted(left)} and {quoted(right)} to what is no token")
    return {
        "tokenizer.ggml.model": entry_of("gpt2"),
        "tokenizer.ggml.pre": entry_of(pre),
        "tokenizer.ggml.merges": entry_of([f"{left} {right}".encode() for left, right in merges]),
    }


def _pre(stages: Sequence[Step]) -> str:
    """llama.cpp's name for this way to split a text into words."""
    types = [stage.get("type") for stage in stages]
    if not types or types[-1] != "ByteLevel":
        raise unsupported(f"its tokenizer splits texts by {quoted(types)}")
    prefix, regex = settings_of(stages[-1], "add_prefix_space", "use_regex")
    if prefix not in (None, False):
        raise unsupported("its tokenizer puts a blank before texts")
    if types == ["ByteLevel"] and regex is not False:
        return "gpt-2"
    if types == ["Digits", "ByteLevel"] and stages[0].get("individual_digits") is True and regex is not False:
        return "smollm"
    if types == ["Split", "ByteLevel"] and regex is False:
        kind, inverted = settings_of(stages[0], "behavior", "invert")
        name = _BY_PATTERN.get(pattern_of(stages[0]))
        if name and kind == "Isolated" and inverted in (None, False):
            return name
    raise unsupported("its tokenizer splits texts into words in a way that is not known here")
