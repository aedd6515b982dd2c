"""API tokens: made once, listed without their secret, revoked at once, and recognised on each request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from lomas_gql.auth import Viewer, bearer, digest_of, new_secret
from lomas_gql.database import chain
from lomas_gql.database.engine import Database
from lomas_gql.database.models import AuditKind, Token, User, now
from lomas_gql.errors import AdministrationError
from lomas_gql.services import audit


@dataclass(frozen=True)
class TokenInfo:
    """A token without its secret."""

    token: Token
    user: str

    @property
    def state(self) -> str:
        if self.token.revoked_at is not None:
            return "revoked"
        return "expired" if _has_expired(self.token) else "valid"


async def viewer_of(session: AsyncSession, authorization: str | None) -> Viewer | None:
    """The user whose token the header carries; None where there is none that holds."""
    secret = bearer(authorization)
    if secret is None:
        return None
    found = await session.exec(
        select(User, Token)
        .join(Token, col(Token.user_id) == col(User.id))
        .where(Token.digest == digest_of(secret), col(Token.revoked_at).is_(None), col(User.removed_at).is_(None))
    )
    row = found.first()
    if row is None or _has_expired(row[1]):
        return None
    return Viewer(row[0].id, row[0].name, row[0].may_query)


async def create_token(database: Database, user_name: str, days: float | None) -> str:
    """A new token for a user. Its secret is returned, and never seen again.

    Raises:
        AdministrationError: no such user, or days that are not above 0 and at most 36500.
    """
    if days is not None and not 0 < days <= 36_500:
        raise AdministrationError("a token can last from above 0 to 36500 days")
    async with database.administering() as session:
        user = (await session.exec(select(User).where(User.name == user_name))).first()
        if user is None or user.removed_at is not None:
            raise AdministrationError(f"there is no user {user_name}; see: lomas-gql user list")
        secret = new_secret()
        expires_at = now() + timedelta(days=days) if days is not None else None
        token = Token(user_id=user.id, digest=digest_of(secret), expires_at=expires_at)
        session.add(token)
        await session.flush()
        facts = {"token": token.id, "user": user.name, "credential": chain.credential(token)}
        await audit.record(session, AuditKind.TOKEN_CREATED, facts)
    return secret


async def tokens(database: Database) -> list[TokenInfo]:
    """All tokens ever made, without their secrets."""
    async with database.reading() as session:
        found = await session.exec(
            select(Token, User.name).join(User, col(Token.user_id) == col(User.id)).order_by(col(Token.id))
        )
        return [TokenInfo(token, name) for token, name in found]


async def revoke_token(database: Database, id: int) -> None:
    """Ends a token at once.

    Raises:
        AdministrationError: no such token.
    """
    async with database.administering() as session:
        token = await session.get(Token, id)
        if token is None:
            raise AdministrationError(f"there is no token {id}; see: lomas-gql token list")
        if token.revoked_at is None:
            token.revoked_at = now()
            await audit.record(session, AuditKind.TOKEN_REVOKED, {"token": token.id})


def _has_expired(token: Token) -> bool:
    return token.expires_at is not None and token.expires_at <= now()
