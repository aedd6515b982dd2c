"""Where a dataset's private rows are: one of five kinds, and the JSON in which the database keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lomas_gql.datasets.files import FileSource
from lomas_gql.datasets.postgresql import PostgresSource
from lomas_gql.datasets.s3 import S3Source
from lomas_gql.datasets.spark import SparkSource
from lomas_gql.datasets.web import UrlSource
from lomas_gql.errors import SourceUnavailable

Source = FileSource | UrlSource | S3Source | PostgresSource | SparkSource
# Those whose rows may stay where they are, if their `engine` says so.
InPlaceSource = PostgresSource | SparkSource

_KINDS: Mapping[str, type[Source]] = {
    kind.kind: kind for kind in (FileSource, UrlSource, S3Source, PostgresSource, SparkSource)
}


def stored(source: Source) -> dict[str, Any]:
    """As the database keeps it. A file is its path alone, as it always was: the history holds digests of that."""
    facts = asdict(source)
    # Written only where an owner says no: what was stored before push-down existed stays equal.
    if facts.get("push_down") is True:
        del facts["push_down"]
    return facts if isinstance(source, FileSource) else {"kind": source.kind, **facts}


def source_from(facts: Mapping[str, Any]) -> Source:
    """The source that was stored.

    Raises:
        SourceUnavailable: this version knows no such source.
    """
    fields = {name: value for name, value in facts.items() if name != "kind"}
    try:
        return _KINDS[facts.get("kind", FileSource.kind)](**fields)
    except (KeyError, TypeError):
        raise SourceUnavailable(f"this version knows no source of the kind {facts.get('kind')}") from None
