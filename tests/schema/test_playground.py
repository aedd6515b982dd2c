"""The page at the endpoint: who gets it, under which policy, and examples that run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from lomas_gql.schema import playground
from tests.conftest import Server

WEB = Path(__file__).parent.parent.parent / "web"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def get(server: Server, accept: str | None = HTML, path: str = "/graphql", **more: Any) -> httpx.Response:
    headers = {"Accept": accept} if accept is not None else {}
    return httpx.get(server.url + path, headers=headers | more.pop("headers", {}), timeout=60, **more)


@pytest.mark.parametrize("example", playground.examples()[:-1], ids=lambda e: e["query"][2:20])
def test_every_example_runs_as_it_stands(server: Server, example: dict[str, str]) -> None:
    data = server.user(epsilon="20").data(example["query"], json.loads(example["variables"]))
    if "execute" in data:
        assert data["execute"]["__typename"] == "Executed", data
        assert data["execute"]["result"]
    else:
        assert [node["name"] for node in data["datasets"]["nodes"]] == ["PENGUIN"]


@pytest.mark.parametrize("accept", [HTML, "text/html", "application/json;q=0.5, text/html;q=0.6"])
def test_a_browser_gets_a_page_under_a_strict_policy(server: Server, accept: str) -> None:
    response = get(server, accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Accept" in response.headers["vary"]
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert directives["form-action"] == "'none'"
    assert directives["connect-src"] == "'self'"
    [nonce] = re.findall(r"'nonce-([\w-]{22})'", directives["script-src"])
    assert directives["script-src"] == directives["style-src"] == f"'nonce-{nonce}'"
    assert set(re.findall(r'nonce="([^"]*)"', response.text)) == {nonce}
    assert nonce not in get(server).text


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html", "text/html;q=0"])
def test_a_client_that_reads_json_gets_no_page(server: Server, accept: str | None) -> None:
    response = get(server, accept)
    assert response.status_code >= 400
    assert "json" in response.headers["content-type"]


def test_a_query_by_get_is_answered_in_a_browser_too(server: Server) -> None:
    response = get(server, params={"query": "{ serverState { live } }"})
    assert response.json() == {"data": {"serverState": {"live": True}}}


def test_a_file_is_kept_until_it_changes(server: Server) -> None:
    first = get(server, path="/graphiql/start.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["x-content-type-options"] == "nosniff"
    again = get(server, path="/graphiql/start.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["", "npm", "none.js", "..%2fpage.html", "%2e%2e/page.html", "..%2f..%2fview.py"])
def test_nothing_but_the_files_is_served(server: Server, path: str) -> None:
    assert get(server, path=f"/graphiql/{path}").status_code == 404


def test_without_its_files_the_page_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(playground, "FETCHED", tmp_path / "none.js")
    response = playground.page()
    page = bytes(response.body).decode()
    assert "<pre>make web</pre>" in page
    assert "<script" not in page
    assert response.status_code == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'nonce-")


def test_an_example_cannot_end_the_element_that_holds_it() -> None:
    hostile = ["</script><script>", "<!--"]
    assert "<" not in playground.embedded(hostile)
    assert json.loads(playground.embedded(hostile)) == hostile


def test_the_lock_file_names_hashes_and_no_addresses() -> None:
    text = (WEB / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)
    assert all(re.fullmatch(r"[\d.]+", pin) for pin in packages[""]["dependencies"].values())
