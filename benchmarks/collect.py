"""Runs the benchmarks one after the other and writes what they print into docs/performance.md.

    make bench

Each table stands there between two comments that name its benchmark; words outside them stay. One that fails keeps
its last table, and the others run all the same. With `--quick` everything is small and nothing is written: it shows
that they run.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil

HERE = Path(__file__).parent
PERFORMANCE = HERE.parent / "docs" / "performance.md"
PACKAGES = [
    "opendp",
    "polars",
    "smartnoise-sql",
    "duckdb",
    "diffprivlib",
    "scikit-learn",
    "smartnoise-synth",
    "mbi",
    "pandas",
    "strawberry-graphql",
    "starlette",
    "uvicorn",
    "sqlalchemy",
]
QUICK = {
    "start": "--rows 10000 --runs 1",
    "smartnoise_sql": "--rows 344 10000 --runs 3 --pandas-runs 1 --seconds 1",
    "libraries": "--rows 344 --runs 1 --without AIM",
    "growth": "--rows 1000 10000 --runs 1",
    "memory": "--rows 10000 --queries 10 20",
    "small_query": "--rounds 1 --seconds 0.5 --least 0",
    "dashboard": "--datasets 5 --releases 3 --runs 3",
    "ledger": "--seconds 1 --runs 5",
    "hostile": "--most 60000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(QUICK)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing is written")
    options = parser.parse_args()
    text, failed = placed(PERFORMANCE.read_text(), "machine", machine()), []
    for name in options.names or QUICK:
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        printed, failure = run(name, QUICK[name].split() if options.quick else [])
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
        if failure:
            failed.append(f"{name} ended with {failure}")
        else:
            text = placed(text, name, printed)
        if not options.quick:
            # At once: a later one may hang.
            PERFORMANCE.write_text(text)
    sys.exit("; ".join(failed) or 0)


def run(name: str, arguments: list[str]) -> tuple[str, int]:
    """What a benchmark printed, shown as it comes, and its exit code."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    lines = []
    # Not with our own environment's LOMAS settings: they would change what is measured.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOMAS_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kept) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines).strip(), process.returncode


def placed(text: str, name: str, printed: str) -> str:
    """The text with `printed` between the comments of that name.

    Raises:
        ValueError: it has no such comments.
    """
    begins, ends = f"<!-- {name}: written by make bench -->", f"<!-- {name} ends -->"
    written, found = re.subn(
        f"{re.escape(begins)}.*?{re.escape(ends)}", lambda _: f"{begins}\n{printed}\n{ends}", text, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{PERFORMANCE} needs one place for {name}: {begins} {ends}")
    return written


def machine() -> str:
    """What the times depend on."""
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{psutil.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB of memory, {platform.system()}, "
        f"Python {platform.python_version()}; {libraries}."
    )


if __name__ == "__main__":
    main()
