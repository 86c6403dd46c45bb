"""Tokenizers of imported models: llama.cpp gives the ids that the library `tokenizers` gives for the same file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from gguf import TokenType

from peerinfer.errors import ModelError
from peerinfer.models.architecture_rules import Entry
from peerinfer.models.layout_writer import header_bytes
from peerinfer.models.mlx_import.config import Settings
from peerinfer.models.mlx_import.vocabulary import strips_blanks, tokenizer_keys
from peerinfer.models.shard_writer import ShardPlan
from tests.bundled import bundled_model
from tests.models.mlx_bundled import bundled_tokenizer
from tests.models.mlx_folders import LLAMA_SPLIT, tokenizer_json
from tests.models.mlx_tokenizers import pieces_json

Json = dict[str, Any]
TEXTS = (
    "Hello world",
    "12345 apples, 3.14!",
    "  two  spaces\n\n\ttab",
    "naïve café 日本語 🦙🦙 👩‍👩‍👧",
    "I'll don't WE'VE x",
    "def f(x):\r\n    return x**2 # 100%",
    "a" * 50 + " " * 20 + "!!!???",
)
BPE_SPECIALS = ("<|im_start|>", "<|im_end|>")
SETTINGS = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
PIECE_SETTINGS = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}


def keys_of(tokenizer: Json, settings: Mapping[str, Any] = SETTINGS, count: int = 0) -> dict[str, Entry]:
    """The keys of a tokenizer."""
    count = count or len(tokenizer["model"]["vocab"])
    told = Settings("tokenizer_config.json", settings)
    return tokenizer_keys(Settings("tokenizer.json", tokenizer), told, "", [], count)


def native(tokenizer: Json, folder: Path, settings: Mapping[str, Any] = SETTINGS) -> llama_cpp.Llama:
    """llama.cpp with the vocabulary of an imported model."""
    plan = ShardPlan("llama", keys_of(tokenizer, settings), ())
    path = folder / "vocabulary.gguf"
    path.write_bytes(header_bytes(plan))
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)


def with_split(pattern: str, *, ignore_merges: bool) -> Json:
    """The bundled vocabulary, its texts split by another pattern."""
    tokenizer = bundled_tokenizer()
    stages = tokenizer_json(pattern=pattern)
    tokenizer["pre_tokenizer"] = stages["pre_tokenizer"]
    tokenizer["post_processor"] = stages["post_processor"]
    tokenizer["model"]["ignore_merges"] = ignore_merges
    return tokenizer


BYTE_LEVEL: dict[str, Callable[[], Json]] = {
    "smollm": bundled_tokenizer,
    "llama-bpe": lambda: with_split(LLAMA_SPLIT, ignore_merges=True),
    "qwen2": lambda: with_split(LLAMA_SPLIT.replace("{1,3}", ""), ignore_merges=False),
    "gpt-2": lambda: bundled_tokenizer() | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}},
}


@pytest.mark.parametrize("pre", BYTE_LEVEL)
def test_byte_level_ids_are_those_of_tokenizers(pre: str, tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    tokenizer = BYTE_LEVEL[pre]()
    assert keys_of(tokenizer)["tokenizer.ggml.pre"][0] == pre
    tokenizer["pre_tokenizer"] = _complete(tokenizer["pre_tokenizer"])
    reference, ours = (
        library.Tokenizer.from_str(json.dumps(tokenizer | {"version": "1.0"})),
        native(tokenizer, tmp_path),
    )
    for text in (*TEXTS, f"{BPE_SPECIALS[0]}user\nhi{BPE_SPECIALS[1]} "):
        expected = reference.encode(text, add_special_tokens=False).ids
        assert ours.tokenize(text.encode(), add_bos=False, special=True) == expected, text


def _complete(stage: Json) -> Json:
    """The library wants every field."""
    return {"trim_offsets": True, "use_regex": True, **stage} if stage["type"] == "ByteLevel" else stage


def test_the_bundled_vocabulary_comes_back_as_it_was(tmp_path: Path) -> None:
    original = llama_cpp.Llama(str(bundled_model()), vocab_only=True, verbose=False)
    ours = native(bundled_tokenizer(), tmp_path)
    for text in TEXTS:
        assert ours.tokenize(text.encode(), special=True) == original.tokenize(text.encode(), special=True)
    assert (ours.token_bos(), ours.token_eos()) == (original.token_bos(), original.token_eos())


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_piece_ids_are_those_of_tokenizers(prefix: bool, seed: int, tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    tokenizer = pieces_json(seed, prefix=prefix)
    reference, ours = library.Tokenizer.from_str(json.dumps(tokenizer)), native(tokenizer, tmp_path, PIECE_SETTINGS)
    chance = random.Random(seed)
    for _ in range(300):
        text = "".join(chance.choice("abcdehlorstw01.!é   🦙日\n") for _ in range(chance.randint(1, 40)))
        text += "</s>" + text[:3] if chance.random() < 0.2 else ""
        assert ours.tokenize(text.encode(), add_bos=True, special=True) == reference.encode(text).ids, text


def test_types_and_padding_of_tokens() -> None:
    tokenizer = pieces_json(0, prefix=True)
    count = len(tokenizer["model"]["vocab"])
    beyond = {"id": count + 3, "content": "<image>", "special": True}  # of no row of the model
    tokenizer["added_tokens"] += [{"id": count, "content": "▁▁▁", "special": False}, beyond]
    keys = keys_of(tokenizer, PIECE_SETTINGS, count + 3)
    types = keys["tokenizer.ggml.token_type"][0]
    assert [types[n] for n in (0, 1, 3, 259, count, count + 1)] == [
        TokenType.UNKNOWN,
        TokenType.CONTROL,
        TokenType.BYTE,
        TokenType.NORMAL,
        TokenType.USER_DEFINED,
        TokenType.UNUSED,
    ]
    assert keys["tokenizer.ggml.tokens"][0][count:] == [b"   ", b"[PAD%d]" % (count + 1), b"[PAD%d]" % (count + 2)]
    assert keys["tokenizer.ggml.add_bos_token"][0] is True
    assert keys["tokenizer.ggml.bos_token_id"][0] == 1


def changed(tokenizer: Json, *path: str | int, to: Any) -> Json:
    """The tokenizer with one place changed."""
    made = copy.deepcopy(tokenizer)
    place: Any = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return made


REFUSED_BYTE_LEVEL: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("model", "type"), "Unigram", "not of the kind BPE"),
    (("model", "vocab"), [], "no vocabulary"),
    (("model", "vocab"), {"a": -1}, "has no id"),
    (("model", "vocab"), {"a": True}, "has no id"),
    (("model", "vocab", "z"), 1 << 70, "has a token with the id"),
    (("model", "vocab", "a"), 5, "have the id 5"),
    (("model", "merges"), ["a"], "two sides"),
    (("model", "merges"), [["a", ""]], "two sides"),
    (("model", "merges"), [["a", "z"]], "what is no token"),
    (("model", "merges"), [], "no merges"),
    (("model", "merges"), {}, "no list 'merges'"),
    (("model", "end_of_word_suffix"), "</w>", "end_of_word_suffix"),
    (("pre_tokenizer",), None, "splits texts by"),
    (("pre_tokenizer",), [], "not as it should be"),
    (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": [1]}, "not as it should be"),
    (("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"), r"\w+", "in a way that is not known"),
    (("pre_tokenizer", "pretokenizers", 0, "behavior"), "Removed", "in a way that is not known"),
    (("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), True, "a blank before texts"),
    (("normalizer",), {"type": "Lowercase"}, "changes texts by"),
    (("model", "vocab", "z"), 5000, "id 5000"),
    (("added_tokens", 0, "content"), "", "no id, no text"),
    (("added_tokens", 0, "content"), "x" * 600, "very long"),
    (("added_tokens", 0, "content"), "a", "the same text"),
    (("added_tokens", 0, "single_word"), True, "single_word"),
]


@pytest.mark.parametrize(("path", "to", "why"), REFUSED_BYTE_LEVEL)
def test_a_byte_level_tokenizer_that_is_not_understood_is_refused(
    path: tuple[str | int, ...], to: Any, why: str
) -> None:
    settings = {"eos_token": "<|eot_id|>"}
    with pytest.raises(ModelError, match=why):
        keys_of(changed(tokenizer_json(), *path, to=to), settings, 320)


def test_merges_may_be_ignored_only_where_llama_cpp_does() -> None:
    with pytest.raises(ModelError, match="ignores its merges"):
        keys_of(with_split(LLAMA_SPLIT.replace("{1,3}", ""), ignore_merges=True))


def test_an_end_must_be_known() -> None:
    with pytest.raises(ModelError, match="which token ends an answer"):
        keys_of(tokenizer_json(), {}, 320)
    told = Settings("tokenizer.json", tokenizer_json())
    keys = tokenizer_keys(told, Settings("", {}), "", [265, 266, 999], 320)
    assert (keys["tokenizer.ggml.eos_token_id"][0], keys["tokenizer.ggml.eot_token_id"][0]) == (265, 266)


def _reordered(tokenizer: Json) -> Json:
    """A merge moved away from the others to the same token."""
    merges = tokenizer["model"]["merges"]
    made = ["".join(pair) for pair in merges]
    twice = next(at for at in range(1, len(made)) if made[at] == made[at - 1])
    return changed(tokenizer, "model", "merges", to=[merges[twice], *merges[:twice], *merges[twice + 1 :]])


def _without_a_merge(tokenizer: Json) -> Json:
    merges = tokenizer["model"]["merges"]
    return changed(tokenizer, "model", "merges", to=merges[:-1])


REFUSED_PIECES: list[tuple[Callable[[Json], Json], str]] = [
    (_reordered, "do not follow each other"),
    (_without_a_merge, "as llama.cpp would"),
    (lambda t: changed(t, "model", "merges", to=[["a", "\x1b"]]), "not all tokens"),
    (lambda t: changed(t, "model", "vocab", to={"<0x00>": 0}), "every byte"),
    (lambda t: changed(t, "normalizer", to={"type": "NFKC"}), "changes texts"),
    (lambda t: changed(t, "normalizer", to=None), "does not write"),
    (lambda t: changed(t, "pre_tokenizer", to={"type": "Whitespace"}), "splits texts by"),
    (lambda t: changed(t, "pre_tokenizer", to={"type": "Metaspace", "prepend_scheme": "first"}), "first word only"),
    (lambda t: changed(t, "pre_tokenizer", to={"type": "Metaspace", "prepend_scheme": "always"}), "blanks in them"),
    (lambda t: changed(t, "model", "ignore_merges", to=True), "ignore_merges"),
]


def _late_run(tokenizer: Json) -> Json:
    merges = tokenizer["model"]["merges"]
    return changed(tokenizer, "model", "merges", to=[*merges[1:], merges[0]])


def _token_with_a_run(tokenizer: Json) -> Json:
    return changed(tokenizer, "model", "vocab", "a▁▁b", to=499)


@pytest.mark.parametrize(("change", "why"), [(_late_run, "too late"), (_token_with_a_run, "finds an added one")])
def test_runs_of_blanks_that_llama_cpp_finds_otherwise_are_refused(change: Callable[[Json], Json], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        keys_of(change(pieces_json(3, prefix=False)), PIECE_SETTINGS, 500)


@pytest.mark.parametrize(("change", "why"), REFUSED_PIECES)
def test_pieces_that_scores_cannot_say_are_refused(change: Callable[[Json], Json], why: str) -> None:
    tokenizer = change(pieces_json(3, prefix=True))
    with pytest.raises(ModelError, match=why):
        keys_of(tokenizer, PIECE_SETTINGS, 500)


def test_tokens_that_swallow_blanks_are_those_of_phi_3_or_refused() -> None:
    tokenizer = pieces_json(0, prefix=True)
    tokenizer["added_tokens"] += [{"id": 400, "content": "<|user|>", "special": True, "rstrip": True}]
    with pytest.raises(ModelError, match="Phi 3"):
        strips_blanks(Settings("tokenizer.json", tokenizer))
    tokenizer["added_tokens"][2]["rstrip"] = True  # </s>
    assert strips_blanks(Settings("tokenizer.json", tokenizer))
    tokenizer["added_tokens"][3]["lstrip"] = True
    with pytest.raises(ModelError, match="Phi 3"):
        strips_blanks(Settings("tokenizer.json", tokenizer))
    assert not strips_blanks(Settings("tokenizer.json", pieces_json(0, prefix=True)))
