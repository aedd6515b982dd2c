"""What can be followed."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import strawberry

from lomas_gql.errors import Unauthenticated
from lomas_gql.schema.context import Info
from lomas_gql.schema.ids import number_in
from lomas_gql.schema.queries import ReleaseId
from lomas_gql.schema.types import Release
from lomas_gql.services import running


@strawberry.type(description="What can be followed, over graphql-transport-ws or graphql-sse.")
class Subscription:
    @strawberry.subscription(description="Every change of one of the viewer's releases, until it has ended.")
    async def release(self, info: Info, id: ReleaseId) -> AsyncGenerator[Release, None]:
        viewer = info.context.viewer
        async for row in running.follow(info.context.runtime, viewer, number_in(id, "Release") or 0):
            # A token may be revoked while its bearer listens.
            listener = await running.outlasting(info.context.runtime, info.context.anew().sign_in)
            if listener is None or listener.id != viewer.id:
                raise Unauthenticated("Your token does not hold any more.")
            yield Release.of(row)
