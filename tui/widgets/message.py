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
        self.text = ""
        """As it came, and is shown."""
        self._said = Markdown("", open_links=False, classes="said")
        self._notes = words("", classes="notes")
        self._foot = words("", classes="footnote")
        self._noted: list[str] = []
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        """The text, what happened to it, how it came."""
        yield self._said
        yield self._notes
        yield self._foot

    async def show(self, text: str) -> None:
        """Shows all of the text so far: what is new is appended, unless it begins otherwise."""
        if text == self.text:
            return
        if text.startswith(self.text):
            if self._stream is None:
                self._stream = Markdown.get_stream(self._said)
            await self._stream.write(prose(text[len(self.text) :]))
        else:
            await self.settle()
            await self._said.update(prose(text))
        self.text = text

    async def settle(self) -> None:
        """Draws what is still waiting."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.stop()

    def note(self, text: str) -> None:
        """Adds a line on what happened while it came."""
        self._noted.append(f"◆ {sentence(text)}")
        self._notes.update(Content("\n".join(self._noted)))

    def foot(self, text: str) -> None:
        """Says how it comes, or came."""
        self._foot.update(Content(sentence(text)))
