"""The demo: real public data, two users, a token and a query that can be pasted."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

from lomas_gql.database.engine import Database
from lomas_gql.services import importing, tokens
from lomas_gql.serving import serve
from lomas_gql.settings import Settings

HERE = Path(__file__).parent
FIRST_QUERY = (
    'mutation($sql: String!) { execute(input: {dataset: "PENGUIN", query: {smartnoiseSql: '
    "{sql: $sql, epsilon: 1, delta: 0}}}) { __typename ... on Executed { result { ... on SmartnoiseSqlResult "
    "{ table { columns { name } rows } } } cost { epsilon delta } budget { remaining { epsilon delta } } } "
    "... on UserError { message } } }"
)
FIRST_SQL = "SELECT species, COUNT(*) AS n FROM df GROUP BY species"


def serve_demo(host: str, port: int, data_dir: Path) -> None:
    """Prepares a folder with the demo's database and serves it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # In the environment, so that every server process reads the same.
    os.environ["LOMAS_DATA_DIR"] = str(data_dir.absolute())
    os.environ["LOMAS_DATABASE_URL"] = ""
    settings = Settings()
    secrets = asyncio.run(_prepare(settings))
    sys.stdout.write(_welcome(f"http://{host}:{port}/graphql", secrets))
    sys.stdout.flush()
    serve(settings, host, port, workers=1)


async def _prepare(settings: Settings) -> dict[str, str]:
    database = Database(settings.url)
    try:
        await database.upgrade()
        await importing.import_catalogue(database, [HERE / "catalogue.yaml"])
        return {user: await tokens.create_token(database, user, days=7) for user in ("ample", "frugal")}
    finally:
        await database.close()


def _welcome(url: str, secrets: dict[str, str]) -> str:
    body = f'{{"query": "{FIRST_QUERY.replace(chr(34), chr(92) + chr(34))}", "variables": {{"sql": "{FIRST_SQL}"}}}}'
    return f"""
  GraphQL endpoint:  {url}
  In a browser:      {url}     (GraphiQL: paste a token into the field at the top)
  Token of ample:    {secrets["ample"]}     (epsilon 100, on PENGUIN and IRIS)
  Token of frugal:   {secrets["frugal"]}     (epsilon 1, on PENGUIN)

  A first query, to paste into another terminal: how many penguins of each species?

curl -s {url} -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {secrets["ample"]}' \\
  -d {shlex.quote(body)}

  The tokens hold for 7 days. Ctrl-C stops the server.

"""
