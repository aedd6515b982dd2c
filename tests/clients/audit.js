// The audits of GraphQL over HTTP: node audit.js URL; prints each one, and fails where one does not pass.
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2] });
for (const { id, name, status, reason } of results) console.log(status, id, name, reason ?? "");
process.exit(results.every(({ status }) => status === "ok") ? 0 : 1);
