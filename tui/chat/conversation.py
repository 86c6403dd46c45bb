"""What was said, and the request that asks for the next answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

TEMPERATURE: Final = 0.7
"""As `peerinfer chat` has it: livelier than greedy, calmer than 1, at which small models ramble."""
MESSAGES_MAX: Final = 1000
"""Messages that go along with a request; older ones stay on the screen."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are made."""

    system: str = ""
    """Instructions that stand before the conversation."""
    temperature: float = TEMPERATURE
    top_p: float = 1.0
    max_tokens: int = 0
    """0 leaves it to the model and its context."""
    seed: int | None = None
    """None takes another one for each answer."""
    private: bool = False
    """Whether answers may be made on this machine alone."""


@dataclass(slots=True)
class Turn:
    """One message."""

    role: str
    """`user` or `assistant`."""
    text: str


@dataclass(slots=True)
class Conversation:
    """Turns in order; an answer that broke off stays, and goes along as far as it came."""

    settings: Settings = field(default_factory=Settings)
    turns: list[Turn] = field(default_factory=list[Turn])
    unanswered: str = ""
    """The last question, if nothing came to it: it does not go along with what is asked next."""

    def ask(self, text: str) -> Turn:
        """Adds a question."""
        self.unanswered = ""
        self.turns.append(Turn("user", text))
        return self.turns[-1]

    def answer(self) -> Turn:
        """Adds an answer, empty yet."""
        self.turns.append(Turn("assistant", ""))
        return self.turns[-1]

    def ended(self) -> None:
        """The answer has ended; if nothing came of it, its question is set aside."""
        if self.turns and not self.turns[-1].text:
            self.turns.pop()
            if self.turns and self.turns[-1].role == "user":
                self.unanswered = self.turns.pop().text

    def take_back(self) -> bool:
        """Drops the last answer, so that its question is asked again; False if there is none."""
        if self.unanswered:
            self.ask(self.unanswered)
        elif self.turns and self.turns[-1].role == "assistant":
            self.turns.pop()
        return bool(self.turns)

    def request(self, model: str, seed: int) -> dict[str, Any]:
        """The body for `POST /v1/chat/completions` that asks for the next answer."""
        settings = self.settings
        said = [{"role": turn.role, "content": turn.text} for turn in self.turns[-MESSAGES_MAX:] if turn.text]
        system = [{"role": "system", "content": settings.system}] if settings.system else []
        body: dict[str, Any] = {
            "model": model,
            "messages": [*system, *said],
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": seed if settings.seed is None else settings.seed,
            "private": settings.private,
            "peerinfer": True,
        }
        return {**body, "max_tokens": settings.max_tokens} if settings.max_tokens else body


def read_settings(values: dict[str, str], private: bool) -> Settings:
    """Settings from what a person typed. Raises `ValueError` with a sentence."""
    return Settings(
        system=values["system"].strip(),
        temperature=_number(values["temperature"], "Temperature", 0.0, 2.0, TEMPERATURE),
        top_p=_number(values["top_p"], "Top p", 0.0, 1.0, 1.0),
        max_tokens=round(_number(values["max_tokens"], "Longest answer", 0, 1 << 24, 0, whole=True)),
        seed=round(_number(values["seed"], "Seed", 0, 2**63 - 1, 0, whole=True)) if values["seed"].strip() else None,
        private=private,
    )


def _number(text: str, name: str, low: float, high: float, default: float, *, whole: bool = False) -> float:
    if not text.strip():
        return default
    kind = "a whole number" if whole else "a number"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise ValueError(f"{name} must be {kind} from {low:g} to {high:g}.")
    return value
