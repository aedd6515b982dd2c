// Apollo Client: node apollo.js URL TOKEN
import assert from "node:assert/strict";
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { relayStylePagination } from "@apollo/client/utilities";
import { DASHBOARD, EXECUTE, session, token, url } from "./session.js";

// Its cache has to know which types stand behind an interface or a union.
const POSSIBLE = "{ __schema { types { kind name possibleTypes { name } } } }";
const asked = await fetch(url, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ query: POSSIBLE }),
});
const { types } = (await asked.json()).data.__schema;
const possibleTypes = Object.fromEntries(
  types.filter((type) => type.possibleTypes).map((type) => [type.name, type.possibleTypes.map((possible) => possible.name)]),
);

const client = (bearer) =>
  new ApolloClient({
    link: new HttpLink({ uri: url, headers: { authorization: `Bearer ${bearer}` } }),
    cache: new InMemoryCache({
      possibleTypes,
      typePolicies: { Dataset: { fields: { history: relayStylePagination() } } },
    }),
  });
const mine = client(token);

await session({
  query: async (variables) => (await mine.query({ query: gql(DASHBOARD), variables, fetchPolicy: "no-cache" })).data,
  mutate: async (variables) => (await mine.mutate({ mutation: gql(EXECUTE), variables })).data,
  stranger: async () => {
    try {
      await client("lomas_unknown").query({ query: gql(DASHBOARD), variables: { first: 1 } });
    } catch (error) {
      return CombinedGraphQLErrors.is(error) && error.errors[0].extensions.code;
    }
  },
});

// Paged through its cache, as a component does: the pages join.
const watched = mine.watchQuery({ query: gql(DASHBOARD), variables: { first: 2 } });
const lengths = [];
await new Promise((done) => {
  watched.subscribe(({ data, dataState, loading }) => {
    if (loading || dataState !== "complete") return;
    const { edges, pageInfo } = data.dataset.history;
    lengths.push(edges.length);
    if (pageInfo.hasNextPage) watched.fetchMore({ variables: { after: pageInfo.endCursor } });
    else done();
  });
});
assert.deepEqual(lengths, [2, 3]);
mine.stop();
