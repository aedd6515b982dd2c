"""One Spark session per process, in a Java process of its own that ends with this one."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired
from typing import TYPE_CHECKING, Any

from lomas_gql.datasets.fetching import drop_abandoned, lasting_folder
from lomas_gql.errors import SourceUnavailable
from lomas_gql.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MISSING = "Spark is not installed here: pip install 'lomas-gql[spark]'"
_NO_JAVA = "Spark did not start: it needs Java 17 or 21, in JAVA_HOME or on the path"
_END_SECONDS = 10.0

# These come after an owner's LOMAS_SPARK_CONF: the privacy of the answers rests on them.
_FIXED = {
    # Overflow, division by zero and casts of what cannot be cast give null: no row makes a query fail.
    "spark.sql.ansi.enabled": "false",
    # Nor does a time in an old calendar or an unusual form.
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    # A product of decimals keeps all its digits, or is null; so do those beside each other.
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.legacy.decimal.retainFractionDigitsOnTruncate": "true",
    # '${env:HOME}' is a text, and two quotes in a text are one.
    "spark.sql.variable.substitute": "false",
    "spark.sql.legacy.consecutiveStringLiterals.enabled": "false",
    # A name in FROM is never a file's.
    "spark.sql.runSQLOnFiles": "false",
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
    # What would show or keep queries and their plans, or an error's text, which can hold a cell.
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.eventLog.enabled": "false",
    "spark.log.level": "OFF",
}
_session: SparkSession | None = None


def session(master: str) -> SparkSession:
    """This process's session with that master: started on the first call, which takes seconds, and kept.

    Raises:
        SourceUnavailable: Spark or Java is not installed here, or the master does not answer.
    """
    global _session
    if _session is None or not _serves(_session, master):
        end()
        try:
            _session = _started(master)
        except ImportError:
            raise SourceUnavailable(_MISSING) from None
        except Exception as error:  # noqa: BLE001 (whatever Java says: no row was read)
            end()
            kind = type(error).__name__
            reason = _NO_JAVA if kind == "PySparkRuntimeError" else f"Spark at {master} cannot be reached: {kind}"
            raise SourceUnavailable(reason) from None
    return _session


def _serves(session: SparkSession, master: str) -> bool:
    context = session.sparkContext
    try:
        return context.master == master and _process().poll() is None and not context._jsc.sc().isStopped()
    except Exception:  # noqa: BLE001 (Java is dying: PySpark's and the system's own errors)
        return False


def _started(master: str) -> SparkSession:
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    settings = Settings()
    parent = settings.cache_dir / "spark"
    drop_abandoned(parent)
    folder = lasting_folder(parent)
    ours = _places(master, folder)
    java = {
        "spark.driver.memory": f"{settings.spark_megabytes}m",
        "spark.driver.extraJavaOptions": f'"-Djava.io.tmpdir={folder}" -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError',
    }
    with _without_secrets():
        # Java reads its standard input, a pipe from here, and ends when that does. What it prints may hold a cell.
        quiet = {"stdout": DEVNULL, "stderr": DEVNULL, "cwd": folder}
        gateway: Any = launch_gateway(_conf(ours | java), quiet)  # type: ignore[no-untyped-call]
    SparkContext._gateway, SparkContext._jvm = gateway, gateway.jvm
    with _own_signals():
        # Not on the command line, which everybody on this machine can read.
        return SparkSession(SparkContext(conf=_conf({**settings.spark_conf, **ours, **_FIXED})))


def _conf(options: Mapping[str, str]) -> Any:
    from pyspark import SparkConf

    return SparkConf().setAll(list(options.items()))


def _places(master: str, folder: Path) -> dict[str, str]:
    """Where Spark runs and writes. Alone on this machine it listens to nobody else."""
    places = {
        "spark.master": master,
        "spark.app.name": "lomas-gql",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    if not master.startswith("local"):
        return places
    # As many parts of a grouping as there are cores, and not 200.
    parts = {"spark.sql.shuffle.partitions": str(os.cpu_count() or 1)}
    return places | parts | {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}


@contextmanager
def _without_secrets() -> Iterator[None]:
    """Java has no use for our settings, and what runs there could read its environment."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("LOMAS_")}
    for name in ours:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(ours)


@contextmanager
def _own_signals() -> Iterator[None]:
    """PySpark sets a handler of SIGINT, which a worker ignores: the server decides when it ends."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread, where it sets none
            signal.signal(signal.SIGINT, handler)


def _process() -> Any:
    from pyspark import SparkContext

    return getattr(SparkContext._gateway, "proc", None)


def end() -> None:
    """Ends the session and its Java process, also one that has died; another may start afterwards."""
    global _session
    session, _session = _session, None
    with suppress(ImportError):
        from pyspark import SparkContext

        if session is not None:
            # Where Java has died, the session cannot say goodbye to it.
            with suppress(Exception), warnings.catch_warnings(action="ignore"):
                session.sparkContext.stop()
        SparkContext._active_spark_context = None
        gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None
        if gateway is None:
            return
        process: Any = getattr(gateway, "proc", None)
        try:
            gateway.shutdown()
            process.stdin.close()
            process.wait(_END_SECONDS)
        except (TimeoutExpired, OSError):
            process.kill()
            process.wait()
