"""What goes back: pictures, JSON, and errors as one line of JSON."""

import asyncio
import contextlib
import json
from typing import Dict

from fastapi import Response
from starlette.types import Receive, Scope, Send

from segrun.service.limits import LINGER, Refused

JSON = "application/json"


def as_json(content: object) -> bytes:
    """In one line."""
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def error_bytes(message: str) -> bytes:
    return as_json({"error": message})


def predicted(content: object, seconds: Dict[str, float]) -> Response:
    """A PNG's bytes, or what becomes JSON, with the steps' times as browsers show them (Server-Timing)."""
    timing = ", ".join(f"{step};dur={1000 * value:.3f}" for step, value in seconds.items())
    picture = isinstance(content, bytes)
    return Response(content if picture else as_json(content), media_type="image/png" if picture else JSON,
                    headers={"Server-Timing": timing, "Vary": "Accept"})


class ErrorAnswer(Response):
    """An error, behind which the connection ends. A client that still sends its body would not see it if that happened
    at once, as its system is then told of a broken connection: for LINGER seconds what comes is read and forgotten."""

    def __init__(self, refused: Refused):
        headers = {"Connection": "close"}
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
        super().__init__(error_bytes(str(refused)), refused.status, headers, JSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # Who waits to be told to send a body (100-continue) has not begun.
        if not any(name == b"expect" for name, _ in scope["headers"]):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(forget(receive), LINGER)
        await send({"type": "http.response.body", "body": b""})


async def forget(receive: Receive) -> None:
    """Reads a body to its end, or the client's."""
    while (await receive()).get("more_body"):
        pass
