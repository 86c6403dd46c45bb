"""Pieces of SentencePiece, as Llama 2, Mistral, Phi 3 and Gemma have them, told by `tokenizer.json` as BPE. Pure.

llama.cpp joins the two neighbours whose sum is the token with the highest score (`llm_tokenizer_spm` in its
`src/llama-vocab.cpp`); the library `tokenizers` joins by the rank of a merge. Both do the same if every way to split a
token into two tokens is a merge, and all merges to one token follow each other: then its score is minus its rank. That
is how such files are made from SentencePiece's own; it is checked, and anything else is refused. Added tokens are found
in a text before anything is joined, so for them the order of merges does not matter; but those with blanks in them
(Gemma's runs) are found so by llama.cpp only, which is the same where their merges are the first of all, and no other
token has one in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from peerinfer.models.architecture_rules import Entry
from peerinfer.models.gguf import ValueType
from peerinfer.models.mlx_import.config import Settings, quoted, unsupported
from peerinfer.models.mlx_import.hyperparameters import entry_of
from peerinfer.models.mlx_import.tokenizer_stages import Step, pattern_of, settings_of, steps

WORD_MARK: Final = "▁"
"""Stands for a blank."""
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
_BYTES: Final = 256
RUNS_MAX: Final = 64
"""Added tokens with blanks in them; Gemma has 30."""


def is_byte(text: str) -> bool:
    """Whether a token stands for one byte of a character that is no token."""
    return _BYTE.fullmatch(text) is not None


def piece_keys(
    tokenizer: Settings,
    model: Settings,
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    added: frozenset[str],
) -> dict[str, Entry]:
    """The keys that make llama.cpp tokenise as this tokenizer does; scores by text. Raises `UnsupportedModel`."""
    model.only("ignore_merges", False)
    if sum(is_byte(text) for text in ids) != _BYTES:
        raise unsupported("its tokenizer does not have a token for every byte")
    prefixed = _has_prefix(tokenizer, ids)
    scores = _scores(ids, merges, added)
    return {
        "tokenizer.ggml.model": entry_of("llama"),
        "tokenizer.ggml.pre": entry_of("default"),
        "tokenizer.ggml.add_space_prefix": entry_of(prefixed),
        "tokenizer.ggml.scores": (scores, ValueType.ARRAY, ValueType.FLOAT32),
    }


def _has_prefix(tokenizer: Settings, ids: Mapping[str, int]) -> bool:
    """Whether a blank is put before a text; blanks become `▁` in any case. Raises `UnsupportedModel`."""
    has_prefix = is_marked = False
    for step in steps(tokenizer.raw("normalizer")):
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == WORD_MARK:
            has_prefix = True
        elif kind == "Replace" and pattern_of(step) == " " and step.get("content") == WORD_MARK:
            is_marked = True
        else:
            raise unsupported(f"its tokenizer changes texts by {quoted(kind)}")
    for step in steps(tokenizer.raw("pre_tokenizer")):
        if step.get("type") == "Metaspace":
            has_prefix |= _metaspace_prefix(step, ids)
            is_marked = True
        elif not (is_marked and _splits_nothing(step)):
            raise unsupported(f"its tokenizer splits texts by {quoted(step.get('type'))}")
    if not is_marked:
        raise unsupported(f"its tokenizer does not write {WORD_MARK} for blanks")
    return has_prefix


def _splits_nothing(step: Step) -> bool:
    """Gemma's splits at blanks, of which none is left."""
    return step.get("type") == "Split" and pattern_of(step) == " "


def _metaspace_prefix(step: Step, ids: Mapping[str, int]) -> bool:
    replacement, scheme, prefix, split = settings_of(step, "replacement", "prepend_scheme", "add_prefix_space", "split")
    if replacement not in (None, WORD_MARK) or scheme == "first":
        # llama.cpp puts a blank behind every special token, too.
        raise unsupported("its tokenizer puts a blank before the first word only")
    if split is not False and any(WORD_MARK in text[1:] for text in ids):
        raise unsupported("its tokenizer splits texts at blanks, and has tokens with blanks in them")
    return scheme == "always" or (scheme is None and prefix is not False)


def _scores(ids: Mapping[str, int], merges: Sequence[tuple[str, str]], added: frozenset[str]) -> dict[str, float]:
    """Minus the rank of each token among those that merges make; what is made by none has the lowest."""
    ranks: dict[str, int] = {}
    last, has_begun = "", False
    known: set[tuple[str, str]] = set()
    for left, right in merges:
        token = left + right
        if token not in ids or left not in ids or right not in ids:
            raise unsupported(f"its tokenizer merges {quoted(left)} and {quoted(right)}, which are not all tokens")
        known.add((left, right))
        rank = ranks.setdefault(token, len(ranks))
        if token in added:
            if has_begun and WORD_MARK in token:
                raise unsupported(f"its tokenizer merges {quoted(token)} too late for llama.cpp, which finds it first")
            continue
        if token != last and rank != len(ranks) - 1:
            raise unsupported(f"its merges to {quoted(token)} do not follow each other, so scores cannot say them")
        last, has_begun = token, True
    _check_splits(ids, known, added)
    lowest = len(ranks)
    return {token: -float(ranks.get(token, lowest)) for token in ids}


def _check_splits(ids: Mapping[str, int], known: set[tuple[str, str]], added: frozenset[str]) -> None:
    """Raises `UnsupportedModel` if llama.cpp would join, or find first, what this tokenizer does not."""
    runs = [text for text in added if text in ids and WORD_MARK in text]
    if len(runs) > RUNS_MAX:
        raise unsupported(f"its tokenizer has {len(runs)} added tokens with blanks in them")
    runs = [run for run in runs if not any(other != run and other in run for other in runs)]
    for token in ids:
        if token in added or is_byte(token):
            continue
        if any(run in token for run in runs):
            raise unsupported(f"its tokenizer has the token {quoted(token)}, in which llama.cpp finds an added one")
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in ids and right in ids and (left, right) not in known:
                raise unsupported(f"its tokenizer never merges {quoted(left)} and {quoted(right)}, as llama.cpp would")
