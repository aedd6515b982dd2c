"""How errors outside the result unions look: each has a code, and unexpected ones are masked."""

from __future__ import annotations

import logging
import re
import secrets

from graphql import GraphQLError

from lomas_gql.errors import LomasError

log = logging.getLogger("lomas_gql.errors")

MAX_MESSAGE = 300
"""Characters of an error's text."""

# Strawberry can leave out those for fields alone.
_SUGGESTION = re.compile(r" Did you mean [^?]*\?")


def presented(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it.

    The request's own mistakes keep their text. Sign-in and limits have a code. Anything else is a bug: the
    client gets an id, under which the log has the kind of error and where it was raised, but not its text,
    which may hold a private value.
    """
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, LomasError):
        return _replaced(error, cause.message, getattr(cause, "code", "BAD_USER_INPUT"))
    if cause is None or isinstance(cause, GraphQLError):
        code = (error.extensions or {}).get("code", "BAD_USER_INPUT")
        return _replaced(error, _told(error.message), str(code))
    id = secrets.token_hex(8)
    log.error("error %s at %s: %s", id, error.path, _where(cause))
    message = f"Something went wrong on the server. Its log has more under the id {id}."
    return _replaced(error, message, "INTERNAL_SERVER_ERROR", id=id)


def _told(message: str) -> str:
    """What graphql-core says, without guesses, and without the whole of a long literal that it speaks of."""
    plain = _SUGGESTION.sub("", message)
    return plain if len(plain) <= MAX_MESSAGE else f"{plain[:MAX_MESSAGE]} …"


def _replaced(error: GraphQLError, message: str, code: str, **extensions: str) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions={"code": code, **extensions},
    )


def _where(cause: BaseException) -> str:
    trace, place = cause.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(cause).__name__} raised in {place}"
