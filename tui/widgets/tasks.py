"""What is under way: loads and pulls, each with a bar; what failed stays with its reason until the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from textual.worker import Worker

from peerinfer.errors import PeerinferError
from tui.face import face_of
from tui.mesh.told import Told, number, part, text
from tui.picture.canvas import Role, Runs, bar
from tui.widgets.picture import Picture
from tui.words import of_size, percent, sentence

TASKS_MAX: Final = 6
"""Under way at once; each is a connection to the daemon."""
BAR_WIDTH: Final = 24


@dataclass(slots=True, eq=False)
class _Task:
    text: str
    share: float | None = None
    figures: str = ""
    error: str = ""
    worker: Worker[None] | None = None
    is_pull: bool = False


class Tasks(Picture):
    """Rows of progress."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tasks: list[_Task] = []

    def run(self, action: str, body: dict[str, Any], text: str, done: Callable[[], None]) -> None:
        """Follows a long action of the daemon; `done` is called when it succeeded."""
        self._tasks = [task for task in self._tasks if not task.error]
        if len(self._tasks) >= TASKS_MAX:
            face_of(self).tell(f"{TASKS_MAX} are under way already: wait for one of them.")
            return
        task = _Task(text, is_pull=action == "pull")
        self._tasks.append(task)
        self._draw()
        task.worker = self.run_worker(partial(self._follow, task, action, body, done), group="tasks")

    @property
    def is_pulling(self) -> bool:
        """Whether something is pulled that ends with this face."""
        return any(task.is_pull and not task.error for task in self._tasks)

    def cancel(self) -> None:
        """Stops what is being pulled; what came of it is kept for the next time. Loads go on."""
        for task in self._tasks:
            if task.is_pull and task.worker is not None:
                task.worker.cancel()

    async def _follow(self, task: _Task, action: str, body: dict[str, Any], done: Callable[[], None]) -> None:
        try:
            async for message in face_of(self).follow(action, body):
                if "progress" in message:
                    _take(task, part(message, "progress"))
                    self._draw()
        except PeerinferError as error:
            task.error = sentence(str(error))
        else:
            done()
        finally:
            if not task.error:
                self._tasks.remove(task)
            self._draw()

    def _draw(self) -> None:
        if not self.is_attached:  # the app is leaving
            return
        self.show_wrapped([_row(task) for task in self._tasks])
        self.screen.refresh_bindings()


def _take(task: _Task, told: Told) -> None:
    whole = number(told, "total_bytes")
    task.share = number(told, "share")
    task.text = sentence(text(told, "text") or task.text)
    task.figures = of_size(number(told, "done_bytes") or 0.0, whole) if whole else ""


def _row(task: _Task) -> Runs:
    if task.error:
        return [("✗ ", Role.BAD), (f"{task.text}: {task.error}", Role.BAD)]
    share = [(f" {percent(task.share)}", Role.PLAIN)] if task.share is not None else []
    return [*bar(task.share, BAR_WIDTH, Role.ACTIVE), *share, (f" {task.text} {task.figures}", Role.PLAIN)]
