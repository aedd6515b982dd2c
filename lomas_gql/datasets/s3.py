"""CSV and Parquet objects in S3 and what speaks its protocol (https://developmentseed.org/obstore)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from lomas_gql.datasets.fetching import CONNECT_SECONDS, LOOK_SECONDS, SILENT_SECONDS, login, save
from lomas_gql.datasets.files import fetched_schema, table
from lomas_gql.errors import SourceUnavailable
from lomas_gql.words import Engine

if TYPE_CHECKING:
    from obstore.store import S3Store

_REASONS = {
    "FileNotFoundError": "is not there",
    "PermissionDeniedError": "may not be read with these credentials",
    "UnauthenticatedError": "may not be read with these credentials",
}


@dataclass(frozen=True)
class S3Source:
    """A CSV or Parquet object; `credentials` names an access key and its secret in the settings."""

    kind: ClassVar[str] = "s3"
    engine: ClassVar[Engine] = Engine.DUCKDB
    endpoint: str
    bucket: str
    key: str
    credentials: str
    region: str = "us-east-1"

    def describe(self) -> str:
        """In one line, for the owner."""
        return f"s3://{self.bucket}/{self.key} at {self.endpoint} with the credentials {self.credentials}"

    def state(self) -> tuple[Any, ...]:
        """What changes when the rows do: the object's ETag, time and size.

        Raises:
            SourceUnavailable: it is not there, may not be read, or the server does not answer.
        """
        import obstore

        with self._store(timedelta(seconds=LOOK_SECONDS)) as store:
            told = obstore.head(store, self.key)
        where = (self.kind, self.endpoint, self.bucket, self.key)
        return *where, told["e_tag"], told["last_modified"].isoformat(), told["size"], told["version"]

    def schema(self) -> pl.Schema:
        """The object's columns and their types.

        Raises:
            SourceUnavailable: it cannot be fetched, or is neither CSV nor Parquet.
        """
        return fetched_schema(self.chunks(), self.key, self.describe())

    def scan(self, columns: Sequence[str], folder: Path) -> pl.LazyFrame:
        """The object's rows, fetched into `folder`.

        Raises:
            SourceUnavailable: it cannot be fetched.
        """
        return table(save(self.chunks(), folder / "rows", self.describe()), self.key)

    def chunks(self) -> Generator[bytes]:
        """The object's bytes, as they come.

        Raises:
            SourceUnavailable: it cannot be fetched.
        """
        import obstore

        # A whole object may take as long as the worker that fetches it.
        with self._store(timedelta(days=1)) as store:
            for chunk in obstore.get(store, self.key).stream(min_chunk_size=2**20):
                yield bytes(chunk)

    @contextmanager
    def _store(self, timeout: timedelta) -> Iterator[S3Store]:
        """The bucket, with a time limit for each request.

        Of an error only its kind goes on: its text holds the server's answer, of any length.
        """
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        key_id, key = login(self.credentials).secrets
        try:
            yield S3Store(
                self.bucket,
                endpoint=self.endpoint,
                region=self.region,
                access_key_id=key_id,
                secret_access_key=key,
                virtual_hosted_style_request=False,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "read_timeout": timedelta(seconds=SILENT_SECONDS),
                    "timeout": timeout,
                },
                retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=CONNECT_SECONDS)},
            )
        except (BaseError, OSError, ValueError) as error:
            kind = type(error).__name__
            reason = _REASONS.get(kind, f"cannot be fetched: {kind}")
            raise SourceUnavailable(f"{self.describe()} {reason}") from None
