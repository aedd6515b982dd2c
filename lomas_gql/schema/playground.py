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

from lomas_gql.schema.requests import ANSWERS, preferred

HERE = Path(__file__).parent / "graphiql"
STATIC = HERE / "static"
FETCHED = STATIC / "npm" / "graphiql.min.js"
"""Made by `make web`; never committed."""
MOST = 1_000
"""Characters of an Accept header. Browsers send fewer."""

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
    accept = request.headers.get("accept", "")
    if request.method != "GET" or "query" in request.query_params or len(accept) > MOST:
        return False
    return preferred(accept, (*ANSWERS, "text/html")) == "text/html"


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
