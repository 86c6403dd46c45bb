"""Headers of right models, changed by chance in one to four places, and what becomes of them.

`mutated(seed, index)` is the same bytes on every machine. The weights are claimed, not there: a header is all that the
reader looks at, and so the sizes that it claims can be anything.
"""

from __future__ import annotations

import io
import struct
from dataclasses import fields, replace
from itertools import pairwise
from math import prod
from random import Random

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from peerinfer.errors import ModelError
from peerinfer.models.facts import ModelFacts, model_facts
from peerinfer.models.gguf import GgufHeader, parse_header
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.parts import merge_headers
from peerinfer.models.shard_writer import plan_stage, plan_vocabulary
from peerinfer.models.shards import ShardKey
from tests.models.hostile import array
from tests.models.raw_gguf import BOOL, STRING, U32, RawGguf, key, tensor, text, u32

HEADER_MAX_BYTES = 4096
CLAIMED = 1 << 30
"""Size that the file of a right header is said to have."""

_F32, _F16, _Q8_0, _Q4_0, _MXFP4 = 0, 1, 8, 2, 39
_EDGES_32 = (0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 255, 65_535, 65_536, (1 << 24) + 1, 1 << 31, (1 << 31) - 1, (1 << 32) - 1)
_EDGES_64 = (0, 1, 2, 511, 512, 513, 65_537, 1 << 20, 1 << 24, 1 << 32, (1 << 62) + 1, 1 << 63, (1 << 63) - 1)


def _text(value: str) -> bytes:
    return struct.pack("<I", STRING) + text(value)


def _model(name: str, kind: int = _F32, *, tied: bool = True, layers: int = 2, experts: int = 0) -> RawGguf:
    """A model of `layers` layers of width 32 with a vocabulary of 5 tokens."""
    numbers = {"block_count": layers, "context_length": 64, "embedding_length": 32, "feed_forward_length": 64}
    numbers |= {"attention.head_count": 4, "rope.dimension_count": 8, "attention.key_length": 8}
    if experts:
        numbers |= {"expert_count": experts, "expert_used_count": 1, "attention.sliding_window": 16}
    heads = array(U32, layers, struct.pack("<I", 2) * layers)
    keys = [
        key("general.architecture", _text(name)),
        key("general.file_type", u32(kind)),
        *(key(f"{name}.{what}", u32(number)) for what, number in numbers.items()),
        key(f"{name}.attention.head_count_kv", heads),
        key(f"{name}.attention.layer_norm_rms_epsilon", struct.pack("<If", 6, 1e-5)),
        key("tokenizer.ggml.model", _text("llama")),
        key("tokenizer.ggml.tokens", array(STRING, 5, b"".join(map(text, ("<s>", "</s>", "a", "ä", ""))))),
        key("tokenizer.ggml.scores", array(6, 5, bytes(20))),
        key("tokenizer.ggml.token_type", array(5, 5, struct.pack("<5i", 3, 3, 1, 1, 1))),
        key("tokenizer.ggml.add_bos_token", struct.pack("<IB", BOOL, 1)),
    ]
    matrices: dict[str, tuple[int, ...]] = {
        "attn_q": (32, 32),
        "attn_k": (32, 16),
        "attn_v": (32, 16),
        "attn_output": (32, 32),
    }
    wide = (experts,) if experts else ()
    matrices |= {f"ffn_{what}{'_exps' * bool(experts)}": (32, 64, *wide) for what in ("gate", "up")}
    matrices[f"ffn_down{'_exps' * bool(experts)}"] = (64, 32, *wide)
    shapes: list[tuple[str, tuple[int, ...], int]] = [("token_embd.weight", (32, 5), kind)]
    for layer in range(layers):
        shapes += [(f"blk.{layer}.{what}.weight", shape, kind) for what, shape in matrices.items()]
        shapes += [(f"blk.{layer}.{what}.weight", (32,), _F32) for what in ("attn_norm", "ffn_norm")]
    shapes.append(("output_norm.weight", (32,), _F32))
    if not tied:
        shapes.append(("output.weight", (32, 5), kind))
    return RawGguf(keys=keys, tensors=_placed(shapes), data=b"")


def _placed(shapes: list[tuple[str, tuple[int, ...], int]]) -> list[bytes]:
    tensors: list[bytes] = []
    end = 0
    for name, shape, kind in shapes:
        tensors.append(tensor(name, shape, kind, end))
        block_items, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        end = -(-(end + prod(shape) // block_items * block_bytes) // 64) * 64
    return tensors


def _originals() -> list[RawGguf]:
    aligned = _model("llama", layers=1)
    aligned.keys.insert(0, key("general.alignment", u32(64)))
    old = _model("llama", _Q8_0, tied=False, layers=1)
    old.version = 2
    part = _model("llama", layers=1)
    part.keys += [key("split.no", struct.pack("<IH", 2, 0)), key("split.count", struct.pack("<IH", 2, 1))]
    part.keys.append(key("split.tensors.count", struct.pack("<Ii", 5, len(part.tensors))))
    models = [_model("llama"), _model("llama", _Q8_0, tied=False, layers=3), _model("llama", _F16, experts=2)]
    models += [aligned, old, part, _model("unheard-of", _Q4_0)]
    names = ("qwen2", "qwen3", "gemma2", "gemma3", "phi3", "granite", "smollm3")
    models += [_model(name, _Q8_0, tied=index % 2 == 0, layers=1) for index, name in enumerate(names)]
    models += [_model("qwen3moe", experts=2, layers=1), _model("gpt-oss", _MXFP4, experts=2)]
    return models


_MODELS = _originals()
ORIGINALS = tuple(model.to_bytes() for model in _MODELS)
"""Right headers, all of models."""


def mutated(seed: int, index: int) -> tuple[bytes, int]:
    """A header of at most `HEADER_MAX_BYTES` that is probably wrong, and the size that its file claims to have.

    One half is changed in its parts, of which most pass the reader; the other in its bytes, of which few do.
    """
    random = Random(seed << 32 | index)
    claims = (CLAIMED, CLAIMED, CLAIMED, 1 << 40, (1 << 63) - 1)
    if random.randrange(2):
        data = bytearray(_change_parts(random, random.choice(_MODELS)).to_bytes())
        if random.randrange(4) == 0:
            _change(random, data)
        return bytes(data[:HEADER_MAX_BYTES]), random.choice(claims)
    data = bytearray(random.choice(ORIGINALS))
    if random.randrange(8) == 0:
        other = random.choice(ORIGINALS)
        start = random.randrange(len(data))
        data[start:] = other[max(0, start + random.choice((0, 0, -8, 8, random.randrange(-500, 500)))) :]
    for _ in range(random.randrange(1, 5)):
        _change(random, data)
    del data[HEADER_MAX_BYTES:]
    return bytes(data), random.choice((*claims, len(data), len(data) + random.randrange(1 << 16)))


def _change(random: Random, data: bytearray) -> None:
    """One change anywhere; numbers of the right width are put over what stands there, or slices are moved."""
    at = random.randrange(len(data) + 1)
    what = random.randrange(8)
    if what == 0 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif what == 1 and at < len(data):
        data[at] = random.choice((0, 1, 2, 13, 0x2E, 0x33, 0x7F, 0x80, 0xC0, 0xFF, random.randrange(256)))
    elif what == 2:
        data[at : at + 4] = struct.pack("<I", random.choice((*_EDGES_32, random.getrandbits(32))))
    elif what == 3:
        data[at : at + 8] = struct.pack("<Q", random.choice((*_EDGES_64, (1 << 64) - 32, random.getrandbits(64))))
    elif what == 4:
        data[at:at] = random.randbytes(random.choice((1, 4, 8, random.randrange(64))))
    elif what == 5:
        del data[at : at + random.choice((1, 4, 8, random.randrange(64)))]
    elif what == 6:
        start = random.randrange(len(data) + 1)
        data[at:at] = data[start : start + random.randrange(200)]
    else:
        start = random.randrange(len(data) + 1)
        n_bytes = random.randrange(100)
        data[at : at + n_bytes] = data[start : start + n_bytes]


def _change_parts(random: Random, model: RawGguf) -> RawGguf:
    """Another key, value or tensor, of a right build but for what it says."""
    keys, tensors = list(model.keys), list(model.tensors)
    for _ in range(random.randrange(1, 4)):
        at, spot = random.randrange(len(keys)), random.randrange(len(tensors))
        what = random.randrange(8)
        if what <= 2:
            keys[at] = key(_name_of(keys[at]), _odd_value(random))
        elif what == 3:
            name = _name_of(random.choice(keys)).partition(b".")[0].decode("utf-8", "replace")
            keys.append(key(f"{name}.{random.choice(_MORE_KEYS)}", _odd_value(random)))
        elif what == 4 and len(keys) > 1:
            del keys[at]
        elif what == 5:
            tensors[spot] = text(_odd_name(random)) + tensors[spot][8 + len(_name_of(tensors[spot])) :]
        elif what == 6 and len(tensors) > 1:
            del tensors[spot]
        else:
            shape = tuple(random.choice((1, 2, 5, 31, 32, 64, 256, 1 << 20)) for _ in range(random.randrange(1, 5)))
            offset = 64 * random.choice((1 << 14, random.randrange(1 << 12, 1 << 22), random.randrange(1 << 8)))
            name = random.choice((_odd_name(random), "token_embd.weight", "output.weight", "output_norm.weight"))
            tensors = [other for other in tensors if _name_of(other) != name.encode()]
            tensors.append(tensor(name, shape, random.choice((_F32, _F16, _Q8_0, 24, 27)), offset))
    return replace(model, keys=keys, tensors=tensors)


_MORE_KEYS = ("attention.value_length", "attention.head_count_kv", "vocab_size", "split.count", "rope.scaling.factor")


def _name_of(part: bytes) -> bytes:
    return part[8 : 8 + int.from_bytes(part[:8], "little")]


def _odd_name(random: Random) -> str:
    layer = random.choice(("0", "1", "00", "01", "٠", "-1", "511", "512", "99999", "100000", "", " 1", "1\n"))
    end = random.choice(("attn_q.weight", "attn_q.bias", "ffn_norm.weight", "", "weight\n", "ä" * 20))
    others = ("rope_freqs.weight", "output.weight", "output_norm.bias", "v.patch_embd.weight", "a\nb")
    return random.choice((f"blk.{layer}.{end}", f"blk.{layer}.{end}", *others))


def _odd_value(random: Random) -> bytes:
    """A value of any type, at an edge of it."""
    kind = random.choice((0, 1, 2, 3, U32, U32, 5, 6, BOOL, STRING, 10, 11, 12))
    count = random.choice((None, None, None, 0, 1, 2, 3, 5))
    if kind == STRING:
        texts = [random.choice(("", "llama", "qwen2", "none", "general", "tokenizer", "a\0b", "\n", "x" * 100))]
        texts *= 1 if count is None else count
        return _text(texts[0]) if count is None else array(STRING, count, b"".join(map(text, texts)))
    code, least, most = _TYPES[kind]
    edges = (least, most, 0, 1, 1, 2, 3, 4, 8, 32, most // 2, least + 1, *(edge for edge in _EDGES_64 if edge <= most))
    numbers: list[float] = [random.choice(edges) for _ in range(count or 1)]
    if kind in (6, 12):
        numbers = [random.choice((*_FLOATS, *numbers)) for _ in numbers]
    packed = struct.pack(f"<{len(numbers)}{code}", *numbers)
    return struct.pack("<I", kind) + packed if count is None else array(kind, count, packed if count else b"")


_FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 0.5)
_TYPES = {
    **{0: ("B", 0, 255), 1: ("b", -128, 127), 2: ("H", 0, 65_535), 3: ("h", -32_768, 32_767)},
    **{4: ("I", 0, (1 << 32) - 1), 5: ("i", -(1 << 31), (1 << 31) - 1), 6: ("f", -(1 << 24), 1 << 24)},
    **{7: ("B", 0, 1), 10: ("Q", 0, (1 << 64) - 1), 11: ("q", -(1 << 63), (1 << 63) - 1), 12: ("d", -9, 1 << 53)},
}
"""For each type of number its code in `struct` and its ends."""


def examine(data: bytes, claimed_bytes: int) -> str:
    """What becomes of a file that starts with `data`; whatever is raised but `ModelError` is a fault."""
    try:
        header = merge_headers([parse_header(io.BytesIO(data), claimed_bytes)])
    except ModelError as error:
        return _refused(error, "reader")
    _check_tensors(header, claimed_bytes)
    try:
        plan_vocabulary(header)
    except ModelError as error:
        _refused(error, "vocabulary")
    try:
        facts = model_facts(header)
    except ModelError as error:
        return _refused(error, "facts")
    _check_facts(facts)
    try:
        for kind in ("vocab", "embedding", "whole"):
            layout_for(header, ShardKey("0" * 64, 0, 0, kind))
    except ModelError as error:
        _refused(error, "layout")
    try:
        plan_stage(header, 0, facts.n_layers, "last")
        for cut in facts.legal_cuts[:2]:
            names = [source.name for source in plan_stage(header, 0, cut, "trunk").sources]
            assert len(set(names)) == len(names), "two tensors of a shard have one name"
            plan_stage(header, cut, facts.n_layers, "last")
    except ModelError as error:
        return _refused(error, "plan")
    return "accepted"


def _refused(error: ModelError, by: str) -> str:
    sentence = str(error)
    assert sentence.endswith("."), sentence
    assert len(sentence) <= 400, sentence
    return f"refused by the {by}"


def _check_tensors(header: GgufHeader, claimed_bytes: int) -> None:
    """All tensors lie in the file, after the header and apart."""
    spans = sorted((tensor.offset, tensor.offset + tensor.n_bytes) for tensor in header.tensors)
    assert all(header.data_offset <= start < end <= claimed_bytes for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def _check_facts(facts: ModelFacts) -> None:
    """All numbers are whole and fit a message between nodes."""
    for field in fields(facts):
        found = getattr(facts, field.name)
        for number in found if isinstance(found, tuple) else (found,):
            assert isinstance(number, str | int), field.name
            assert isinstance(number, str) or 0 <= number < 1 << 63, (field.name, number)
    assert facts.kv_bytes_per_token_per_layer * facts.n_layers < 1 << 63
