"""One message of a conversation: a question as it was typed, an answer as Markdown with a line on how it came."""

from __future__ import annotations

from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Markdown, Static

from tui.widgets.plain import words
from tui.words import prose, sentence

DRAW_S: Final = 0.15
"""Between two drawings of an answer. A long block of code is coloured anew at each: at every token that took a core."""


class Question(Static):
    """What a person asked."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(prose(text)), markup=False, classes="question")


class Answer(Vertical):
    """What a model says. Pieces are drawn together, a few times a second, however fast they come."""

    def __init__(self) -> None:
        super().__init__(classes="answer")
        self.text = ""
        """All that came, made harmless."""
        self._raw = ""
        self._drawn = ""
        self._said = Markdown("", open_links=False, classes="said", parser_factory=parser)
        self._notes = words("", classes="notes")
        self._foot = words("", classes="footnote")
        self._noted: list[str] = []
        self._footnote = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """The text, what happened to it, how it came."""
        yield self._said
        yield self._notes
        yield self._foot

    def show(self, text: str) -> None:
        """Shows all of the text so far, soon: what is new is appended, unless it begins otherwise."""
        if text.startswith(self._raw):
            self.text += prose(text[len(self._raw) :])
        else:
            self.text = prose(text)
        self._raw = text
        if self._timer is None and self.is_attached:
            self._timer = self.set_timer(DRAW_S, self.settle)

    async def settle(self) -> None:
        """Draws what is still waiting."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        text, drawn = self.text, self._drawn
        if not self.is_attached:
            return
        self._foot.update(Content(sentence(self._footnote)))
        if text == drawn:
            return
        self._drawn = text
        if text.startswith(drawn):
            await self._said.append(text[len(drawn) :])
        else:
            await self._said.update(text)

    def note(self, text: str) -> None:
        """Adds a line on what happened while it came."""
        self._noted.append(f"◆ {sentence(text)}")
        self._notes.update(Content("\n".join(self._noted)))

    def foot(self, text: str) -> None:
        """Says how it comes, or came; drawn with the text."""
        self._footnote = text


def parser() -> MarkdownIt:
    """As Textual's own, but what entities such as `&#8238;` stand for is made harmless, too."""
    markdown = MarkdownIt("gfm-like")
    markdown.core.ruler.push("harmless", _make_harmless)
    return markdown


def _make_harmless(state: StateCore) -> None:
    for token in state.tokens:
        token.content = prose(token.content)
        for child in token.children or ():
            child.content = prose(child.content)
