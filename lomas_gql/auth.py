"""Who is asking: API tokens, of which the server keeps only a hash."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from lomas_gql.errors import Forbidden

_PREFIX = "lomas_"


@dataclass(frozen=True)
class Viewer:
    """A signed-in user."""

    id: int
    name: str
    may_query: bool

    def check_may_query(self) -> None:
        """Raises Forbidden where this user may look but not query."""
        if not self.may_query:
            raise Forbidden("You may not run queries; ask the data owner.")


def bearer(authorization: str | None) -> str | None:
    """The secret in an `Authorization: Bearer …` header, if it is one."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def new_secret() -> str:
    """A token's secret: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the server keeps of a secret. A fast hash is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
