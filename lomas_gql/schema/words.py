"""Enums: words of closed lists, with what each of them tells a client."""

from __future__ import annotations

from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from lomas_gql.words import Word

W = TypeVar("W", bound=type[Word])


def described_enum(words: W) -> W:
    """Makes words a GraphQL enum, once: inputs and results share some, and either may be imported first."""
    if hasattr(words, "__strawberry_definition__"):
        return words
    strawberry.enum(words, description=words.__doc__)
    definition: StrawberryEnumDefinition = words.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = words[value.name].description
    return words
