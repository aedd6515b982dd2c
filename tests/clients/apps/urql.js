// urql: node urql.js URL TOKEN
import { Client, cacheExchange, fetchExchange } from "@urql/core";
import { DASHBOARD, EXECUTE, session, token, url } from "./session.js";

const client = (bearer) =>
  new Client({
    url,
    exchanges: [cacheExchange, fetchExchange],
    fetchOptions: { headers: { authorization: `Bearer ${bearer}` } },
    preferGetMethod: "within-url-limit",
  });
const mine = client(token);
const data = (result) => {
  if (result.error) throw result.error;
  return result.data;
};

await session({
  query: async (variables) => data(await mine.query(DASHBOARD, variables, { requestPolicy: "network-only" })),
  mutate: async (variables) => data(await mine.mutation(EXECUTE, variables)),
  stranger: async () => {
    const { error } = await client("lomas_unknown").query(DASHBOARD, { first: 1 });
    return error.graphQLErrors[0].extensions.code;
  },
});
