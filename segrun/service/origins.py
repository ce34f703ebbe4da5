"""Who may speak to the service through a browser: requests that name another host, or come from another's page, are
refused.

A page from anywhere can make the browser in which it is open post to 127.0.0.1: its requests say so (Origin). One whose
own name suddenly leads to 127.0.0.1 (DNS rebinding) seems to be the service's own, but asks for that name (Host).

Starlette's TrustedHostMiddleware knows no addresses of IPv6 and no Origin; its CORSMiddleware answers what it does not
allow, and only keeps a browser from showing the answer to the page.
"""

import ipaddress
import socket
from typing import Optional, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from segrun.service.answers import ErrorAnswer
from segrun.service.counters import Metrics
from segrun.service.limits import Refused

ANY = "*"
PORTS = {"http": ":80", "https": ":443"}        # which are left out where they are meant


class Origins:
    """The hosts and origins of this service, and others' that are allowed.

    Args:
        allowed: origins, "https://example.org", whose pages may ask, and by whose names the service may be asked; "*"
            is any.
        host: that the service listens at.

    Raises:
        ValueError: one of them is no origin.
    """

    def __init__(self, allowed: Sequence[str] = (), host: str = ""):
        self.any = ANY in allowed
        self.allowed = [origin_of(each) for each in allowed if each != ANY]
        names = [host, "localhost", socket.gethostname(), *(urlsplit(each).hostname or "" for each in self.allowed)]
        self.names = {name.lower() for name in names if name}

    def refusal(self, host: str, origin: Optional[str]) -> Optional[Refused]:
        """Why a request with these headers is refused, if it is."""
        if self.any:
            return None
        if not self.knows(host):
            return Refused(403, f"the service does not go by the name of {host[:80]!r}; its --allow_origin can say "
                           "that it does")
        if origin is not None and not self.allows(origin, host):
            return Refused(403, f"pages of {origin[:80]!r} may not ask this service; its --allow_origin can allow it")
        return None

    def knows(self, host: str) -> bool:
        """A name of this service, or an address, which nobody can make lead elsewhere. Browsers always say one."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return not host or name in self.names or name.endswith(".localhost") or is_address(name)

    def allows(self, origin: str, host: str) -> bool:
        """Whether it is allowed, or the service's own: the same host, with or without TLS before it."""
        scheme, _, rest = origin.lower().partition("://")
        port = PORTS.get(scheme, "")
        return origin.lower() in self.allowed or bool(rest) and without(rest, port) == without(host.lower(), port)


class Door:
    """Lets in, by Host and Origin, and hands on to the app."""

    def __init__(self, app: ASGIApp, origins: Origins, metrics: Metrics):
        self.app, self.origins, self.metrics = app, origins, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self.origins.refusal(headers.get("host", ""), headers.get("origin"))
            if refused is not None:
                self.metrics.count(str(refused.status))
                await ErrorAnswer(refused)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def origin_of(text: str) -> str:
    """As browsers send it, or ValueError."""
    try:
        parts = urlsplit(text.lower())
        valid = parts.scheme in PORTS and bool(parts.hostname) and parts.path in ("", "/") and "@" not in parts.netloc \
            and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:      # a port that is no number
        valid = False
    if not valid:
        raise ValueError(f"--allow_origin {text}: an origin is http:// or https://, a host, and a port where it is not "
                         "the usual one, as https://example.org; * is any")
    return f"{parts.scheme}://{without(parts.netloc, PORTS[parts.scheme])}"


def without(text: str, end: str) -> str:
    return text[:-len(end)] if end and text.endswith(end) else text


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return True
