"""Who may go on listening to a subscription while the owner changes what they may do."""

from __future__ import annotations

from lomas_gql.auth import Viewer
from lomas_gql.database.engine import Database
from lomas_gql.database.models import Release, User
from lomas_gql.schema.ids import number_in
from lomas_gql.services import settling
from tests.conftest import Server
from tests.schema.test_streams import FOLLOW, conversation, running_release, subscribe, told


def test_a_listener_who_may_not_query_any_more_still_listens(server: Server) -> None:
    client = server.user()
    id = running_release(server, client)

    async def end(database: Database) -> None:
        async with database.writing() as session:
            release = await session.get(Release, number_in(id, "Release"))
            assert release is not None
            user = await session.get(User, release.user_id)
            assert user is not None
            user.may_query = False
        assert await settling.cancel(database, Viewer(release.user_id, user.name, may_query=True), release.id)

    with conversation(client) as connection:
        subscribe(connection, "1", FOLLOW, id=id)
        assert "RUNNING" in str(told(connection, until="next"))
        server.run(end)
        [message, _] = told(connection)
        assert message["payload"] == {"data": {"release": {"status": "CANCELLED"}}}
