"""Reads requests as GraphQL over HTTP has them: what cannot be read for certain is refused, never guessed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request

from lomas_gql.schema.limits import MAX_VALUES

JSON_TYPE = "application/json"
GRAPHQL_TYPE = "application/graphql-response+json"
STREAM_TYPE = "text/event-stream"
# In this order where a client likes several equally well.
ANSWERS = (JSON_TYPE, GRAPHQL_TYPE, STREAM_TYPE)

_MAX_HEADER = 4_096
_END = object()
_QUALITY = re.compile(r";\s*q=([01](?:\.\d{1,3})?)\s*(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What one request asks for."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


class Refused(Exception):
    """A request that is no GraphQL: the client's mistake, told with a status of HTTP."""

    def __init__(
        self, status: int, message: str, code: str = "BAD_REQUEST", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers


async def read(request: Request, most: int) -> Asked:
    """What a GET or a POST asks for. `most` is the largest body, in bytes.

    Raises:
        Refused: it is malformed, too large, or of another type than JSON.
    """
    if request.method == "GET":
        return _asked(_in_url(request.scope["query_string"], most))
    if request.method == "POST":
        _check_type(request.headers)
        return _asked(decoded(await _body(request, most)))
    raise Refused(405, "Ask by GET or POST.", "METHOD_NOT_ALLOWED", {"Allow": "GET, POST"})


def answer_type(request: Request) -> str:
    """The media type in which the client wants its answer; JSON where it does not say.

    Raises:
        Refused: none that this server has.
    """
    accept = ",".join(request.headers.getlist("accept"))
    if not accept.strip(", \t"):
        return JSON_TYPE
    if len(accept) > _MAX_HEADER:
        raise Refused(431, f"The Accept header is longer than {_MAX_HEADER} characters.")
    if (found := preferred(accept, ANSWERS)) is None:
        raise Refused(406, f"Accept one of {', '.join(ANSWERS)}.", "NOT_ACCEPTABLE")
    return found


@lru_cache(maxsize=256)
def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """The offered media type that an Accept header ranks highest: by quality, then by its own order."""
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        said = _QUALITY.search(part)
        ranges.setdefault(part.partition(";")[0].strip().lower(), (float(said[1]) if said else 1.0, -place))
    best: tuple[float, int] = (0.0, 0)
    found = None
    for media_type in offered:
        # The most specific range decides.
        for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
            if wanted in ranges:
                if ranges[wanted][0] > 0 and ranges[wanted] > best:
                    best, found = ranges[wanted], media_type
                break
    return found


def decoded(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        Refused: it is not JSON in UTF-8, has a number, a nesting or more values than can be held, or a null
            character or half of a surrogate pair in a text: no database or library could hold that.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
            if any(isinstance(each, str) and "\0" in each for each in _values(value)):
                raise ValueError("a text with a null character")
    except (ValueError, RecursionError):
        raise Refused(400, "The request is not JSON in UTF-8.") from None
    # The cheap test first, by the marks that stand before values, or within texts.
    if (
        sum(map(text.count, ",[{")) > MAX_VALUES
        and sum(1 for _ in islice(_values(value), MAX_VALUES + 1)) > MAX_VALUES
    ):
        raise Refused(413, f"The request has more than {MAX_VALUES} values.", "MAX_VALUES_EXCEEDED")
    return value


def _values(value: Any) -> Iterator[Any]:
    """The values within a value, at all levels."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        yield from inner
        waiting.extend(inner)


def _check_type(headers: Headers) -> None:
    said = headers.getlist("content-type")
    media_type, *parameters = said[0].split(";") if len(said) == 1 else [""]
    if media_type.strip().lower() != JSON_TYPE:
        raise Refused(415, f"Send the request as Content-Type: {JSON_TYPE}.", "UNSUPPORTED_MEDIA_TYPE")
    charsets = {
        value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters)
        if name.strip().lower() == "charset"
    }
    if charsets - {"utf-8", "utf8"} or headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "Send the request in UTF-8, and not compressed.", "UNSUPPORTED_MEDIA_TYPE")


async def _body(request: Request, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refused(413, f"The body is larger than {most} bytes.", "MAX_BODY_BYTES_EXCEEDED")
        chunks.append(chunk)
    return b"".join(chunks)


def _in_url(query_string: bytes, most: int) -> dict[str, Any]:
    if len(query_string) > most:
        raise Refused(413, f"The URL is longer than {most} bytes.", "MAX_BODY_BYTES_EXCEEDED")
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Refused(400, "The URL's parameters cannot be read.") from None
    found: dict[str, Any] = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(400, "A parameter of the URL is given twice.")
    for name in ("variables", "extensions"):
        found[name] = decoded(found[name]) if found.get(name) else None
    return found


def _asked(fields: Any) -> Asked:
    if isinstance(fields, list):
        raise Refused(400, "A batch is not possible: send one operation per request.")
    if not isinstance(fields, dict):
        raise Refused(400, "The request is not a JSON object.")
    query, name, variables = fields.get("query"), fields.get("operationName"), fields.get("variables")
    if not isinstance(query, str) or not query:
        raise Refused(400, "query must be a string with a GraphQL document.")
    if not isinstance(name, str | None):
        raise Refused(400, "operationName must be a string, if given.")
    if not isinstance(variables, dict | None):
        raise Refused(400, "variables must be an object, if given.")
    if not isinstance(fields.get("extensions"), dict | None):
        raise Refused(400, "extensions must be an object, if given.")
    return Asked(query, variables, name)


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_not_json, parse_float=_finite)
