"""Opaque ids and cursors. What they hold is ours alone: a client that builds one gets a clear error at most."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from lomas_gql.errors import BadCursor

MAX_CURSOR = 2_000
"""Characters of a cursor: more than the longest name of a dataset makes."""


def opaque(kind: str, value: object) -> str:
    """An id or cursor for `value`."""
    return urlsafe_b64encode(f"{kind}:{value}".encode()).decode().rstrip("=")


def opened(text: str) -> tuple[str, str] | None:
    """The kind and value of an id or cursor; None where this server did not make it."""
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        kind, separator, value = content.decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    # Base64 is read leniently: only one spelling of an id is ours.
    return (kind, value) if separator and opaque(kind, value) == text else None


def number_in(text: str, kind: str) -> int | None:
    """The number in an id of that kind; None where it is none."""
    found = opened(text)
    number = _number(found[1]) if found is not None and found[0] == kind else None
    # PostgreSQL compares a column with no number that the column cannot hold.
    return number if number is not None and (kind == "Release" or number < 2**31) else None


@dataclass(frozen=True)
class Listing:
    """One user's list of one kind of thing: its cursors hold nowhere else."""

    name: str

    @classmethod
    def of_datasets(cls, user_id: int) -> Listing:
        return cls(f"datasets of {user_id}")

    @classmethod
    def of_releases(cls, user_id: int, dataset_id: int) -> Listing:
        return cls(f"releases of {user_id} on {dataset_id}")

    def cursor(self, place: object) -> str:
        """A cursor for what stands at `place` in this list."""
        return opaque(self.name, place)

    def place(self, cursor: str) -> str:
        """Where in this list a cursor points.

        Raises:
            BadCursor: it is not a cursor of this list.
        """
        found = opened(cursor) if len(cursor) <= MAX_CURSOR else None
        if found is None or found[0] != self.name or "\0" in found[1]:
            raise BadCursor("The cursor in `after` is none of this list: take one from its own pages.")
        return found[1]

    def number(self, cursor: str) -> int:
        """The number in a cursor of this list.

        Raises:
            BadCursor: it is not a cursor of this list.
        """
        number = _number(self.place(cursor))
        if number is None:
            raise BadCursor("The cursor in `after` was not handed out by this server.")
        return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
