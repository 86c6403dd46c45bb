"""`tokenizer.json` of pieces with byte fallback, made from a random SentencePiece vocabulary as converters make it."""

from __future__ import annotations

import random
from typing import Any

from tests.models.mlx_folders import added_token

MARK = "▁"
ALPHABET = (MARK, *"abcdehlorstw01.!é")
SPECIALS = ("<unk>", "<s>", "</s>")


def pieces_json(seed: int, *, prefix: bool, pieces: int = 120) -> dict[str, Any]:
    """The tokenizer; with `prefix` a blank is put before texts, as for Llama 2.

    Without, it is of Gemma's kind: no blank, and runs of blanks are added tokens, whose merges come first and mixed.
    """
    chance = random.Random(seed)
    made: list[str] = []
    while len(made) < pieces - len(ALPHABET):
        text = chance.choice((*ALPHABET, *made)) + chance.choice((*ALPHABET, *made))
        if text not in made and len(text) < 8:
            made.append(text)
    chance.shuffle(made)
    runs = [] if prefix else [MARK * count for count in range(2, 7)]
    made = [text for text in made if not runs or runs[0] not in text]
    texts = [*SPECIALS, *runs, *(f"<0x{byte:02X}>" for byte in range(256)), *made, *ALPHABET]
    ids = {text: number for number, text in enumerate(texts)}
    marks: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": MARK}]
    blanks = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": [
            *(added_token(number, text) for number, text in enumerate(SPECIALS)),
            *(added_token(ids[text], text) | {"special": False} for text in runs),
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}] * prefix + marks},
        "pre_tokenizer": None if prefix else blanks,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": ids,
            "merges": [*_of_runs(runs, ids), *(pair for text in made for pair in _splits(text, ids))],
        },
    }


def _of_runs(runs: list[str], ids: dict[str, int]) -> list[list[str]]:
    """Their merges by length, the longest first: those to one token do not follow each other."""
    pairs = [pair for text in runs for pair in _splits(text, ids)]
    return sorted(pairs, key=lambda pair: (len(pair[0]), len(pair[1])), reverse=True)


def _splits(text: str, ids: dict[str, int]) -> list[list[str]]:
    """All ways to make a piece of two others."""
    pairs = [[text[:at], text[at:]] for at in range(1, len(text)) if text[:at] in ids and text[at:] in ids]
    return sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
