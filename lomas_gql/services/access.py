"""How an owner's files say where rows and metadata are: Lomas's access blocks, and ours for PostgreSQL and Spark.

Lomas's blocks may hold an access key of their own beside the name of credentials. It is not used and not kept:
secrets come from the settings alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.datasets.s3 import S3Source
from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.web import UrlSource

_MASTER = re.compile(r"local(\[(\d+|\*)(,\d+)?\])?|spark://[^\s@]+|yarn|k8s://[^\s@]+")
# A path that Spark finds by itself, in whatever file system that names.
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:/")
_NO_SECRETS = "a user or a password does not belong here: it would be stored; name credentials_name instead"
# What says where a database is, and how it is reached safely; who asks is in the settings.
_POSTGRES_OPTIONS = {"host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert", "channel_binding"}


def _is_url(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


def _web_url(url: str) -> str:
    parts = urlsplit(url)
    if not _is_url(url) or not parts.hostname:
        raise ValueError("is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError(_NO_SECRETS)
    return url


def _path(path: str) -> str:
    return _web_url(path) if _is_url(path) else path


def _postgres_url(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        options = conninfo_to_dict(url)
    except ProgrammingError:
        # Its text repeats the URL, in which somebody may have written a password.
        raise ValueError("is no URL of PostgreSQL, as postgresql://host:5432/database") from None
    if {"user", "password"} & options.keys():
        raise ValueError(_NO_SECRETS)
    if unknown := options.keys() - _POSTGRES_OPTIONS:
        raise ValueError(f"{', '.join(sorted(unknown))}: not known; use {', '.join(sorted(_POSTGRES_OPTIONS))}")
    if not options.get("dbname"):
        raise ValueError("names no database: postgresql://host:5432/database")
    return url


def _spark_master(master: str) -> str:
    if not _MASTER.fullmatch(master):
        raise ValueError("is no Spark master: local[*], spark://host:7077, yarn or k8s://https://host:443")
    return master


def _spark_path(path: str) -> str:
    if urlsplit(path).password is not None:
        raise ValueError(_NO_SECRETS)
    return path


class _Access(BaseModel):
    # As in other entries: what we do not use may stand there.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _PathAccess(_Access):
    database_type: Literal["PATH_DB"]
    path: Annotated[str, Field(min_length=1), AfterValidator(_path)]
    credentials_name: str | None = None

    def source(self, file: Path) -> FileSource | UrlSource:
        """Where that is; a path is relative to the file that names it."""
        if _is_url(self.path):
            return UrlSource(self.path, self.credentials_name)
        return FileSource(str((file.parent / self.path).resolve()))


class _S3Access(_Access):
    database_type: Literal["S3_DB"]
    endpoint_url: Annotated[str, AfterValidator(_web_url)]
    bucket: str = Field(min_length=1)
    key: str = Field(min_length=1)
    credentials_name: str = Field(min_length=1)
    region: str = "us-east-1"

    def source(self, file: Path) -> S3Source:
        """Where that is."""
        return S3Source(self.endpoint_url, self.bucket, self.key, self.credentials_name, self.region)


class _PostgresAccess(_Access):
    database_type: Literal["POSTGRES_DB"]
    url: Annotated[str, AfterValidator(_postgres_url)]
    table_schema: str = Field(default="public", min_length=1, alias="schema")
    table: str = Field(min_length=1)
    credentials_name: str = Field(min_length=1)
    push_down: bool = True

    def source(self, file: Path) -> PostgresSource:
        """Where that is."""
        return PostgresSource(self.url, self.table_schema, self.table, self.credentials_name, self.push_down)


class _SparkAccess(_Access):
    database_type: Literal["SPARK_DB"]
    master: Annotated[str, AfterValidator(_spark_master)]
    table: Annotated[str, Field(min_length=1)] | None = None
    path: Annotated[str, Field(min_length=1), AfterValidator(_spark_path)] | None = None
    format: Literal["parquet", "csv"] = "parquet"

    @model_validator(mode="after")
    def _is_one(self) -> _SparkAccess:
        if (self.table is None) == (self.path is None):
            raise ValueError("give a table or a path")
        return self

    def source(self, file: Path) -> SparkSource:
        """Where that is; a path without a scheme or a slash before it is relative to the file that names it."""
        if self.path is None:
            return SparkSource(self.master, table=self.table)
        path = self.path if _ABSOLUTE.match(self.path) else str(file.parent.resolve() / self.path)
        return SparkSource(self.master, path=path, format=self.format)


DatasetAccess = Annotated[
    _PathAccess | _S3Access | _PostgresAccess | _SparkAccess, Field(discriminator="database_type")
]
MetadataAccess = Annotated[_PathAccess | _S3Access, Field(discriminator="database_type")]
