"""GraphiQL as a browser gets it: from this server alone, under a strict policy, with a token that nothing stores."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from lomas_gql.schema import playground
from tests.conftest import Client, Server

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# No name resolves, so that nothing but the server under test can be reached.
CLOSED = ["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
TABS = ["SmartnoiseSql", "OpenDP", "Diffprivlib", "SmartnoiseSynth", "Dashboard", "Submit"]
fetched = pytest.mark.skipif(not playground.FETCHED.exists(), reason="GraphiQL is not fetched: make web")


def get(server: Server, accept: str | None = HTML, path: str = "/graphql", **more: Any) -> httpx.Response:
    headers = {"Accept": accept} if accept is not None else {}
    return httpx.get(server.url + path, headers=headers | more.pop("headers", {}), timeout=60, **more)


@dataclass
class Visit:
    """The page in a browser, signed in by nobody, and everything that it asked for or complained of."""

    page: Page
    client: Client
    asked: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("requestfailed", lambda request: self.troubles.append(f"failed: {request.url}"))
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("console", lambda said: said.type == "error" and self.troubles.append(said.text))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"
        )
        self.load()

    def load(self) -> None:
        self.page.goto(f"{self.client.url}/graphql")
        self.page.locator(".graphiql-query-editor .CodeMirror").wait_for()

    def sign_in(self) -> None:
        assert self.client.token is not None
        self.page.get_by_label("API token").fill(self.client.token)
        self.page.get_by_text("signed in as user").wait_for()

    def text(self, pane: str) -> str:
        """All of an editor's text; the page itself holds only the lines in sight."""
        return self.page.evaluate("s => document.querySelector(s + ' .CodeMirror')?.CodeMirror.getValue() ?? ''", pane)

    def until(self, said: Callable[[], str], wanted: str) -> str:
        deadline = time.monotonic() + 60
        while wanted not in (found := said()):
            assert time.monotonic() < deadline, found
            self.page.wait_for_timeout(50)
        return found

    def answer(self, wanted: str) -> str:
        return self.until(lambda: self.text(".result-window"), wanted)

    def run(self, operation: str | None = None) -> None:
        self.page.get_by_label("Execute query").click()
        if operation:
            self.page.get_by_role("menuitem", name=operation).click()

    def write(self, pane: str, text: str) -> None:
        self.page.locator(f"{pane} .CodeMirror").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def stored(self) -> str:
        """All that the browser keeps: cookies, storage, address."""
        state = self.page.context.storage_state(indexed_db=True)
        session = self.page.evaluate("JSON.stringify(sessionStorage) + JSON.stringify(history.state) + location.href")
        return json.dumps(state) + session


@pytest.fixture
def visit(server: Server) -> Iterator[Visit]:
    if CHROMIUM is None:
        pytest.skip("there is no browser: apt-get install chromium")
    # Before the browser: it keeps an event loop of its own.
    client = server.user(epsilon="20")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CLOSED)
        visit = Visit(browser.new_page(), client)
        visit.open()
        yield visit
        browser.close()
    assert visit.troubles == []


@fetched
def test_the_editor_renders_from_this_server_alone(visit: Visit) -> None:
    assert visit.page.locator(".graphiql-tab-button").all_text_contents() == TABS
    visit.until(lambda: visit.text(".graphiql-query-editor"), "mutation SmartnoiseSql")
    visit.until(lambda: visit.text(".graphiql-editor-tool"), "GROUP BY species")
    assert len(visit.asked) >= 8
    assert [url for url in visit.asked if not url.startswith(visit.client.url + "/graph")] == []


@fetched
def test_the_policy_stops_what_it_should(visit: Visit) -> None:
    refused = visit.page.evaluate(
        """async () => {
            document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = 1" }));
            document.body.insertAdjacentHTML("beforeend", "<img src='x:y' onerror='window.ran = 2'>");
            return [
                window.ran,
                await fetch("http://127.0.0.1:1/").then(() => "went out", () => "stopped"),
            ];
        }"""
    )
    assert refused == [None, "stopped"]
    violated = {trouble for trouble in visit.troubles if trouble.startswith("policy: ")}
    assert {"policy: script-src-elem", "policy: script-src-attr", "policy: connect-src"} <= violated
    visit.troubles.clear()


@fetched
def test_a_field_name_is_completed_and_described(visit: Visit) -> None:
    visit.page.get_by_label("New tab").click()
    visit.write(".graphiql-query-editor", "")
    visit.page.keyboard.type("{ serverSt")
    visit.page.locator(".CodeMirror-hint", has_text="serverState").wait_for()
    visit.page.get_by_text("Whether this server answers queries").first.wait_for()
    visit.page.keyboard.press("Enter")
    visit.until(lambda: visit.text(".graphiql-query-editor"), "{ serverState")


@fetched
def test_the_demo_query_runs_with_the_token_which_nothing_stores(visit: Visit) -> None:
    token = visit.client.token
    assert token is not None
    visit.run()
    visit.answer("UNAUTHENTICATED")
    visit.sign_in()
    visit.run()
    answer = json.loads(visit.answer('"Executed"'))["data"]["execute"]
    assert [row[0] for row in answer["result"]["table"]["rows"]] == ["Adelie", "Chinstrap", "Gentoo", "OTHER"]
    # GraphiQL writes its tabs and its history a moment later.
    visit.until(visit.stored, "graphiql:queries")
    visit.page.wait_for_timeout(1000)
    assert "mutation SmartnoiseSql" in visit.stored()
    assert token not in visit.stored()
    visit.load()
    assert visit.page.get_by_label("API token").input_value() == ""
    visit.run()
    visit.answer("UNAUTHENTICATED")


@fetched
def test_a_token_that_does_not_hold_is_said_so(visit: Visit) -> None:
    visit.page.get_by_label("API token").fill("lomas_none")
    visit.page.get_by_text("no valid token").wait_for()
    visit.page.get_by_label("API token").fill(f"  Bearer {visit.client.token} ")
    visit.page.get_by_text("signed in as user").wait_for()
    visit.page.get_by_label("API token").fill("")
    visit.page.get_by_text("not signed in").wait_for()


@fetched
def test_a_subscription_follows_a_release_to_its_end(visit: Visit) -> None:
    visit.sign_in()
    visit.page.locator(".graphiql-tabs").get_by_text("Submit", exact=True).click()
    visit.until(lambda: visit.text(".graphiql-query-editor"), "subscription Follow")
    # The operations of the tab are read a moment after its text.
    visit.page.wait_for_timeout(1000)
    visit.run("Submit")
    id = json.loads(visit.answer('"Submitted"'))["data"]["submit"]["release"]["id"]
    visit.write(".graphiql-editor-tool", json.dumps({"release": id}))
    visit.run("Follow")
    visit.answer('"RELEASED"')
    assert visit.client.url.replace("http", "ws") + "/graphql" in visit.asked
    visit.run("Sample")
    answer = json.loads(visit.answer('"rows"'))["data"]["release"]
    assert [row[0] for row in answer["result"]["sample"]["rows"]] == ["Gentoo"] * 10


@pytest.mark.parametrize("example", playground.examples()[:-1], ids=TABS[:-1])
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


def test_examples_cannot_end_the_element_that_holds_them() -> None:
    page = bytes(playground.page().body).decode()
    [embedded] = re.findall(r'<script type="application/json" id="examples">(.*?)</script>', page, re.DOTALL) or ["[]"]
    assert "<" not in embedded
    assert json.loads(embedded) in ([], playground.examples())


def test_the_lock_file_names_hashes_and_no_addresses() -> None:
    text = (ROOT / "web" / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)
    assert all(re.fullmatch(r"[\d.]+", pin) for pin in packages[""]["dependencies"].values())
