"""GraphiQL as a browser gets it: from this server alone, under a strict policy, with a token that nothing stores."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from lomas_gql.schema import playground
from tests.conftest import Client, Server
from tests.schema.test_streams import running_release

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# No name resolves, so that nothing but the server under test can be reached.
CLOSED = [
    "--no-sandbox",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TABS = ["SmartnoiseSql", "OpenDP", "Diffprivlib", "SmartnoiseSynth", "Dashboard", "Submit"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser: apt-get install chromium"),
    pytest.mark.skipif(not playground.FETCHED.exists(), reason="GraphiQL is not fetched: make web"),
]


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
        return self.page.evaluate(
            "s => document.querySelector(s + ' .CodeMirror')?.CodeMirror.getValue() ?? ''", pane
        )

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


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return server.user(epsilon="20")


@pytest.fixture(scope="module")
def browser(client: Client) -> Iterator[Browser]:
    """A browser. It keeps an event loop of its own, in which nothing else here may need one: the user comes first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CLOSED)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, client: Client) -> Iterator[Visit]:
    with browser.new_context() as context:
        visit = Visit(context.new_page(), client)
        visit.open()
        yield visit
    assert visit.troubles == []


def test_the_editor_renders_from_this_server_alone(visit: Visit) -> None:
    assert visit.page.locator(".graphiql-tab-button").all_text_contents() == TABS
    visit.until(lambda: visit.text(".graphiql-query-editor"), "mutation SmartnoiseSql")
    visit.until(lambda: visit.text(".graphiql-editor-tool"), "GROUP BY species")
    assert len(visit.asked) >= 8
    assert [url for url in visit.asked if not url.startswith(visit.client.url + "/graph")] == []


def test_the_policy_stops_what_it_should(visit: Visit) -> None:
    refused = visit.page.evaluate(
        """async () => {
            document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = 1" }));
            document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.ran = 2'>");
            return [
                window.ran,
                await fetch("http://127.0.0.1:1/").then(() => "went out", () => "stopped"),
            ];
        }"""
    )
    assert refused == [None, "stopped"]
    for directive in ("script-src-elem", "script-src-attr", "connect-src"):
        visit.until(lambda: " ".join(visit.troubles), f"policy: {directive}")
    visit.troubles.clear()


def test_a_field_name_is_completed_and_described(visit: Visit) -> None:
    visit.page.get_by_label("New tab").click()
    visit.write(".graphiql-query-editor", "")
    visit.page.keyboard.type("{ serverSt")
    visit.page.locator(".CodeMirror-hint", has_text="serverState").wait_for()
    visit.page.keyboard.press("Enter")
    visit.until(lambda: visit.text(".graphiql-query-editor"), "{ serverState")
    visit.page.get_by_label("Show Documentation Explorer").click()
    visit.page.get_by_role("link", name="Query", exact=True).click()
    visit.page.get_by_text("Whether this server answers queries").wait_for()


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
    visit.until(lambda: visit.text(".graphiql-editor-tool"), "GROUP BY species")
    visit.run()
    visit.answer("UNAUTHENTICATED")


def test_a_token_that_does_not_hold_is_said_so(visit: Visit) -> None:
    visit.page.get_by_label("API token").fill("lomas_none")
    visit.page.get_by_text("no valid token").wait_for()
    visit.page.get_by_label("API token").fill(f"  Bearer {visit.client.token} ")
    visit.page.get_by_text("signed in as user").wait_for()
    visit.page.get_by_label("API token").fill("")
    visit.page.get_by_text("not signed in").wait_for()


def test_a_subscription_follows_a_release_to_its_end(visit: Visit) -> None:
    visit.sign_in()
    visit.page.locator(".graphiql-tabs").get_by_text("Submit", exact=True).click()
    visit.until(lambda: visit.text(".graphiql-query-editor"), "subscription Follow")
    # GraphiQL reads the tab's operations a moment after its text.
    visit.until(lambda: visit.page.evaluate("localStorage.getItem('graphiql:operationName')"), "Submit")
    visit.run("Submit")
    id = json.loads(visit.answer('"Submitted"'))["data"]["submit"]["release"]["id"]
    visit.write(".graphiql-editor-tool", json.dumps({"release": id}))
    visit.run("Follow")
    visit.answer('"RELEASED"')
    assert visit.client.url.replace("http", "ws") + "/graphql" in visit.asked
    visit.run("Sample")
    answer = json.loads(visit.answer('"rows"'))["data"]["release"]
    assert [row[0] for row in answer["result"]["sample"]["rows"]] == ["Gentoo"] * 10


def test_another_token_ends_the_connection_of_the_earlier_one(visit: Visit, server: Server) -> None:
    # The last test here: this release holds the user's one slot. In a thread, since the browser's loop has this one.
    with ThreadPoolExecutor() as thread:
        id = thread.submit(running_release, server, visit.client).result()
    connections: list[WebSocket] = []
    visit.page.on("websocket", lambda socket: connections.append(socket))
    visit.sign_in()
    visit.write(".graphiql-query-editor", f'subscription Listen {{ release(id: "{id}") {{ status }} }}')
    # As above: asked for sooner, the operation would be that of the text before.
    visit.until(lambda: visit.page.evaluate("localStorage.getItem('graphiql:operationName')"), "Listen")
    visit.run()
    visit.answer('"RUNNING"')
    [connection] = connections
    assert not connection.is_closed()
    visit.page.get_by_label("API token").fill("lomas_none")
    visit.until(lambda: str(connection.is_closed()), "True")
    # GraphiQL leaves to the console why the subscription has ended.
    visit.until(lambda: " ".join(visit.troubles), "4499")
    visit.troubles.remove("error: 4499: Terminated")
