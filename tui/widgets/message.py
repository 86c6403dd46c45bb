"""One message of a conversation: a question as it was typed, an answer as Markdown with a line on how it came."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from tui.widgets.plain import words
from tui.words import prose, sentence


class Question(Static):
    """What a person asked."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(prose(text)), markup=False, classes="question")


class Answer(Vertical):
    """What a model says. Pieces that come faster than they can be drawn are drawn together."""

    def __init__(self) -> None:
        super().__init__(classes="answer")
        self._stream: MarkdownStream | None = None
        self._shown = ""

    def compose(self) -> ComposeResult:
        """The text, then what happened to it."""
        yield Markdown("", open_links=False, classes="said")
        yield words("", classes="notes")
        yield words("", classes="footnote")

    @property
    def text(self) -> str:
        """What is shown of it so far."""
        return self._shown

    async def show(self, text: str) -> None:
        """Shows all of the text so far: what is new is appended, unless it begins otherwise."""
        text = prose(text)
        if text == self._shown:
            return
        markdown = self.query_one(Markdown)
        if text.startswith(self._shown):
            if self._stream is None:
                self._stream = Markdown.get_stream(markdown)
            await self._stream.write(text[len(self._shown) :])
        else:
            await self.settle()
            await markdown.update(text)
        self._shown = text

    async def settle(self) -> None:
        """Draws what is still waiting."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.stop()

    def note(self, text: str) -> None:
        """Adds a line on what happened while it came."""
        notes = self.query_one(".notes", Static)
        before = str(notes.content)
        notes.update(Content("\n".join(filter(None, (before, f"◆ {sentence(text)}")))))

    def foot(self, text: str) -> None:
        """Says how it comes, or came."""
        self.query_one(".footnote", Static).update(Content(sentence(text)))
