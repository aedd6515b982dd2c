"""CSV and Parquet files behind an http or https URL. Only owners name URLs, in the files that they import."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import polars as pl

from lomas_gql.datasets.fetching import CONNECT_SECONDS, SILENT_SECONDS, login, save
from lomas_gql.datasets.files import fetched_schema, table
from lomas_gql.errors import SourceUnavailable
from lomas_gql.settings import Settings
from lomas_gql.words import Engine

if TYPE_CHECKING:
    import httpx

_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class UrlSource:
    """A CSV or Parquet file at a URL; `credentials` names a user and password for HTTP's basic authentication."""

    kind: ClassVar[str] = "url"
    engine: ClassVar[Engine] = Engine.DUCKDB
    # Not shown: some servers expect a secret in its query.
    url: str = field(repr=False)
    credentials: str | None = None

    def describe(self) -> str:
        """In one line, for the owner; without the query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    def state(self) -> tuple[Any, ...]:
        """What changes when the rows do: ETag, Last-Modified and size, as the server tells them.

        A server that tells neither of the first two is taken to change every LOMAS_REFRESH_SECONDS.

        Raises:
            SourceUnavailable: the server does not answer, or not with the file.
        """
        with self._client() as client:
            answer = client.head(self.url)
            if not answer.is_success:
                # Not every server knows HEAD: the file is asked for, and its headers alone are read.
                with client.stream("GET", self.url) as streamed:
                    answer = self._successful(streamed)
        told = tuple(answer.headers.get(name) for name in ("etag", "last-modified", "content-length"))
        period = None if told[0] or told[1] else int(time.time() // Settings().refresh_seconds)
        return self.kind, self.url, *told, period

    def schema(self) -> pl.Schema:
        """The file's columns and their types.

        Raises:
            SourceUnavailable: the server does not answer, or with neither CSV nor Parquet.
        """
        return fetched_schema(self.chunks(), self._name, self.describe())

    def scan(self, columns: Sequence[str], folder: Path) -> pl.LazyFrame:
        """The file's rows, fetched into `folder`.

        Raises:
            SourceUnavailable: the server does not answer, or not with the file.
        """
        return table(save(self.chunks(), folder / "rows", self.describe()), self._name)

    def chunks(self) -> Generator[bytes]:
        """The file's bytes, as they come.

        Raises:
            SourceUnavailable: the server does not answer, or not with the file.
        """
        with self._client() as client, client.stream("GET", self.url) as answer:
            yield from self._successful(answer).iter_bytes(2**20)

    @property
    def _name(self) -> str:
        return urlsplit(self.url).path

    def _successful(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            raise SourceUnavailable(f"{self.describe()} answers with status {answer.status_code}")
        return answer

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        """A client whose errors say no more than their kind: their text can hold a URL's query."""
        import httpx

        secrets = login(self.credentials).secrets if self.credentials else None
        client = httpx.Client(
            auth=secrets,
            follow_redirects=True,
            max_redirects=_MOST_REDIRECTS,
            timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
            # As it is stored: sizes are those of the file, and nothing unfolds to more than was sent.
            headers={"Accept-Encoding": "identity"},
            event_hooks={"request": [self._stays_encrypted]},
        )
        try:
            with client:
                yield client
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnavailable(f"{self.describe()} cannot be fetched: {type(error).__name__}") from None

    def _stays_encrypted(self, request: httpx.Request) -> None:
        if self.url.lower().startswith("https:") and request.url.scheme != "https":
            raise SourceUnavailable(f"{self.describe()} leads to a URL without encryption")
