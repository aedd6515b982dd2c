"""The command line: serving, the demo, and administration."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError
from sqlalchemy.exc import SQLAlchemyError

from lomas_gql.database.engine import Database
from lomas_gql.database.models import Dataset, Grant
from lomas_gql.errors import DatabaseUnavailable, LomasError
from lomas_gql.services import administration, audit, importing, tokens, verification
from lomas_gql.services.catalogue import metadata_of, source_of
from lomas_gql.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="Differentially private queries over GraphQL, on data that nobody may see.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
db = typer.Typer(help="The database of budgets and releases.", no_args_is_help=True)
catalogue = typer.Typer(help="Users and datasets, from files.", no_args_is_help=True)
dataset = typer.Typer(help="The datasets that are served.", no_args_is_help=True)
user = typer.Typer(help="Who may sign in.", no_args_is_help=True)
token = typer.Typer(help="API tokens.", no_args_is_help=True)
audit_trail = typer.Typer(help="The append-only record of budgets and releases.", no_args_is_help=True)
for _name, _group in (("db", db), ("catalogue", catalogue), ("dataset", dataset), ("user", user), ("token", token)):
    app.add_typer(_group, name=_name)
app.add_typer(audit_trail, name="audit")

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)]
UserName = Annotated[str, typer.Argument(help="The user's name.", metavar="USER")]
DatasetName = Annotated[str, typer.Argument(help="The dataset's name.", metavar="DATASET")]


def main() -> None:
    """Runs a command. What goes wrong is one clear message and exit code 1."""
    # What is written here holds private rows, budgets and tokens' hashes.
    os.umask(0o077)
    try:
        app()
    except DatabaseUnavailable as error:
        _stop(f"the database does not answer: {error.reason}")
    except LomasError as error:
        _stop(error.message)
    except ValidationError as error:
        [first, *_] = error.errors()
        _stop(f"setting LOMAS_{'__'.join(str(p) for p in first['loc']).upper()}: {first['msg']}")
    except SettingsError as error:
        # It names the setting, and never its value.
        _stop(str(error).splitlines()[0])
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        missing = "no such table" in reason or "does not exist" in reason
        _stop("the database is not migrated; type: lomas-gql db upgrade" if missing else reason)


def _stop(message: str) -> None:
    sys.stderr.write(f"lomas-gql: {message}\n")
    sys.exit(1)


def _with_database(work: Callable[[Database], Awaitable[T]], settings: Settings | None = None) -> T:
    async def run() -> T:
        database = Database((settings or Settings()).url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


@app.command()
def demo(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its files.")] = Path("lomas-demo"),
) -> None:
    """Serves two public datasets to two demo users, and prints a token and a first query."""
    from lomas_gql.demo.server import serve_demo

    serve_demo(host, port, data_dir)


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(help="Server processes.", min=1, max=64)] = 1,
) -> None:
    """Serves GraphQL at /graphql. The settings are environment variables; see the README."""
    from lomas_gql.serving import serve

    serve(Settings(), host, port, workers)


@db.command("upgrade")
def db_upgrade() -> None:
    """Creates the tables, or brings them up to this version."""
    settings = Settings()
    _with_database(lambda database: database.upgrade(), settings)
    typer.echo("The database is up to date.")


@catalogue.command("import")
def catalogue_import(
    files: Annotated[
        list[Path], typer.Argument(help="YAML collections of datasets and of users.", metavar="FILE...")
    ],
) -> None:
    """Imports datasets and users as Lomas describes them, in one transaction. Repeated, it changes nothing."""
    imported = _with_database(lambda database: importing.import_catalogue(database, files))
    for change in imported.changes or ["nothing to change"]:
        typer.echo(change)


@dataset.command("list")
def dataset_list() -> None:
    """Lists the datasets, a line each."""
    for found in _with_database(administration.datasets):
        typer.echo(f"{found.name}\t{source_of(found).describe()}")


@dataset.command("show")
def dataset_show(name: DatasetName) -> None:
    """Shows a dataset's source, metadata and who holds a budget on it."""
    found, grants = _with_database(lambda database: administration.dataset_and_grants(database, name))
    typer.echo(f"{found.name}\nsource: {source_of(found).describe()}\ncaps: {_caps(found)}")
    typer.echo("metadata: " + json.dumps(metadata_of(found).smartnoise()[""][""], ensure_ascii=False))
    for user_name, grant in grants:
        typer.echo(f"{user_name}\t{_budget(grant)}")


@dataset.command("cap")
def dataset_cap(
    name: DatasetName,
    epsilon: Annotated[str | None, typer.Option(help="Over all users; none lifts it.", metavar="E")] = None,
    delta: Annotated[str | None, typer.Option(help="Over all users; none lifts it.", metavar="D")] = None,
    query_epsilon: Annotated[str | None, typer.Option(help="For one query; none lifts it.", metavar="E")] = None,
    query_delta: Annotated[str | None, typer.Option(help="For one query; none lifts it.", metavar="D")] = None,
) -> None:
    """Caps what all users together, who can collude, may spend on a dataset, and what one query may cost."""
    amounts = {"epsilon": epsilon, "delta": delta, "query_epsilon": query_epsilon, "query_delta": query_delta}
    capped = _with_database(lambda database: administration.cap(database, name, amounts))
    typer.echo(f"{name}: {_caps(capped)}")


@dataset.command("remove")
def dataset_remove(name: DatasetName) -> None:
    """Ends all queries on a dataset. History and spending stay on record; the file is not touched."""
    settings = Settings()
    id = _with_database(lambda database: administration.remove_dataset(database, name), settings)
    shutil.rmtree(settings.cache_dir / str(id), ignore_errors=True)
    typer.echo(f"dataset {name}: removed")


@user.command("list")
def user_list() -> None:
    """Lists the users, a line each."""
    for found in _with_database(administration.users):
        typer.echo(f"{found.name}\t{found.email or ''}\t{'may query' if found.may_query else 'may only look'}")


@user.command("show")
def user_show(name: UserName) -> None:
    """Shows a user and the user's budgets."""
    found, grants = _with_database(lambda database: administration.user_and_grants(database, name))
    typer.echo(f"{found.name}\t{found.email or ''}\t{'may query' if found.may_query else 'may only look'}")
    for dataset_name, grant in grants:
        typer.echo(f"{dataset_name}\t{_budget(grant)}")


@user.command("add")
def user_add(
    name: UserName,
    email: Annotated[str | None, typer.Option(help="For the owner's records.")] = None,
    may_query: Annotated[bool, typer.Option(help="Whether the user may execute queries.")] = True,
) -> None:
    """Adds a user. One that was removed comes back with the budgets and the history of before."""
    _with_database(lambda database: administration.add_user(database, name, email, may_query=may_query))
    typer.echo(f"user {name}: added")


@user.command("remove")
def user_remove(name: UserName) -> None:
    """Ends a user's access at once. History and spending stay on record."""
    _with_database(lambda database: administration.remove_user(database, name))
    typer.echo(f"user {name}: removed")


@app.command("grant")
def grant_budget(
    user_name: UserName,
    dataset_name: DatasetName,
    epsilon: Annotated[str, typer.Option(help="The initial epsilon.", metavar="E")],
    delta: Annotated[str, typer.Option(help="The initial delta.", metavar="D")],
) -> None:
    """Sets a user's initial budget on a dataset. What was spent stays spent."""
    granted = _with_database(lambda database: administration.grant(database, user_name, dataset_name, epsilon, delta))
    typer.echo(f"{user_name} on {dataset_name}: {_budget(granted)}")


@token.command("create")
def token_create(
    user_name: UserName,
    expires_in: Annotated[float | None, typer.Option(help="Days until it expires.", metavar="DAYS")] = None,
) -> None:
    """Prints a new token, once. Only its hash is kept."""
    typer.echo(_with_database(lambda database: tokens.create_token(database, user_name, expires_in)))


@token.command("list")
def token_list() -> None:
    """Lists the tokens without their secrets: id, user, when made, until when, state."""
    for info in _with_database(tokens.tokens):
        until = info.token.expires_at.isoformat(timespec="seconds") if info.token.expires_at else "no end"
        made = info.token.created_at.isoformat(timespec="seconds")
        typer.echo(f"{info.token.id}\t{info.user}\t{made}\t{until}\t{info.state}")


@token.command("revoke")
def token_revoke(
    id: Annotated[int, typer.Argument(help="From token list.", metavar="ID", min=1, max=2**63 - 1)],
) -> None:
    """Ends a token at once."""
    _with_database(lambda database: tokens.revoke_token(database, id))
    typer.echo(f"token {id}: revoked")


@audit_trail.command("verify")
def audit_verify(
    head: Annotated[
        str | None, typer.Option(help="A hash that was noted before: it must be in the chain.", metavar="HASH")
    ] = None,
) -> None:
    """Recomputes every budget from the audit trail and checks its hash chain. Exit code 1 where it differs."""
    verified = _with_database(lambda database: verification.verify(database, head))
    for finding in verified.findings:
        typer.echo(finding)
    if verified.findings:
        _stop(f"findings: {len(verified.findings)}; entries: {verified.entries}")
    typer.echo(f"{verified.entries} entries agree with all budgets and releases.\nhead: {verified.head}")


@audit_trail.command("export")
def audit_export(
    after: Annotated[int, typer.Option(help="Only entries behind this one.", min=0, metavar="ID")] = 0,
) -> None:
    """Writes the audit trail as JSON lines."""

    async def write(database: Database) -> None:
        async for entry in audit.exported(database, after):
            typer.echo(json.dumps(entry))

    _with_database(write)


def _caps(dataset: Dataset) -> str:
    left, query = dataset.cap_remaining, dataset.query_cap
    amounts = [
        ("epsilon {} left over all users", dataset.cap_epsilon, left.epsilon_text),
        ("delta {} left over all users", dataset.cap_delta, left.delta_text),
        ("epsilon {} for one query", dataset.query_cap_epsilon, query.epsilon_text),
        ("delta {} for one query", dataset.query_cap_delta, query.delta_text),
    ]
    return ", ".join(text.format(shown) for text, cap, shown in amounts if cap is not None) or "none"


def _budget(grant: Grant) -> str:
    initial, spent = grant.initial, grant.spent
    return (
        f"epsilon {spent.epsilon_text} of {initial.epsilon_text} spent, "
        f"delta {spent.delta_text} of {initial.delta_text} spent"
    )
