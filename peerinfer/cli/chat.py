"""`chat`: one question and its answer, or a conversation."""

from __future__ import annotations

import argparse
import sys

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.models import model_argument
from peerinfer.cli.show import note
from peerinfer.cli.verbs import Verbs, add_verb, home_of, whole_number, with_daemon
from peerinfer.errors import PeerinferError

TEMPERATURE = 0.7
"""Livelier than greedy and calmer than OpenAI's 1, at which small models ramble."""
_GREETING = "Type a message and press Enter. Ctrl-C stops an answer; Ctrl-D (on Windows Ctrl-Z, Enter) leaves."


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    chat = add_verb(
        verbs,
        "chat",
        "talk to a model",
        run_chat,
        "  peerinfer chat                                a conversation with the model that is loaded\n"
        '  peerinfer chat smollm2 "Why is the sky blue?"  one answer\n'
        '  peerinfer chat "Why is the sky blue?"          the same of the model that is loaded\n'
        "  cat letter.txt | peerinfer chat smollm2        the prompt comes from a pipe",
    )
    chat.add_argument(
        "model", nargs="?", default="", metavar="MODEL", help="its name (default: the one that is loaded)"
    )
    chat.add_argument(
        "prompt", nargs="?", default="", metavar="PROMPT", help="one question; a lone argument with spaces is one too"
    )
    chat.add_argument("--private", action="store_true", help="run on this machine alone, or fail saying so")
    chat.add_argument("--system", default="", metavar="TEXT", help="instructions that stand before the conversation")
    chat.add_argument("--max-tokens", type=whole_number(1, 1 << 24), metavar="N", help="most tokens of an answer")
    chat.add_argument(
        "--temperature", type=float, default=TEMPERATURE, metavar="T", help=f"0 is greedy ({TEMPERATURE})"
    )


def run_chat(args: argparse.Namespace) -> int:
    """Answers one prompt, or talks until the person leaves."""
    model, prompt = args.model, args.prompt
    if not prompt and any(character.isspace() for character in model):
        model, prompt = "", model
    if not prompt and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise PeerinferError("There is no prompt: give one as an argument, or through a pipe.")
    messages = [_message("system", args.system)] if args.system else []
    body: JsonObject = {
        "model": model_argument(model),
        "messages": messages,
        "temperature": args.temperature,
        "private": args.private,
    }
    if args.max_tokens is not None:
        body["max_tokens"] = args.max_tokens
    if not prompt:
        return _converse(args, body)
    messages.append(_message("user", prompt))
    _answer(args, body)
    return 0


def _converse(args: argparse.Namespace, body: JsonObject) -> int:
    """Turn by turn; what was said so far goes along with every turn."""
    ApiClient(home_of(args))  # without a daemon, say so before the first question
    note(_GREETING)
    messages: list[JsonObject] = body["messages"]
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            note("")
            return 0
        except KeyboardInterrupt:
            note("")
            continue
        if not text:
            continue
        messages.append(_message("user", text))
        try:
            messages.append(_message("assistant", _answer(args, body)))
        except KeyboardInterrupt:
            note("\n(stopped)")
            messages.pop()
        except PeerinferError as error:
            note(f"peerinfer: {error}")
            messages.pop()


def _answer(args: argparse.Namespace, body: JsonObject) -> str:
    """Prints the answer as it comes, and returns it."""
    pieces: list[str] = []

    async def act(client: ApiClient) -> int:
        async for chunk in client.chat(body):
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content", "")
                pieces.append(piece)
                print(piece, end="", flush=True)
        return 0

    try:
        with_daemon(args, act)
    finally:
        if pieces:
            print(flush=True)
    return "".join(pieces)


def _message(role: str, content: str) -> JsonObject:
    return {"role": role, "content": content}
