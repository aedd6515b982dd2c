"""GraphiQL, for browsers that ask for the endpoint: served from here alone, under a strict policy."""

from __future__ import annotations

import json
import secrets
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent / "graphiql"
STATIC = HERE / "static"
FETCHED = STATIC / "npm" / "graphiql.min.js"
"""Made by `make web`; never committed."""

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        # Style attributes are not needed: GraphiQL sets styles through the DOM, which no policy restricts.
        "style-src 'nonce-{nonce}'",
        # GraphiQL's style sheet carries its fonts, and CodeMirror's marks, as data.
        "font-src data:",
        "img-src 'self' data:",
        # 'self' covers this origin's WebSockets too.
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def is_asked_for(request: Request) -> bool:
    """Whether a browser opens the endpoint: it reads HTML rather than JSON, and sends no query."""
    if request.method not in ("GET", "HEAD") or "query" in request.query_params:
        return False
    accept = request.headers.get("accept", "")
    json_types = ("application/json", "application/graphql-response+json")
    return _quality(accept, "text/html") > max(_quality(accept, type) for type in json_types)


def page() -> Response:
    """The editor; or, where its files are not fetched, what to type."""
    nonce = secrets.token_urlsafe(16)
    name = "page.html" if FETCHED.exists() else "missing.html"
    headers = {
        "Content-Security-Policy": POLICY.format(nonce=nonce),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        # A nonce is good once.
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }
    return HTMLResponse(_template(name).substitute(nonce=nonce, examples=embedded(examples())), headers=headers)


class Files(StaticFiles):
    """The page's scripts and styles. Browsers keep them, and ask each time whether they are still the same."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


@cache
def examples() -> list[dict[str, str]]:
    """The tabs that a first visit opens: queries on the demo's PENGUIN, and their variables in JSON."""
    queries = sorted((HERE / "examples").glob("*.graphql"))
    return [{"query": _text(query), "variables": _text(query.with_suffix(".json"))} for query in queries]


def _text(file: Path) -> str:
    return file.read_text("utf-8").rstrip()


@cache
def _template(name: str) -> Template:
    return Template((HERE / name).read_text("utf-8"))


def embedded(value: object) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(value).replace("<", "\\u003c")


def _quality(accept: str, media_type: str) -> float:
    """How much an Accept header wants a type that it names, from 0 to 1."""
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name == media_type:
            said = [word.removeprefix("q=") for word in parameters if word.startswith("q=")]
            try:
                return float(said[0]) if said else 1.0
            except ValueError:
                return 0.0
    return 0.0
