"""The folder of a model as the MLX community publishes it: its settings, its tokenizer, and where its tensors lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from peerinfer.errors import CorruptModel, ModelError, UnknownModel
from peerinfer.models.mlx_import.config import Settings, parse_settings, unsupported
from peerinfer.models.safetensors import TENSORS_MAX, StoredTensor, read_safetensors
from peerinfer.names import clean_name

FILES_MAX: Final = 1024
"""Files with weights of one model; the largest have some two hundred."""
SETTINGS_MAX_BYTES: Final = 4 << 20
"""A file with settings, of which a chat template is the largest; real ones are below 200 kB."""
INDEX_MAX_BYTES: Final = 32 << 20
"""The list of all tensors, as long as the header of a file that holds them all."""
TOKENIZER_MAX_BYTES: Final = 64 << 20
"""`tokenizer.json`; that of Gemma 3, the largest, has 33 MB."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder holds."""

    name: str
    config: Settings
    generation: Settings
    """`generation_config.json`; without one, nothing."""
    tokenizer: Settings
    tokenizer_config: Settings
    chat_template: str
    """Empty without one."""
    tensors: Mapping[str, StoredTensor]


def read_folder(folder: Path) -> ModelFolder:
    """What the folder holds. Raises `UnknownModel` for a folder without a model, `ModelError` for a broken one."""
    name = clean_name(folder.name)
    try:
        if not (folder / "config.json").is_file():
            raise UnknownModel(
                f"There is no config.json in {folder}. Name the folder of a whole model in MLX's format."
            )
        if not (folder / "tokenizer.json").is_file():
            raise unsupported(f"there is no tokenizer.json in {name}")
        tokenizer_config = _settings(folder, "tokenizer_config.json")
        return ModelFolder(
            name,
            _settings(folder, "config.json"),
            _settings(folder, "generation_config.json"),
            parse_settings("tokenizer.json", _read(folder / "tokenizer.json", TOKENIZER_MAX_BYTES)),
            tokenizer_config,
            _chat_template(folder, tokenizer_config),
            _tensors(folder),
        )
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror}). Check the folder and its permissions.") from None


def _settings(folder: Path, name: str) -> Settings:
    path = folder / name
    return parse_settings(name, _read(path, SETTINGS_MAX_BYTES)) if path.is_file() else Settings(name, {})


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        raw = file.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        raise CorruptModel(f"{path.name} is larger than {limit_bytes >> 20} MiB, which none is. Fetch the model again.")
    return raw


def _chat_template(folder: Path, tokenizer_config: Settings) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _read(path, SETTINGS_MAX_BYTES).decode("utf-8", "replace")
    told = tokenizer_config.raw("chat_template")
    if isinstance(told, str):
        return told
    for each in tokenizer_config.items("chat_template"):
        match each:
            case {"name": "default", "template": str(template)}:
                return template
            case _:
                continue
    return ""


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of the files that `mlx_lm` would load, held to the index where there is one."""
    paths = sorted(path for path in folder.glob("model*.safetensors") if path.is_file())
    if not paths or len(paths) > FILES_MAX:
        raise CorruptModel(f"There are {len(paths)} files model*.safetensors in {folder.name}. Fetch a whole model.")
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        found = read_safetensors(path)
        twice = tensors.keys() & found.keys()
        if twice or len(tensors) + len(found) > TENSORS_MAX:
            what = f"the tensor {min(twice)[:64]!r} stands in two files" if twice else "it has too many tensors"
            raise CorruptModel(f"The model is damaged: {what}. Fetch it again into an empty folder.")
        tensors |= found
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = parse_settings(index.name, _read(index, INDEX_MAX_BYTES)).raw("weight_map")
        names = cast("dict[str, object]", listed) if isinstance(listed, dict) else {}
        missing = [name for name in names if name not in tensors]
        if missing:
            raise CorruptModel(f"The model is not whole: {missing[0][:64]!r} is missing. Fetch all its files.")
    return tensors
