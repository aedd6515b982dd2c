// Follows a release to its end with graphql-sse: node follow-sse.js URL TOKEN RELEASE_ID; prints each status.
import { createClient } from "graphql-sse";

const [url, token, id] = process.argv.slice(2);
const client = createClient({ url, headers: { authorization: `Bearer ${token}` }, retryAttempts: 0 });
const query = "subscription($id: ID!) { release(id: $id) { status progress phase } }";
for await (const result of client.iterate({ query, variables: { id } })) {
  if (result.errors) throw new Error(JSON.stringify(result.errors));
  console.log(result.data.release.status);
}
client.dispose();
