"""The words of closed lists, each with what it tells a client."""

from __future__ import annotations

from enum import Enum


class Word(Enum):
    """A member is written as its value and a description, and is its value alone."""

    _value_: str
    description: str

    def __new__(cls, value: str, description: str = "") -> Word:
        word = object.__new__(cls)
        word._value_ = value
        word.description = description
        return word


class Engine(Word):
    """Where SmartNoise SQL runs on a dataset: beside its copied rows, or where the rows already are."""

    DUCKDB = "DUCKDB", "In this server's own workers, on a prepared copy of the rows."
    POSTGRESQL = "POSTGRESQL", "Inside PostgreSQL, where the rows are."
    SPARK = "SPARK", "Inside Spark, where the rows are."
