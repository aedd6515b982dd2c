"""Requests as hostile or careless clients send them, each with what it must be answered with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

STATE = "{ serverState { live } }"
MEGABYTES = 2**20
JSON_BODY = {"Content-Type": "application/json"}
# What urql sends.
URQL = "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
EXECUTE = "mutation($input: DpQueryInput!) { execute(input: $input) { __typename } }"


@dataclass(frozen=True)
class Probe:
    """One request and its answer: the status, and the code of the first error (None: there is no error)."""

    name: str
    status: int
    code: str | None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON_BODY))
    url: str = "/graphql"
    method: str = "POST"


def probes() -> list[Probe]:
    """All of them."""
    return [*bodies(), *content_types(), *methods(), *over_limits(), *slow_documents(), *long_texts(), *deep_values()]


def bodies() -> Iterator[Probe]:
    broken = {
        "empty": b"",
        "half an object": b"{",
        "a string": b'"abc"',
        "a number": b"123",
        "null": b"null",
        "an empty batch": b"[]",
        "a batch": json.dumps([{"query": STATE}] * 2).encode(),
        "a large batch": json.dumps([{"query": STATE}] * 5_000).encode(),
        "invalid UTF-8": b'{"query": "\xff\xfe"}',
        "UTF-16": json.dumps({"query": STATE}).encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + json.dumps({"query": STATE}).encode(),
        "1e5 brackets": b"[" * 100_000,
        "1e5 brackets in variables": b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 100_000,
        "1e5 objects": b'{"a":' * 100_000,
        "an integer of 1e5 digits": b'{"query": ' + b"9" * 100_000 + b"}",
        "NaN": b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        "an infinity": b'{"query": "{ __typename }", "variables": {"a": 1e999}}',
        "half a surrogate pair": b'{"query": "{ __typename } # \\ud800"}',
        "half a surrogate pair in variables": b'{"query": "{ __typename }", "variables": {"a": ["\\udfff"]}}',
        "half a surrogate pair as a key": b'{"query": "{ __typename }", "\\ud800": 1}',
        "a surrogate in UTF-8": b'{"query": "{ __typename } # \xed\xa0\x80"}',
        "a null character": b'{"query": "{ \\u0000 }"}',
        "a null character in variables": b'{"query": "{ __typename }", "variables": {"a": "\\u0000"}}',
        "no query": b"{}",
        "an empty query": b'{"query": ""}',
        "a query that is a number": b'{"query": 1}',
        "variables that are a list": b'{"query": "{ __typename }", "variables": []}',
        "variables that are a text": b'{"query": "{ __typename }", "variables": "{}"}',
        "extensions that are a list": b'{"query": "{ __typename }", "extensions": []}',
        "an operation name that is a list": b'{"query": "{ __typename }", "operationName": []}',
        "two operations": b'{"query": "query A { __typename } mutation B { __typename }"}',
        "an unknown operation name": b'{"query": "query A { __typename }", "operationName": "B"}',
        "no operation": b'{"query": "fragment F on Query { __typename }"}',
        "a subscription for which JSON is wanted": b'{"query": "subscription { release(id: 1) { id } }"}',
    }
    for name, body in broken.items():
        code = "SUBSCRIPTION_NOT_ALLOWED" if name.startswith("a subscription") else "BAD_REQUEST"
        yield Probe(f"a body that is {name}" if name in ("empty", "null") else name, 400, code, body)
    yield Probe("5 MB", 413, "MAX_BODY_BYTES_EXCEEDED", b'{"query": "' + b" " * 5 * MEGABYTES + b'"}')
    yield Probe("5 MB of brackets", 413, "MAX_BODY_BYTES_EXCEEDED", b"[" * 5 * MEGABYTES)


def content_types() -> Iterator[Probe]:
    body = json.dumps({"query": STATE}).encode()
    for content_type in (
        "",
        "text/plain",
        "application/jsonx",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "text/html; application/json",
        ";" * 10_000,
    ):
        shown = content_type[:40] or "no content type"
        yield Probe(
            shown, 415, "UNSUPPORTED_MEDIA_TYPE", body, {"Content-Type": content_type} if content_type else {}
        )
    yield Probe("gzip", 415, "UNSUPPORTED_MEDIA_TYPE", body, JSON_BODY | {"Content-Encoding": "gzip"})
    for content_type in ("application/json; charset=UTF-8", 'APPLICATION/JSON;charset="utf-8"', "application/json;"):
        yield Probe(content_type, 200, None, body, {"Content-Type": content_type})
    for accept in ("*/*", "application/*", "text/html, */*;q=0.1", "application/json;q=nan", "," * 3_000):
        yield Probe(f"Accept: {accept[:50]}", 200, None, body, JSON_BODY | {"Accept": accept})
    for accept in ("text/html", "application/xml, image/png", "application/json;q=0"):
        yield Probe(f"Accept: {accept}", 406, "NOT_ACCEPTABLE", body, JSON_BODY | {"Accept": accept})
    yield Probe("a long Accept", 431, "BAD_REQUEST", body, JSON_BODY | {"Accept": "a/b," * 10_000})


def methods() -> Iterator[Probe]:
    def get(name: str, status: int, code: str | None, query_string: str) -> Probe:
        return Probe(name, status, code, headers={}, url=f"/graphql?{query_string}", method="GET")

    yield get("a query by GET", 200, None, urlencode({"query": STATE}))
    yield get("a mutation by GET", 405, "MUTATION_NOT_ALLOWED", urlencode({"query": "mutation { __typename }"}))
    yield get("a subscription by GET", 400, "SUBSCRIPTION_NOT_ALLOWED", "query=subscription{release(id:1){id}}")
    hidden = {"query": "query A { __typename } mutation B { __typename }", "operationName": "B"}
    yield get("a named mutation by GET", 405, "MUTATION_NOT_ALLOWED", urlencode(hidden))
    yield get("two operations by GET", 400, "BAD_REQUEST", urlencode({"query": hidden["query"]}))
    yield get("nothing by GET", 400, "BAD_REQUEST", "")
    yield get("broken variables by GET", 400, "BAD_REQUEST", urlencode({"query": STATE, "variables": "{"}))
    yield get("a list as variables by GET", 400, "BAD_REQUEST", urlencode({"query": STATE, "variables": "[]"}))
    yield get("two queries by GET", 400, "BAD_REQUEST", urlencode([("query", STATE), ("query", STATE)]))
    yield get("a surrogate by GET", 400, "BAD_REQUEST", "query=%ED%A0%80")
    yield get("5e3 parameters by GET", 400, "BAD_REQUEST", "&".join(f"a{i}=" for i in range(5_000)))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        yield Probe(method, 405, "METHOD_NOT_ALLOWED", json.dumps({"query": STATE}).encode(), method=method)


def over_limits() -> Iterator[Probe]:
    documents = {
        "MAX_FIELDS_EXCEEDED": [nest(20), nest(100), "{" + "viewer { id } " * 130 + "}", unused(), many_spreads()],
        "MAX_ALIASES_EXCEEDED": ["{" + " ".join(f"a{i}: __typename" for i in range(16)) + "}"],
        "MAX_DEPTH_EXCEEDED": [
            "{ datasets " + "{ nodes { history { nodes { dataset " * 4 + "{ id }" + "} } } }" * 4 + "}"
        ],
        "MAX_MUTATIONS_EXCEEDED": ["mutation {" + "__typename " * 6 + "}"],
        "MAX_TOKENS_EXCEEDED": [
            "{ serverState " + "@include(if: true) " * 5_000 + "{ live } }",
            "{ serverState " + "@a " * 10_000 + "{ live } }",
            "{" + "a " * 10_000 + "}",
            "#\n" * 10_000 + STATE,
        ],
        "MAX_CHARACTERS_EXCEEDED": [
            "#" + "x" * 4_000_000 + "\n" + STATE,
            '{ dataset(name: """' + " x\n" * 10**6 + '""") { id } }',
        ],
    }
    for code, texts in documents.items():
        for place, text in enumerate(texts):
            yield asked(f"{code.lower().replace('_', ' ')} {place}", code, text)


def slow_documents() -> Iterator[Probe]:
    """Small enough for the limits, and still more work than they look."""
    valid = {
        "overlapping fields": "{" + "viewer { id } " * 124 + "}",
        "overlapping inline fragments": "{" + "... on Query { viewer { id } } " * 124 + "}",
        "overlapping fragments": "{" + " ".join(f"...F{i}" for i in range(100)) + "}" + viewers(100),
        "many directives": "{" + "serverState @include(if: true) @skip(if: false) { live } " * 90 + "}",
        "deep inline fragments": "{" + "... {" * 150 + STATE[1:-1] + "}" * 150 + "}",
    }
    for name, text in valid.items():
        yield asked(name, None, text)
    invalid = {
        "conflicting fields": "{" + " ".join(f"datasets(first: {i}) {{ totalCount }}" for i in range(120)) + "}",
        "a cycle of fragments": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "many cycles": "{ __typename }" + " ".join(f"fragment F{i} on Query {{ ...F{i} }}" for i in range(200)),
        "a long cycle": "{ ...F0 }"
        + " ".join(f"fragment F{i} on Query {{ ...F{(i + 1) % 200} }}" for i in range(200)),
        "a long chain": "{ ...F0 }" + " ".join(f"fragment F{i} on Query {{ ...F{i + 1} }}" for i in range(230)),
        "a directive over and over": "{ serverState " + "@include(if: true) " * 280 + "{ live } }",
        "unknown directives": "{ serverState " + "@a " * 900 + "{ live } }",
        "unknown fields": "{" + "serverStat " * 240 + "}",
        "unused variables": "query(" + " ".join(f"$a{i}: Int" for i in range(390)) + ") { __typename }",
        "an unknown type": "{ ... on " + "X" * 90_000 + " { id } }",
    }
    for name, text in invalid.items():
        yield asked(name, "BAD_USER_INPUT", text)
    both = " ".join(f"query Q{i} {{ ...F0 }}" for i in range(120)) + viewers(1)
    body = json.dumps({"query": both, "operationName": "Q7"}).encode()
    yield Probe("many operations", 200, None, body)


def long_texts() -> Iterator[Probe]:
    """Documents and values of the largest size that is let in."""
    texts = {
        "a block string": '{ dataset(name: """' + " x\n" * 33_000 + '""") { id } }',
        "escapes": '{ dataset(name: "' + "\\n" * 49_000 + '") { id } }',
        "unicode escapes": '{ dataset(name: "' + "\\u0041" * 16_000 + '") { id } }',
        "braced escapes": '{ dataset(name: "' + "\\u{1F600}" * 11_000 + '") { id } }',
    }
    for name, text in texts.items():
        yield asked(name, None, text)
    wrong = {
        "half a surrogate pair, escaped": '{ dataset(name: "\\ud800") { id } }',
        "half a surrogate pair, braced": '{ dataset(name: "\\u{DFFF}") { id } }',
        "a null character, escaped": '{ dataset(name: "\\u0000") { id } }',
        "a null character, braced": '{ dataset(name: "\\u{0}") { id } }',
        "beyond unicode": '{ dataset(name: "\\u{110000}") { id } }',
        "an endless string": '{ dataset(name: "' + "x" * 90_000,
        "a long name": "{" + "x" * 90_000 + "}",
        "a long float": "{ datasets(first: 1." + "9" * 90_000 + ") { totalCount } }",
        "a late mistake": "\n" * 90_000 + "?",
        "1e4 brackets": "{ dataset(name: " + "[" * 10_000,
        "1e4 braces": "{ a" * 10_000,
    }
    for name, text in wrong.items():
        yield asked(name, "BAD_USER_INPUT", text)
    digits = "9" * 90_000
    for text in (f"{{ datasets(first: {digits}) {{ totalCount }} }}", f"query($n: Int = {digits}) {{ a(b: $n) }}"):
        yield asked("a long integer", "MAX_DIGITS_EXCEEDED", text)


def deep_values() -> Iterator[Probe]:
    deep: Any = "x"
    nested: Any = {}
    for _ in range(400):
        deep, nested = [deep], {"query": nested}
    steps = [{"estimator": "PCA", "params": {"epsilon": deep}}]
    sql = {"dataset": "PENGUIN", "query": {"smartnoiseSql": {"sql": "SELECT 1", "epsilon": 10**400}}}
    values = {
        "a deep list": {"input": {"dataset": deep}},
        "a deep object": {"input": nested},
        "a deep JSON scalar": model(steps=steps, featureColumns=["a"]),
        "19000 names": model(steps=[], featureColumns=["a"] * 19_000),
        "19000 numbers for names": model(steps=[], featureColumns=[1] * 19_000),
        "19000 unknown variables": {f"v{i}": i for i in range(19_000)},
        "3 MB in one text": {"input": {"dataset": "x" * 3_000_000, "query": {}}},
        "3 MB of commas in one text": {"input": {"dataset": "," * 3_000_000, "query": {}}},
        "an integer of 4000 digits": {"input": 10**4_000},
        "an integer of 400 digits for a float": {"input": sql},
    }
    for name, variables in values.items():
        yield Probe(f"{name} in variables", 200, "*", execute(variables))
    values = {
        "3.6 MB of names": model(steps=[], featureColumns=["a"] * 900_000),
        "2.6 MB of numbers": model(steps=[], featureColumns=[1] * 1_300_000),
        "2e5 variables": {f"v{i}": i for i in range(200_000)},
    }
    for name, variables in values.items():
        yield Probe(name, 413, "MAX_VALUES_EXCEEDED", execute(variables))
    # graphql-core tells of each mistake with the whole literal that it stands in.
    unknown = " ".join(f"unknown{i}: 1" for i in range(150))
    long = f'estimateCost(input: {{dataset: "{"🐧" * 20_000}", {unknown}}}) {{ __typename }}'
    yield asked("150 mistakes in a long literal", "BAD_USER_INPUT", f"mutation {{ {long} }}")
    literal = "[" * 150 + "]" * 150
    yield asked("a deep literal", "*", f"mutation {{ execute(input: {{dataset: {literal}}}) {{ __typename }} }}")
    for first in ("2147483647", "2147483648", "-1", "1e3", '"1"', "[[1]]", "{a: {b: 1}}"):
        yield asked(f"first: {first}", "*", f"{{ datasets(first: {first}) {{ totalCount }} }}")


def model(**query: Any) -> dict[str, Any]:
    return {"input": {"dataset": "PENGUIN", "query": {"diffprivlib": query}}}


def execute(variables: Any) -> bytes:
    return json.dumps({"query": EXECUTE, "variables": variables}, separators=(",", ":")).encode()


def asked(name: str, code: str | None, query: str) -> Probe:
    """A well-formed request: 200, whatever its document is, as GraphQL over HTTP wants it for JSON."""
    return Probe(name, 200, code, json.dumps({"query": query}).encode())


def nest(levels: int) -> str:
    """Fragments that each spread the next twice: expanded, 2 ** levels fields."""
    fragments = [f"fragment F{i} on ServerState {{ ...F{i + 1} ...F{i + 1} }}" for i in range(levels)]
    return "{ serverState { ...F0 } } " + " ".join(fragments) + f" fragment F{levels} on ServerState {{ live }}"


def unused() -> str:
    """A fragment that nothing spreads is validated all the same."""
    return "{ __typename } fragment F on Query {" + "viewer { id } " * 300 + "}"


def many_spreads() -> str:
    """Each fragment spreads all that follow."""
    fragments = (
        f"fragment F{i} on ServerState {{ " + " ".join(f"...F{j}" for j in range(i + 1, 25)) + " live }"
        for i in range(25)
    )
    return "{ serverState { ...F0 } }" + " ".join(fragments)


def viewers(count: int) -> str:
    return " ".join(f"fragment F{i} on Query {{ viewer {{ id }} }}" for i in range(count))
