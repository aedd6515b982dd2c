"""What a running server is made of: built once by the app, and handed to whoever needs it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cachetools import LRUCache

from lomas_gql.database.engine import Database
from lomas_gql.datasets.sources import Source
from lomas_gql.errors import SourceUnavailable
from lomas_gql.libraries.base import Answer
from lomas_gql.metadata import Metadata
from lomas_gql.privacy import PrivacyLoss
from lomas_gql.services.jobs import Failed
from lomas_gql.services.leases import Lease
from lomas_gql.services.watching import Watch
from lomas_gql.settings import Settings
from lomas_gql.workers.pool import Workers


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
    # What queries cost that were tried on dummy rows: by user, since another's wait would tell of them.
    tried: LRUCache[tuple[int, str, Metadata], PrivacyLoss] = field(default_factory=lambda: LRUCache(maxsize=10_000))
    # What is known of remote sources, and the readings that run here now or failed lately
    # (services/preparation.py).
    looks: dict[tuple[Source, Metadata], asyncio.Task[tuple[str | SourceUnavailable, float]]] = field(
        default_factory=dict
    )
    # The threads that ask them: one that hangs keeps the others of its source from starting.
    asking: dict[tuple[Source, Metadata], asyncio.Task[str | SourceUnavailable]] = field(default_factory=dict)
    # Whether versions whose rows stay where they are can be queried there.
    checks: LRUCache[str, asyncio.Task[SourceUnavailable | None]] = field(
        default_factory=lambda: LRUCache(maxsize=10_000)
    )
    readings: dict[Path, asyncio.Task[Path | SourceUnavailable]] = field(default_factory=dict)
    # How releases are followed from here.
    watch: Watch = field(default_factory=Watch)
    # The calls that run here now, by the id of their release.
    running: dict[int, asyncio.Task[Answer | Failed]] = field(default_factory=dict)

    @cached_property
    def fetching(self) -> asyncio.Semaphore:
        """Turns at reading remote sources: of two or more private workers, slow ones leave half to releases."""
        return asyncio.Semaphore(max(1, self.settings.private_workers // 2))
