"""A model's chat template, run in a sandbox: it comes with the file, so it is as untrusted as the file.

Time and memory are limited by the child process it runs in; sizes are limited here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from peerinfer.errors import BadRequest, UnsupportedModel

SOURCE_MAX = 262_144
"""Characters of a template; the longest in use are about 20,000."""
OUTPUT_MAX = 8 * 1024 * 1024
"""Characters of a rendered prompt; no context holds more."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Used when a model carries no template, as llama.cpp does."""


class ChatTemplate:
    """Renders conversations to prompt text."""

    def __init__(self, source: str | None, special_texts: Mapping[str, str]) -> None:
        """`special_texts` gives `bos_token` and `eos_token`. Raises `UnsupportedModel` for a broken template."""
        if source is not None and len(source) > SOURCE_MAX:
            raise UnsupportedModel(f"The model's chat template is over {SOURCE_MAX} characters.")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        named: dict[str, Any] = {"raise_exception": _refuse, "strftime_now": _now}
        environment.globals.update(named)
        try:
            self._template = environment.from_string(source or CHATML)
        except jinja2.TemplateError as error:
            raise UnsupportedModel(f"The model's chat template is broken: {error}.") from None
        self._special = dict(special_texts)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt for `messages`, ending where the assistant begins to speak. Raises `BadRequest`."""
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(messages=list(messages), add_generation_prompt=True, **self._special):
                size += len(part)
                if size > OUTPUT_MAX:
                    raise BadRequest("The conversation is too long for any context.")
                parts.append(part)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise BadRequest(f"The model's chat template refuses this conversation: {error}.") from None
        return "".join(parts)


def _refuse(sentence: str) -> None:
    raise jinja2.TemplateError(sentence)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
