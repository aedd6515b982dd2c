// relay-compiler: node relay.js URL TOKEN FOLDER. Compiles a component against the server's own schema, and runs its
// artifacts: the query, and the one that Relay made to refetch a page of a node.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { buildClientSchema, getIntrospectionQuery, printSchema } from "graphql";
import compiler from "relay-compiler";

const [url, token, folder] = process.argv.slice(2);

async function ask(query, variables) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined);
  return data;
}

writeFileSync(`${folder}/schema.graphql`, printSchema(buildClientSchema(await ask(getIntrospectionQuery()))));
cpSync(new URL("relay", import.meta.url), `${folder}/src`, { recursive: true });
const config = { root: ".", sources: { src: "app" }, projects: { app: { schema: "schema.graphql", language: "javascript" } } };
writeFileSync(`${folder}/relay.config.json`, JSON.stringify(config));
writeFileSync(`${folder}/package.json`, JSON.stringify({ type: "module" }));
const compiled = spawnSync(compiler, ["relay.config.json"], { cwd: folder, encoding: "utf8" });
assert.equal(compiled.status, 0, compiled.stdout + compiled.stderr);

const artifact = async (name) => (await import(`${folder}/src/__generated__/${name}.graphql.js`)).default.params.text;
const input = {
  dataset: "PENGUIN",
  query: { smartnoiseSql: { sql: "SELECT COUNT(*) AS n FROM df", epsilon: 0.5, delta: 0 } },
};
for (let i = 0; i < 3; i++) {
  const { execute } = await ask(await artifact("DashboardExecuteMutation"), { input });
  assert.equal(execute.release.status, "RELEASED");
}
const { datasets } = await ask(await artifact("DashboardQuery"), { first: 10 });
const [{ node }] = datasets.edges;
assert.equal(node.history.edges.length, 2);
const more = { id: node.id, count: 2, cursor: node.history.pageInfo.endCursor };
const refetched = (await ask(await artifact("DashboardHistoryQuery"), more)).node;
assert.equal(refetched.history.edges.length, 1);
assert.equal(refetched.history.pageInfo.hasNextPage, false);
console.log("ok");
