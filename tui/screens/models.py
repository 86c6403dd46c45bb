"""The models: what is on which disk, what would run how fast and why, loading and fetching with their progress."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable

from peerinfer.errors import PeerinferError
from tui.face import face_of
from tui.mesh.shelf import MODELS_MAX, ShelfModel, shelf_of
from tui.mesh.told import Told, number, parts
from tui.picture.canvas import Role, Runs
from tui.picture.plan import plan_lines, verdict
from tui.screens.base import FaceScreen
from tui.screens.confirm import ConfirmDialog
from tui.screens.load import LoadDialog
from tui.screens.pull import PullDialog
from tui.widgets.picture import Picture
from tui.widgets.tasks import Tasks
from tui.words import fit, harmless, sentence, size

PLANS_MAX: Final = 24
"""Models that are planned for by themselves when the screen is opened; others when they are pointed at."""
COLUMNS: Final = ("model", "size", "state", "would run", "where")


class ModelsScreen(FaceScreen):
    """A table, the plan for the row that is pointed at, and what is under way."""

    WHERE = "models"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "load", "Load"),
        Binding("u", "unload", "Unload"),
        Binding("p", "pull", "Pull"),
        Binding("d", "delete", "Delete"),
        Binding("c", "chat", "Chat"),
        Binding("r", "refresh", "Refresh", show=False),
        Binding("escape", "give_up", "Stop pulling"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Told] | None = None
        """What the daemon has; None until it said."""
        self._shelf: list[ShelfModel] = []
        self._rows: list[ShelfModel] = []
        """As they stand in the table."""
        self._plans: dict[str, Told] = {}
        """By digest."""

    def body(self) -> ComposeResult:
        """See `FaceScreen`."""
        with Horizontal(id="shelf"):
            yield DataTable[Text](id="models", cursor_type="row", zebra_stripes=False)
            with VerticalScroll(id="plan-room"):
                yield Picture(id="plan")
        yield Tasks(id="tasks")

    def on_mount(self) -> None:
        """Makes the table ready."""
        table = self._table()
        for column in COLUMNS:
            table.add_column(column, key=column)
        table.focus()

    def on_screen_resume(self) -> None:
        """See `FaceScreen`; files may have come or gone meanwhile."""
        super().on_screen_resume()
        self.action_refresh()

    def mesh_changed(self) -> None:
        """See `FaceScreen`."""
        super().mesh_changed()
        state = face_of(self).view.state
        shelf = shelf_of(self._told, state) if state is not None and self._told is not None else []
        if shelf != self._shelf:
            self._shelf = shelf
            self._fill()
        self._show_plan()

    @property
    def pointed(self) -> ShelfModel | None:
        """The model of the row that is pointed at."""
        row = self._table().cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    # ---- keys

    def action_refresh(self) -> None:
        """Asks anew what there is, and plans for it."""
        self._plans.clear()
        face_of(self).in_background(self._ask, "shelf")

    def action_load(self) -> None:
        """Loads the model, after asking how."""
        model = self.pointed
        if model is not None and not model.problem:
            face_of(self).push_screen(LoadDialog(model.name), self._load)

    def action_unload(self) -> None:
        """Lets the model go on all nodes."""
        model = self.pointed
        if model is None or not model.is_loaded:
            face_of(self).tell("It is not loaded.")
            return

        async def unload() -> None:
            await face_of(self).act("unload", {"model": model.name})

        question = ConfirmDialog(f"Unload {harmless(model.name)} on all machines?", "Answers that come from it end.")
        face_of(self).push_screen(
            question, lambda yes: face_of(self).in_background(unload, f"unload {model.name}") if yes else None
        )

    def action_pull(self) -> None:
        """Fetches a model, after asking which."""
        face_of(self).push_screen(PullDialog(), self._pull)

    def action_delete(self) -> None:
        """Deletes the files of the model on this machine, after asking."""
        model = self.pointed
        if model is None or not model.is_here:
            face_of(self).tell("It has no files on this machine.")
            return
        name = harmless(model.name)

        async def delete() -> None:
            freed = await face_of(self).act("rm", {"model": model.name})
            face_of(self).tell(f"{name} is deleted: {size(number(freed, 'freed_bytes') or 0.0)} are free again.")
            await self._ask()

        question = ConfirmDialog(f"Delete {name} from this machine?", f"{size(model.size_bytes)} become free.")
        face_of(self).push_screen(question, lambda yes: face_of(self).in_background(delete, "delete") if yes else None)

    def action_chat(self) -> None:
        """Chats with the model."""
        if self.pointed is not None:
            face_of(self).talk(model=self.pointed.name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to stop only while something is pulled."""
        del parameters
        return action != "give_up" or self.query_one(Tasks).is_pulling

    def action_give_up(self) -> None:
        """Stops what is being pulled, after asking."""
        question = ConfirmDialog("Stop pulling?", "What came is kept, and the next pull goes on from there.")
        face_of(self).push_screen(question, lambda yes: self.query_one(Tasks).cancel() if yes else None)

    @on(DataTable.RowHighlighted)
    def highlighted(self) -> None:
        """Another row: its plan."""
        self._show_plan()
        model = self.pointed
        if model is not None and model.digest and model.digest not in self._plans:
            face_of(self).in_background(lambda: self._plan(model), "plan")

    # ---- work

    def _load(self, wish: dict[str, Any] | None) -> None:
        if wish is not None:
            self.query_one(Tasks).run("load", wish, f"Loading {harmless(str(wish['model']))}", self._done)

    def _pull(self, reference: str | None) -> None:
        if reference:
            self.query_one(Tasks).run("pull", {"reference": reference}, f"Pulling {harmless(reference)}", self._done)

    def _done(self) -> None:
        self.action_refresh()

    async def _ask(self) -> None:
        told = await face_of(self).act("models")
        self._told = parts(told, "models", MODELS_MAX)
        self.mesh_changed()
        for model in self._shelf[:PLANS_MAX]:
            if model.digest and model.digest not in self._plans:
                await self._plan(model)

    async def _plan(self, model: ShelfModel) -> None:
        try:
            self._plans[model.digest] = await face_of(self).act("plan", {"model": model.digest})
        except PeerinferError as error:
            self._plans[model.digest] = {"infeasible": {"reason": str(error), "short_bytes": 0}}
        self._fill()
        self._show_plan()

    # ---- picture

    def _table(self) -> DataTable[Text]:
        return cast("DataTable[Text]", self.query_one("#models", DataTable))  # pyright: ignore[reportUnknownMemberType]

    def _fill(self) -> None:
        """Writes the table anew; the model that was pointed at stays so, wherever its row is now."""
        table, before = self._table(), self.pointed
        row = table.cursor_row
        if before is not None:
            same = ((each.name, each.digest) == (before.name, before.digest) for each in self._shelf)
            row = next((at for at, is_same in enumerate(same) if is_same), row)
        self._rows = list(self._shelf)
        table.clear()
        for model in self._rows:
            table.add_row(*self._cells(model))
        if self._rows:
            table.move_cursor(row=min(row, len(self._rows) - 1), animate=False)

    def _cells(self, model: ShelfModel) -> list[Text]:
        told = self._plans.get(model.digest)
        would, role = verdict(told) if told is not None else ("", Role.FAINT)
        if model.problem:
            would, role = "cannot be used", Role.BAD
        style = {Role.BAD: "bold", Role.FAINT: "dim"}.get(role, "")
        texts = (fit(harmless(model.name), 36), size(model.size_bytes) if model.size_bytes else "")
        return [*map(Text, texts), Text(model.state), Text(would, style=style), Text(model.where)]

    def _show_plan(self) -> None:
        model = self.pointed
        rows: list[Runs] = [[("No models are here yet: p fetches one.", Role.FAINT)]]
        if model is not None:
            told = self._plans.get(model.digest)
            rows = [[(harmless(model.name), Role.STRONG)]]
            if model.problem:
                rows.append([(sentence(model.problem), Role.BAD)])
            elif told is not None:
                rows += plan_lines(told)
            else:
                rows.append([("planning…", Role.FAINT)])
        picture = self.query_one("#plan", Picture)
        picture.show_wrapped(rows)
