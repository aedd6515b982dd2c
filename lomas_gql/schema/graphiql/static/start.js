"use strict";

// The token lives in this variable and its field alone: in no storage, in no address, gone with the page.
let token = "";
// GraphiQL's dialogs add one <style> of their own, and read its nonce here.
window.__webpack_nonce__ = document.currentScript.nonce;

const http = location.pathname;
const ws = new URL(http, location.href);
ws.protocol = ws.protocol.replace("http", "ws");

function authorization() {
  return token ? { authorization: `Bearer ${token}` } : {};
}

function signedFetch(url, options) {
  return fetch(url, { ...options, headers: { ...options.headers, accept: "application/json", ...authorization() } });
}

async function nameOfViewer() {
  const response = await signedFetch(http, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: "{ viewer { name } }" }),
  });
  return (await response.json()).data?.viewer?.name;
}

async function showViewer() {
  const asked = token;
  let said = { className: "", textContent: "not signed in" };
  if (asked) {
    try {
      const name = await nameOfViewer();
      said = name
        ? { className: "good", textContent: `signed in as ${name}` }
        : { className: "bad", textContent: "no valid token" };
    } catch {
      said = { className: "bad", textContent: "no valid answer" };
    }
  }
  // A later token may have been answered first.
  if (asked === token) Object.assign(document.getElementById("viewer"), said);
}

const wsClient = graphqlWs.createClient({ url: ws.href, connectionParams: authorization, retryAttempts: 0 });

let pause;
document.getElementById("token").addEventListener("input", (event) => {
  token = event.target.value.trim().replace(/^Bearer\s+/i, "");
  // An open connection would go on under the earlier token.
  wsClient.terminate();
  clearTimeout(pause);
  pause = setTimeout(showViewer, 300);
});

const fetcher = GraphiQL.createFetcher({
  url: http,
  fetch: signedFetch,
  enableIncrementalDelivery: false,
  wsClient,
});

const examples = JSON.parse(document.getElementById("examples").textContent);
// GraphiQL brings its tabs back, but not always the variables of the open one: it is told both.
function openTab() {
  try {
    const { tabs, activeTabIndex } = JSON.parse(localStorage.getItem("graphiql:tabState"));
    return tabs[activeTabIndex] ?? examples[0];
  } catch {
    return examples[0];
  }
}

const { query, variables } = openTab();

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher,
    defaultTabs: examples,
    query,
    variables,
    defaultEditorToolsVisibility: "variables",
    isHeadersEditorEnabled: false,
    shouldPersistHeaders: false,
  }),
);
