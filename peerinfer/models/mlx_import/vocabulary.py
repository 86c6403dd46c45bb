"""From `tokenizer.json` to the tokenizer of a GGUF header: tokens, their types, special ones, the chat template. Pure.

Sources: the format of the Hugging Face library `tokenizers`; llama.cpp `src/llama-vocab.cpp` for what each key means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from gguf.constants import TokenType

from peerinfer.models.architecture_rules import Entry
from peerinfer.models.gguf_cursor import STRINGS_MAX_ITEMS
from peerinfer.models.mlx_import.byte_level import byte_level_keys
from peerinfer.models.mlx_import.config import Settings, quoted, unsupported
from peerinfer.models.mlx_import.hyperparameters import entry_of
from peerinfer.models.mlx_import.pieces import WORD_MARK, is_byte, piece_keys
from peerinfer.models.mlx_import.tokenizer_stages import damaged, steps

_NEVER_STRIPPED: Final = ("<unk>", "<s>", "<|endoftext|>")
TOKEN_MAX_CHARS: Final = 512
"""Of one token; the longest in use are runs of some hundred blanks."""
MERGES_MAX: Final = STRINGS_MAX_ITEMS
"""The largest real tokenizers have 2^19."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found in a text before anything else is."""

    text: str
    is_special: bool
    strips: str
    """Sides on which it swallows blanks: `l`, `r`, both or neither."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model as `tokenizer.json` tells them."""

    ids: Mapping[str, int]
    """Of the tokens of the model itself, by their text."""
    merges: Sequence[tuple[str, str]]
    """What becomes one, the first first."""
    added: Mapping[int, AddedToken]


def tokenizer_keys(
    tokenizer: Settings, settings: Settings, chat_template: str, eos_ids: Sequence[int], count: int
) -> dict[str, Entry]:
    """The keys `tokenizer.*`, for `count` tokens. `eos_ids`: what the model's own configuration ends an answer with.

    Raises `UnsupportedModel` for a tokenizer that llama.cpp does not have alike, `CorruptModel` for contradictions.
    """
    model = tokenizer.section("model")
    if model is None or model.text("type", "BPE") != "BPE":
        raise unsupported("its tokenizer is not of the kind BPE")
    vocabulary = _vocabulary(tokenizer, model)
    is_byte_level = not model.flag("byte_fallback", False)
    read = byte_level_keys if is_byte_level else piece_keys
    keys = read(tokenizer, model, vocabulary.ids, vocabulary.merges, frozenset(_texts(vocabulary.added)))
    unknown = model.raw("unk_token")
    texts, types = _tokens(vocabulary, count, unknown, is_byte_level=is_byte_level)
    if "tokenizer.ggml.scores" in keys:
        scores = cast("Mapping[str, float]", keys["tokenizer.ggml.scores"][0])
        keys["tokenizer.ggml.scores"] = entry_of([float(scores.get(text, 0.0)) for text in texts])
    keys |= {"tokenizer.ggml.tokens": entry_of([text.encode() for text in texts])}
    keys |= {"tokenizer.ggml.token_type": entry_of([int(kind) for kind in types])}
    keys |= _special_keys(settings, eos_ids, {text: number for number, text in enumerate(texts)}, unknown)
    keys |= _ends(tokenizer, settings, keys)
    if chat_template:
        keys["tokenizer.chat_template"] = entry_of(chat_template)
    return keys


def _vocabulary(tokenizer: Settings, model: Settings) -> Vocabulary:
    stored = model.raw("vocab")
    if not isinstance(stored, dict):
        raise damaged("it has no vocabulary")
    ids = cast("dict[str, Any]", stored)
    merges = [_merge(each) for each in model.items("merges")]
    added = _added(tokenizer)
    for text, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0 or len(text) > TOKEN_MAX_CHARS:
            raise damaged(f"its token {quoted(text)} has no id, or is too long")
    if len(merges) > MERGES_MAX:
        raise damaged(f"it has {len(merges)} merges, over the limit of {MERGES_MAX}")
    return Vocabulary(ids, merges, added)


def _added(tokenizer: Settings) -> dict[int, AddedToken]:
    """Its added tokens, by id. Raises `CorruptModel`, `UnsupportedModel`."""
    added: dict[int, AddedToken] = {}
    for each in tokenizer.items("added_tokens"):
        match each:
            case {"id": int(number), "content": str(text)} if number >= 0 and 0 < len(text) <= TOKEN_MAX_CHARS:
                entry = Settings(tokenizer.name, cast("dict[str, Any]", each))
                entry.only("single_word", False)
                strips = "".join(side for side in "lr" if entry.flag(f"{side}strip", False))
                added[number] = AddedToken(text, entry.flag("special", False), strips)
            case _:
                raise damaged("one of its added tokens has no id, no text, or a very long one")
    return added


def _merge(entry: object) -> tuple[str, str]:
    """Older files have the two sides in one text, newer ones in a list."""
    match entry.split(" ") if isinstance(entry, str) else entry:
        case [str(left), str(right)] if left and right:
            return left, right
        case _:
            raise damaged("one of its merges does not have two sides")


def _tokens(
    vocabulary: Vocabulary, count: int, unknown: object, *, is_byte_level: bool
) -> tuple[list[str], list[TokenType]]:
    """Text and type of each of `count` tokens; ids that nothing has are filled up."""
    texts, types = [f"[PAD{number}]" for number in range(count)], [TokenType.UNUSED] * count
    for text, number in vocabulary.ids.items():
        if number >= count:
            raise damaged(f"it has a token with the id {number}, and the model has {count} tokens")
        if types[number] is not TokenType.UNUSED:
            raise damaged(f"two of its tokens have the id {number}")
        texts[number], types[number] = text, TokenType.NORMAL
        if not is_byte_level and is_byte(text):
            types[number] = TokenType.BYTE
        elif not is_byte_level and text == unknown:
            types[number] = TokenType.UNKNOWN
    for number, token in vocabulary.added.items():
        if number >= count or types[number] is TokenType.UNKNOWN:
            continue  # Gemma 3's text models have the tokenizer of those that see: a token more than rows
        # As llama.cpp's converter has it: what is written like a control token is one, whatever the file says of it.
        is_control = token.is_special or (token.text.startswith("<|") and token.text.endswith("|>"))
        types[number] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
        texts[number] = token.text if is_control or is_byte_level else token.text.replace(WORD_MARK, " ")
    if len(set(texts)) < count:
        raise damaged("two of its tokens have the same text")
    return texts, types


def strips_blanks(tokenizer: Settings) -> bool:
    """Whether its added tokens swallow the blanks behind them, as those of Phi 3 do.

    llama.cpp knows this of a model whose name has `phi-3` in it, for all such tokens but three (`src/llama-vocab.cpp`).
    Raises `UnsupportedModel` for any other choice of tokens, `CorruptModel`.
    """
    added = _added(tokenizer).values()
    strips = [token for token in added if token.strips]
    for token in added if strips else ():
        if token.strips != ("" if token.text in _NEVER_STRIPPED else "r"):
            raise unsupported(
                f"its tokens swallow blanks beside them in an order that is not Phi 3's: {quoted(token.text)}"
            )
    return bool(strips)


def _special_keys(
    settings: Settings, eos_ids: Sequence[int], ids: Mapping[str, int], unknown: object
) -> dict[str, Entry]:
    """The ids of the tokens with a meaning of their own."""
    found: dict[str, int] = {}
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")):
        value = settings.raw(name)
        text: object = cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text in ids:
            found[key] = ids[text]
    if isinstance(unknown, str) and unknown in ids:
        found["unknown"] = ids[unknown]
    ends = [number for number in eos_ids if number < len(ids)]
    if ends:
        found.setdefault("eos", ends[0])
        others = [number for number in ends if number != found["eos"]]
        if others:
            found["eot"] = others[0]
    if "eos" not in found:
        raise unsupported("it does not say which token ends an answer")
    return {f"tokenizer.ggml.{key}_token_id": entry_of(number) for key, number in found.items()}


def _ends(tokenizer: Settings, settings: Settings, keys: Mapping[str, Entry]) -> dict[str, Entry]:
    """Which tokens are put before and behind a text."""
    before: bool | None = None
    after = False
    for step in steps(tokenizer.raw("post_processor")):
        if step.get("type") == "TemplateProcessing":
            single = [next(iter(item), "") for item in cast("list[dict[str, Any]]", step.get("single") or [])]
            before, after = single[:1] == ["SpecialToken"], single[-1:] == ["SpecialToken"]
    if before is None:
        before = settings.flag("add_bos_token", False)
    if before and "tokenizer.ggml.bos_token_id" not in keys:
        raise unsupported("it does not say which token begins a text")
    return {"tokenizer.ggml.add_bos_token": entry_of(before), "tokenizer.ggml.add_eos_token": entry_of(after)}


def _texts(added: Mapping[int, AddedToken]) -> list[str]:
    return [token.text for token in added.values()]
