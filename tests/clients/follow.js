// Follows a release to its end with graphql-ws: node follow.js URL TOKEN RELEASE_ID; prints each status.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, token, id] = process.argv.slice(2);
const client = createClient({
  url: url.replace("http", "ws"),
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${token}` },
  retryAttempts: 0,
});
const query = "subscription($id: ID!) { release(id: $id) { status progress phase } }";
for await (const result of client.iterate({ query, variables: { id } })) {
  if (result.errors) throw new Error(JSON.stringify(result.errors));
  console.log(result.data.release.status);
}
await client.dispose();
