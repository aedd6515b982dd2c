"""Opaque ids and cursors. What they hold is ours alone: a client that builds one gets a clear error at most."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

from lomas_gql.errors import BadCursor


def opaque(kind: str, value: object) -> str:
    """An id or cursor for `value`."""
    return urlsafe_b64encode(f"{kind}:{value}".encode()).decode().rstrip("=")


def opened(text: str) -> tuple[str, str] | None:
    """The kind and value of an id or cursor; None where this server did not make it."""
    try:
        kind, separator, value = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    return (kind, value) if separator else None


def number_in(text: str, kind: str) -> int | None:
    """The number in an id of that kind; None where it is none."""
    found = opened(text)
    if found is None or found[0] != kind or not found[1].isdecimal() or len(found[1]) > 18:
        return None
    return int(found[1])


def cursor_number(cursor: str) -> int:
    """The number in a cursor.

    Raises:
        BadCursor: it is not one of ours.
    """
    number = number_in(cursor, "after")
    if number is None:
        raise BadCursor("The cursor in `after` was not handed out by this server.")
    return number


def cursor_text(cursor: str) -> str:
    """The text in a cursor.

    Raises:
        BadCursor: it is not one of ours.
    """
    found = opened(cursor)
    if found is None or found[0] != "after":
        raise BadCursor("The cursor in `after` was not handed out by this server.")
    return found[1]
