"""What a running server is made of: built once by the app, and handed to whoever needs it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from lomas_gql.database.engine import Database
from lomas_gql.services import ledger
from lomas_gql.services.ledger import Lease
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """The database, this process's lease on what it runs, and its workers.

    `public` workers never see a private row; only `private` ones open prepared files. So an estimate cannot
    read private data by mistake, and a long release does not hold up anybody's estimates.
    """

    settings: Settings
    database: Database
    lease: Lease
    public: Workers
    private: Workers


async def keep_lease(runtime: Runtime) -> None:
    """Renews this server's lease and settles what dead servers left, until cancelled."""
    while True:
        await asyncio.sleep(runtime.lease.seconds / 3)
        try:
            await ledger.renew(runtime.database, runtime.lease)
            await ledger.interrupt_dead(runtime.database, runtime.lease)
        except Exception as error:  # noqa: BLE001 (the database may be away for a while: try again)
            log.warning("The lease was not renewed: %s", type(error).__name__)
