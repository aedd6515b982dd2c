// graphql-request: node request.js URL TOKEN
import { ClientError, GraphQLClient } from "graphql-request";
import { DASHBOARD, EXECUTE, session, token, url } from "./session.js";

const client = (bearer) => new GraphQLClient(url, { headers: { authorization: `Bearer ${bearer}` } });
const mine = client(token);

await session({
  query: (variables) => mine.request(DASHBOARD, variables),
  mutate: (variables) => mine.request(EXECUTE, variables),
  stranger: async () => {
    try {
      await client("lomas_unknown").request(DASHBOARD, { first: 1 });
    } catch (error) {
      return error instanceof ClientError && error.response.errors[0].extensions.code;
    }
  },
});
