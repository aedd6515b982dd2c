// What each client does: it executes three queries, pages through their history, is refused one, and signs in wrongly.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const [url, token] = process.argv.slice(2);
const documents = readFileSync(new URL("documents.graphql", import.meta.url), "utf8");
export const [DASHBOARD, EXECUTE] = ["query Dashboard", "mutation Execute"].map((head) => {
  const begin = documents.indexOf(head);
  return documents.slice(begin, documents.indexOf("\n}\n", begin) + 3);
});
const input = (sql) => ({ dataset: "PENGUIN", query: { smartnoiseSql: { sql, epsilon: 0.5, delta: 0 } } });

// `query(variables)` and `mutate(variables)` answer with data; `stranger()` with the code of an error.
export async function session({ query, mutate, stranger }) {
  for (let i = 0; i < 3; i++) {
    const { execute } = await mutate({ input: input("SELECT COUNT(*) AS n FROM df") });
    assert.equal(execute.__typename, "Executed");
    assert.equal(typeof execute.result.table.rows[0][0], "number");
  }
  const refused = (await mutate({ input: input("SELECT species FROM df") })).execute;
  assert.equal(refused.__typename, "InvalidQuery");
  assert.equal(refused.code, "INVALID_QUERY");
  assert.ok(refused.issues[0].path.length > 0);

  const seen = [];
  for (let after = null, more = true; more; ) {
    const { viewer, dataset } = await query({ first: 2, after });
    assert.equal(viewer.ongoing, null);
    assert.equal(dataset.budget.spent.epsilon, 1.5);
    assert.equal(dataset.metadata.columns.length, 8);
    seen.push(...dataset.history.edges.map((edge) => edge.node.id));
    ({ endCursor: after, hasNextPage: more } = dataset.history.pageInfo);
    assert.equal(dataset.history.totalCount, 3);
  }
  assert.equal(new Set(seen).size, 3);
  assert.equal(await stranger(), "UNAUTHENTICATED");
  console.log("ok");
}
