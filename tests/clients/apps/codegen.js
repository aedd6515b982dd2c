// graphql-codegen: npx graphql-codegen --config codegen.js, with URL, TOKEN and OUT in the environment.
const { URL: url, TOKEN: token, OUT: out } = process.env;

export default {
  schema: [{ [url]: { headers: { authorization: `Bearer ${token}` } } }],
  documents: "documents.graphql",
  generates: {
    [out]: {
      plugins: ["typescript", "typescript-operations"],
      config: { strictScalars: true, scalars: { DateTime: "string", JSON: "unknown" } },
    },
  },
};
