"""The commands and their options; what they do is in modules of their own, imported when they run."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated

import typer

from dominus.cli.report import reported

__all__ = ["app"]

app = typer.Typer(
    name="dominus",
    help="One awaitable object for everything a Python backend needs around its business logic.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class RowsFormat(enum.StrEnum):
    """How rows are written in a file or on stdin."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class LogLevel(enum.StrEnum):
    """What is worth a line on stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Port = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 finds a free one.")]
Level = Annotated[
    LogLevel, typer.Option(envvar="DOMINUS_LOG_LEVEL", help="From which level on lines go to stderr.")
]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from dominus._version import __version__

        typer.echo(f"dominus {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    _ = version
    with reported():
        _read_env_file()


def _read_env_file() -> None:
    """Put what the file of DOMINUS_ENV_FILE says into the environment, for everything that looks there."""
    from dominus.env_file import env_file

    path = env_file()
    if path is not None:
        from dotenv import dotenv_values

        for name, value in dotenv_values(path, encoding="utf-8").items():
            os.environ.setdefault(name, value or "")


def _complete_name(incomplete: str) -> list[str]:
    from dominus.names import callable_names

    return [name for name in callable_names() if name.startswith(incomplete)]


@app.command()
def dev(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8700,
    home: Annotated[
        Path, typer.Option(envvar="DOMINUS_HOME", help="Where data and keys live, for this user only.")
    ] = Path(".dominus"),
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Start an orchestrator on this machine, with a real PostgreSQL and all else embedded.

    It prints what to export once it answers. Ctrl-C ends it and everything it started; the data stays in the
    home. `--log-level info` shows the requests.
    """
    with reported():
        from dominus.cli.serving import start_dev

        start_dev(host, port, home, log_level.value)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "0.0.0.0",  # noqa: S104 - for servers
    port: Port = 8700,
    workers: Annotated[int, typer.Option(min=1, max=256, envvar="DOMINUS_WORKERS", help="Processes.")] = 1,
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="The certificate chain, PEM; serves https.")
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its key, PEM, without a password.")] = None,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Serve in production, from the environment; the log is JSON lines on stderr.

    Needs DOMINUS_DATABASE_URL, DOMINUS_REDIS_URL, DOMINUS_MASTER_KEY and DOMINUS_ROOT_TOKEN. Behind a proxy, set
    FORWARDED_ALLOW_IPS to its address, so that callers are told apart by theirs. SIGTERM finishes what is in flight.
    """
    if ssl_keyfile is not None and ssl_certfile is None:
        raise typer.BadParameter("needs --ssl-certfile beside it", param_hint="--ssl-keyfile")
    with reported():
        from dominus.cli.serving import start_serve

        start_serve(host, port, workers, ssl_certfile, ssl_keyfile, log_level.value)


@app.command()
def demo(
    home: Annotated[
        Path | None, typer.Option(help="Keep the data here; without it, nothing is left behind.")
    ] = None,
) -> None:
    """Run the quick start against an orchestrator inside this process, and show each call with its result."""
    with reported():
        from dominus.cli.demo import run_demo

        run_demo(home)


@app.command(context_settings={"help_option_names": []})
def call(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="An operation, for example redis.get.", autocompletion=_complete_name),
    ] = None,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Its parameters.")] = None,
    rows_format: Annotated[
        RowsFormat | None,
        typer.Option("--format", help="What rows=@FILE and rows=- hold; without it, what they look like."),
    ] = None,
    is_list: Annotated[bool, typer.Option("--list", help="Show all operations.")] = False,
    is_help: Annotated[
        bool, typer.Option("--help", help="Show this, or with a NAME what that operation takes.")
    ] = False,
) -> None:
    """Call one operation and print its result as JSON.

    A VALUE is JSON where it is JSON, else text. KEY=@FILE takes it from a file and KEY=- from stdin: use these for
    secrets, because every user of this machine can see a command line. Files and stdin are text as they are, unless
    they hold a JSON object or list. Where an operation takes rows, they hold a JSON list, JSON lines, or CSV with the
    columns' names in its first line; an empty cell is NULL.

    `dominus call db.query table=orders 'filters={"status": "open"}'`

    `dominus call db.bulk_insert table=orders rows=- < orders.csv`
    """
    from dominus.cli.call import UsageError, print_names, print_operation, run_call

    with reported():
        if is_help and name is None:
            typer.echo(ctx.get_help())
            return
        if is_help and name is not None:
            print_operation(name)
            return
        if is_list:
            print_names()
            return
        if name is None:
            raise typer.BadParameter("is missing; --list shows all", param_hint="NAME")
        try:
            run_call(name, pairs or [], rows_format)
        except UsageError as error:
            raise typer.BadParameter(str(error), param_hint="KEY=VALUE") from None


ddl_app = typer.Typer(name="ddl", help="The shape of tables.", no_args_is_help=True)
app.add_typer(ddl_app)


@ddl_app.command()
def types(
    out: Annotated[Path | None, typer.Option(help="The file to write; without it, stdout.")] = None,
    schema: Annotated[str, typer.Option(help="Whose tables.")] = "public",
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be repeated.")] = None,
) -> None:
    """Write pydantic models of the tables, for `model=` of `dominus.db`."""
    with reported():
        from dominus.cli.types import write_types

        write_types(out, schema, table)


@app.command()
def doctor(
    is_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """Say what is set, what answers, what is wrong and how to fix it."""
    with reported():
        from dominus.cli.doctor import run_doctor

        raise typer.Exit(run_doctor(is_json=is_json))


files = typer.Typer(help="Files of any size: up and down, with a bar.", no_args_is_help=True)
app.add_typer(files, name="files")
_Actor = Annotated[
    str | None, typer.Option(help="The id of the user for whom a compliance file is kept or read.")
]


@files.command("upload")
def files_upload(
    file: Annotated[Path, typer.Argument(help="A file of this machine.")],
    path: Annotated[str | None, typer.Option(help="Where it shall lie; its name without this.")] = None,
    category: Annotated[str, typer.Option(help="Its category.")] = "general",
    content_type: Annotated[str | None, typer.Option(help="Its media type; told by its name.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Can be given several times.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with an upload that broke off.")
    ] = None,
) -> None:
    """Upload a file, and print what is known of it as JSON."""
    with reported():
        from dominus.cli.files import run_upload

        facts = {"path": path, "category": category, "content_type": content_type}
        run_upload(file, facts, tag or [], resume)


@files.command("download")
def files_download(
    name: Annotated[str, typer.Argument(help="The id of a file, or its path.")],
    to: Annotated[Path, typer.Argument(help="A file or folder of this machine.")] = Path(),
    category: Annotated[
        str | None, typer.Option(help="With a path: its category, `general` without it.")
    ] = None,
    actor: _Actor = None,
) -> None:
    """Download a file, checked and whole or not at all, and print what is known of it as JSON."""
    with reported():
        from dominus.cli.files import run_download

        run_download(name, to, category, actor)


logs = typer.Typer(help="Log lines.", no_args_is_help=True)
app.add_typer(logs, name="logs")


@logs.command()
def tail(
    level: Annotated[str | None, typer.Option(help="Exactly this level.")] = None,
    min_level: Annotated[str | None, typer.Option(help="This level or a more severe one.")] = None,
    category: Annotated[str | None, typer.Option(help="Exactly this category.")] = None,
    file: Annotated[str | None, typer.Option(help="A part of the file's path.")] = None,
    function: Annotated[str | None, typer.Option(help="A part of the function's name.")] = None,
    search: Annotated[str | None, typer.Option(help="Words in message and context.")] = None,
    backlog: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="Begin with so many.")] = 10,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many lines.")] = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each line.")] = False,
) -> None:
    """Follow log lines as they arrive, until Ctrl-C."""
    with reported():
        from dominus.cli.logs import run_tail

        run_tail(
            is_json=is_json,
            count=count,
            level=level,
            min_level=min_level,
            category=category,
            file=file,
            function=function,
            search=search,
            backlog=backlog,
        )


courier = typer.Typer(help="Mails: the outbox.", no_args_is_help=True)
app.add_typer(courier, name="courier")


class MailStatus(enum.StrEnum):
    """What has become of a mail."""

    QUEUED = "queued"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    SENT = "sent"
    DEAD = "dead"
    KEPT = "kept"


@courier.command()
def outbox(
    status: Annotated[MailStatus | None, typer.Option(help="Only mails of this status.")] = None,
    to: Annotated[str | None, typer.Option(help="An address among the recipients.")] = None,
    tag: Annotated[str | None, typer.Option(help="Exactly this tag.")] = None,
    template: Annotated[str | None, typer.Option(help="Exactly this template.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 20,
    is_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each mail, its model included.")
    ] = False,
) -> None:
    """List mails, the newest first, with what went wrong."""
    with reported():
        from dominus.cli.courier import run_outbox

        wanted = {
            "status": status.value if status else None,
            "to": to,
            "tag": tag,
            "template_alias": template,
        }
        run_outbox(is_json=is_json, limit=limit, **wanted)


@courier.command()
def retry(
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Mails that are dead or kept.")
    ] = None,
    is_all_dead: Annotated[bool, typer.Option("--all-dead", help="All that are dead, instead.")] = False,
) -> None:
    """Queue mails again that were given up, or kept while there was no relay: all that are named, or none."""
    if bool(message_ids) == is_all_dead:
        raise typer.BadParameter("give ids, or --all-dead", param_hint="ID...")
    with reported():
        from dominus.cli.courier import run_retry

        run_retry(message_ids or [], is_all_dead=is_all_dead)
