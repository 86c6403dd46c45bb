"""What this node knows, for programs to read: the state, and a page that names the routes."""

from __future__ import annotations

from aiohttp import web

from peerinfer import __version__
from peerinfer.api.actions import NodeActions
from peerinfer.api.replies import json_reply

_WELCOME = f"""peerinfer {__version__}

POST /v1/chat/completions     OpenAI's chat API, streamed or whole
POST /v1/completions          the same without a chat template
GET  /v1/models               models that are loaded
GET  /peerinfer/state         members, links and instances of this mesh
GET  /peerinfer/events        the same, then every change of it as it happens (server-sent events)
POST /peerinfer/admin/...     what the command line does; needs the token
"""


class StateRoutes:
    """Reads only; nothing here changes anything."""

    def __init__(self, actions: NodeActions) -> None:
        self._actions = actions

    def routes(self) -> list[web.RouteDef]:
        """The routes of this room."""
        return [web.get("/", self._welcome), web.get("/peerinfer/state", self._state)]

    async def _welcome(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=_WELCOME, headers={"X-Content-Type-Options": "nosniff"})

    async def _state(self, _: web.Request) -> web.StreamResponse:
        return json_reply(self._actions.status())
