"""Folders in MLX's format become GGUF files: numbers exact where they can be, the loss told, the unknown refused."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, CorruptModel, DiskFull, ModelError, UnknownModel, UnsupportedModel
from peerinfer.models import atomic
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.models.mlx_import import conversion, folder
from peerinfer.models.mlx_import.blocks import numbers, permuted
from peerinfer.models.mlx_import.calls import Converted, Progressed
from peerinfer.models.mlx_import.conversion import convert
from peerinfer.models.mlx_import.host import convert_in_child, target_of
from tests.models.mlx_folders import write_settings
from tests.models.mlx_packed import CONFIG, packed, tensors, weights_of
from tests.models.raw_safetensors import Stored, write_safetensors
from tests.models.stores import Stores


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a whole tiny model."""
    source = tmp_path / "Tiny-Llama-4bit"
    write_settings(source, CONFIG)
    write_safetensors(source / "model.safetensors", tensors())
    return source


def reconfigured(model: Path, **changes: Any) -> None:
    write_settings(model, {**CONFIG, **changes})


def restored(model: Path, change: Callable[[dict[str, Stored]], object]) -> None:
    made = tensors()
    change(made)
    write_safetensors(model / "model.safetensors", made)


def quiet(_: Progressed) -> None:
    pass


# ---- whole models


def test_a_model_is_converted_in_slices_to_its_last_weight(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "SLICE_WEIGHTS", 64 * 20)  # of 20 rows: 16 where rows change places
    told: list[Progressed] = []
    made = convert(model, tmp_path / "out.gguf", told.append)
    header = read_header(tmp_path / "out.gguf")
    assert made == Converted("llama", header.file_bytes, 0.0)
    assert told[-1] == Progressed(header.file_bytes, header.file_bytes)
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    facts = model_facts(header)
    assert (facts.quantisation, facts.n_layers, facts.n_vocab, facts.tied_embeddings) == ("Q4_1", 2, 320, True)
    assert not facts.mlx_refusal
    for module, name, heads in (("self_attn.k_proj", "attn_k", 2), ("mlp.down_proj", "ffn_down", 0)):
        stored = {part: tensors()[f"model.layers.1.{module}.{part}"][1] for part in ("weight", "scales", "biases")}
        q = numbers(stored["weight"].view(np.uint8), 4).reshape(len(stored["weight"]), -1, 32)
        exact = q * stored["scales"][..., None].astype(np.float32) + stored["biases"][..., None].astype(np.float32)
        exact = exact.reshape(len(q), -1)
        exact = permuted(exact, 16) if heads else exact
        assert (weights_of(tmp_path / "out.gguf", f"blk.1.{name}.weight") == exact).all()


def test_parts_own_widths_and_plain_weights_go_together(model: Path, tmp_path: Path) -> None:
    made = tensors()
    module = "model.layers.0.mlp.up_proj"
    made |= {f"{module}.{part}": stored for part, stored in packed(96, 64, 9, bits=8, group=64).items()}
    for part in ("scales", "biases"):
        del made[f"model.layers.1.mlp.up_proj.{part}"]
    made["model.layers.1.mlp.up_proj.weight"] = ("BF16", np.ones((96, 64), np.uint16) << 7)
    made["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", np.ones(8, np.float32))
    quantization = CONFIG["quantization"] | {module: {"group_size": 64, "bits": 8}, "model.layers.1.mlp.up_proj": False}
    reconfigured(model, quantization=quantization)
    (model / "model.safetensors").unlink()
    names = sorted(made)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        write_safetensors(model / f"model-0000{number}-of-00002.safetensors", {name: made[name] for name in part})
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, "")}))
    converted = convert(model, tmp_path / "out.gguf", quiet)
    header = read_header(tmp_path / "out.gguf")
    kinds = [header.by_name[f"blk.{layer}.ffn_up.weight"].type for layer in range(2)]
    assert kinds == [GGMLQuantizationType.Q8_0, GGMLQuantizationType.BF16]
    assert 1e-4 < converted.loss < 1e-2
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CorruptModel, match="not whole"):
        convert(model, tmp_path / "again.gguf", quiet)


REFUSED_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "mamba"}, "'mamba' are not among llama"),
    ({"model_type": "\x1b[31m" + "x" * 100}, "are not among"),
    ({"model_type": 7}, "no text 'model_type'"),
    ({"num_hidden_layers": 0}, "not from 1 to 512"),
    ({"num_hidden_layers": 10**9}, "not from 1 to 512"),
    ({"num_hidden_layers": 3}, "no model.layers.2.input_layernorm"),
    ({"num_hidden_layers": 1}, "'model.layers.1.*is for is not known"),
    ({"num_attention_heads": 3}, "3 heads of 21 numbers"),
    ({"num_key_value_heads": 3}, "3 for keys"),
    ({"head_dim": 0}, "heads of 0 numbers"),
    ({"head_dim": 1 << 31}, "heads of 2147483648"),
    ({"vocab_size": 319}, "embed_tokens.weight' is not packed"),
    ({"vocab_size": 1 << 30}, "'vocab_size' is"),
    ({"rms_norm_eps": float("nan")}, "no number above 0 'rms_norm_eps'"),
    ({"rms_norm_eps": -1}, "no number above 0"),
    ({"rope_theta": 10**400}, "no number above 0"),
    ({"rope_traditional": True}, "rope_traditional"),
    ({"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "scale positions .'yarn'."),
    ({"rope_scaling": {"type": "llama3"}}, "no number above 0 'factor'"),
    ({"rope_scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 4}}, "not above its"),
    ({"rope_scaling": []}, "no object 'rope_scaling'"),
    ({"layer_types": ["sliding_attention", "full_attention"]}, "in an order"),
    ({"layer_types": ["linear_attention"] * 2}, "layer_types"),
    ({"tie_word_embeddings": False}, "no lm_head.weight"),
    ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "mode 'mxfp4'"),
    ({"quantization": {"group_size": 32, "bits": 7}}, "7 bits in groups of 32"),
    ({"quantization": {"group_size": 16, "bits": 4}}, "groups of 16"),
    ({"quantization": {"group_size": 64, "bits": 4}}, "is not packed"),
    ({"quantization": {"group_size": 128, "bits": 4}}, "no multiple of 128"),
    ({"quantization": None}, "says nothing of a quantisation"),
    ({"quantization": None, "quantization_config": {"quant_method": "gptq"}}, "quantised by 'gptq'"),
]


@pytest.mark.parametrize(("changes", "why"), REFUSED_CONFIGS)
def test_a_configuration_that_is_not_understood_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    reconfigured(model, **changes)
    with pytest.raises(ModelError, match=why) as caught:
        convert(model, tmp_path / "out.gguf", quiet)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.glob("*out.gguf*"))


LAYER = "model.layers.1.mlp.up_proj"
REFUSED_TENSORS: list[tuple[Callable[[dict[str, Stored]], object], str]] = [
    (lambda t: t.update({"model.vision.weight": ("F16", np.ones(4, np.float16))}), "'model.vision.weight' is for"),
    (lambda t: t.pop(f"{LAYER}.weight"), "not whole"),
    (lambda t: t.pop(f"{LAYER}.biases"), "without biases"),
    (lambda t: t.pop(f"{LAYER}.scales"), "not of 96 rows of 64"),
    (lambda t: t.update({f"{LAYER}.scales": ("F16", np.ones((96, 1), np.float16))}), "not packed"),
    (lambda t: t.update({f"{LAYER}.scales": ("U16", np.ones((96, 2), np.uint16))}), "of the type U16"),
    (lambda t: t.update({f"{LAYER}.scales": ("F16", np.full((96, 2), np.nan, np.float16))}), "no numbers"),
    (lambda t: t.update({"model.norm.weight": ("F16", np.ones(63, np.float16))}), "not of 64 numbers"),
    (lambda t: t.update({"model.norm.weight": ("I64", np.ones(64, np.int64))}), "of the type I64"),
    (lambda t: t.update({"model.norm.weight": ("F32", np.full(64, np.inf, np.float32))}), "are no numbers"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED_TENSORS)
def test_tensors_that_do_not_fit_are_refused(
    model: Path, tmp_path: Path, change: Callable[[dict[str, Stored]], object], why: str
) -> None:
    restored(model, change)
    with pytest.raises(ModelError, match=why):
        convert(model, tmp_path / "out.gguf", quiet)
    assert not list(tmp_path.glob("*out.gguf*"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(model: Path, tmp_path: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises((UnknownModel, ModelError), match=name.partition(".")[0]):
        convert(model, tmp_path / "out.gguf", quiet)


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 9000 + b"}"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_settings_that_are_none_are_refused(model: Path, tmp_path: Path, name: str, raw: bytes) -> None:
    (model / name).write_bytes(raw)
    with pytest.raises(CorruptModel, match=f"{name} is damaged"):
        convert(model, tmp_path / "out.gguf", quiet)


def test_a_file_without_end_is_not_read(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "TOKENIZER_MAX_BYTES", 100)
    with pytest.raises(CorruptModel, match="which none is"):
        convert(model, tmp_path / "out.gguf", quiet)


def test_a_full_disk_is_told_before_anything_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(DiskFull):
        convert(model, tmp_path / "out.gguf", quiet)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_the_settings_gives_a_model_or_a_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("any")
    config = copy.deepcopy(CONFIG)
    junk = st.one_of(
        st.none(), st.booleans(), st.integers(-5, 600), st.floats(), st.text(max_size=5), st.just([]), st.just({})
    )
    key = data.draw(st.sampled_from([*config, "head_dim", "rope_scaling", "rope_parameters", "layer_types"]))
    config[key] = data.draw(junk)
    write_settings(source, config)
    write_safetensors(source / "model.safetensors", tensors())
    sentence = ""
    try:
        convert(source, source / "out.gguf", quiet)
    except ModelError as error:
        sentence = str(error)
    assert sentence.isprintable()
    if not sentence:
        model_facts(read_header(source / "out.gguf"))
    shutil.rmtree(source)


# ---- the daemon's side


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "a\\b", "", ".hidden", "nul", "CON", "x\0y/", "-x", "a-00001-of-00002"]
)
def test_a_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="--name"):
        target_of(name, tmp_path)


def test_a_name_is_made_plain_and_must_be_free(tmp_path: Path) -> None:
    assert target_of("Qwen3 4B-4bit", tmp_path) == tmp_path / "qwen3-4b-4bit.gguf"
    (tmp_path / "qwen3-4b-4bit.gguf").touch()
    with pytest.raises(BadRequest, match="already"):
        target_of("qwen3-4B-4bit", tmp_path)


async def test_a_child_converts_and_the_store_takes_it_in(model: Path, home: Path, store_of: Stores) -> None:
    target = target_of(model.name, home / "models")
    told: list[Progressed] = []
    made = await convert_in_child(model, target, told.append)
    assert (made.architecture, made.loss, target.stat().st_size) == ("llama", 0.0, made.size_bytes)
    assert told
    (entry,) = (await store_of(home).listing()).models
    assert (entry.name, entry.facts.quantisation) == ("tiny-llama-4bit", "Q4_1")


async def test_what_the_child_refuses_is_refused_with_its_sentence(model: Path, home: Path) -> None:
    reconfigured(model, model_type="mamba")
    with pytest.raises(UnsupportedModel, match="mamba"):
        await convert_in_child(model, home / "models" / "x.gguf", quiet)
    with pytest.raises(UnknownModel, match=r"config\.json"):
        await convert_in_child(home, home / "models" / "x.gguf", quiet)
    assert not list((home / "models").iterdir())


async def test_a_cancelled_import_leaves_nothing_behind(model: Path, home: Path) -> None:
    reconfigured(model, intermediate_size=1 << 17)
    wide = {"mlp.gate_proj": (1 << 17, 64), "mlp.up_proj": (1 << 17, 64), "mlp.down_proj": (64, 1 << 17)}
    made = tensors()
    for layer in range(2):
        for name, shape in wide.items():
            made |= {f"model.layers.{layer}.{name}.{part}": each for part, each in packed(*shape, 1).items()}
    write_safetensors(model / "model.safetensors", made)
    begun = asyncio.Event()
    task = asyncio.create_task(convert_in_child(model, home / "models" / "x.gguf", lambda _: begun.set()))
    await begun.wait()
    assert [path.suffix for path in (home / "models").iterdir()] == [".partial"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((home / "models").iterdir())
