"""Which model to fetch: one of the catalogue, or any of the hub or the web."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from peerinfer.control.state import ClusterState, Liveness
from peerinfer.errors import PeerinferError
from tui.face import face_of
from tui.mesh.told import Told, number, parts, text
from tui.screens.dialog import Dialog
from tui.widgets.plain import words
from tui.words import fit, harmless, sentence, size

REFERENCE_MAX: Final = 4096
ENTRIES_MAX: Final = 200


class PullDialog(Dialog[str]):
    """Answers a reference for `pull`."""

    HEADING = "Fetch a model"

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield words("A name of the list, hf:OWNER/REPO:QUANT, or https://…#sha256=…", classes="label")
        yield Input(id="reference", max_length=REFERENCE_MAX, compact=True)
        with VerticalScroll(id="catalogue-room", can_focus=False):
            yield OptionList(id="catalogue", markup=False)

    def on_mount(self) -> None:
        """Asks for the catalogue."""
        self.query_one("#reference", Input).focus()
        self.run_worker(self._ask, group="catalogue")

    async def _ask(self) -> None:
        face = face_of(self)
        try:
            told = await face.act("catalogue")
        except PeerinferError as error:
            face.complain(error)
            return
        entries = parts(told, "models", ENTRIES_MAX)
        self._names = [text(each, "name") for each in entries]
        room = free_bytes(face.view.state)
        choices = self.query_one("#catalogue", OptionList)
        choices.add_options([Option(Content(entry_text(each, room))) for each in entries])

    @on(OptionList.OptionSelected)
    def chosen(self, event: OptionList.OptionSelected) -> None:
        """One of the catalogue."""
        self.dismiss(self._names[event.option_index])

    @on(Input.Submitted)
    def typed(self, event: Input.Submitted) -> None:
        """Whatever was typed."""
        if event.value.strip():
            self.dismiss(event.value.strip())


def free_bytes(state: ClusterState | None) -> int:
    """Memory that is free on all nodes together."""
    members = state.members if state is not None else ()
    reports = [one.report for one in members if one.report is not None and one.state is Liveness.ALIVE]
    own = sum(report.memory_free_bytes for report in reports)
    return own + sum(device.memory_free_bytes for report in reports for device in report.devices if device.memory_bytes)


def entry_text(entry: Told, room: int) -> str:
    """A line of the catalogue, with a first guess whether the mesh has the memory; `plan` knows once it is here."""
    name = fit(harmless(text(entry, "name")), 24)
    download, needed = number(entry, "download_bytes") or 0.0, number(entry, "memory_bytes") or 0.0
    fits = "fits" if needed <= room else f"needs {size(needed - room)} more"
    return f"{name:<25}{size(download):>8}  {fits:<18} {sentence(text(entry, 'about'))}"
