"""Audits every mechanism of every library: see docs/noise-audit.md.

    make audit

Ends with 1 where a mechanism is shown to spend more than it is charged for.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
from pathlib import Path

from tests.audit.lines import HEAD, Line, cases_of, line_of, row, spends_more

LIBRARIES = ("smartnoise_sql", "opendp", "diffprivlib", "smartnoise_synth")
PAGE = Path(__file__).parents[2] / "docs" / "noise-audit.md"
MARKS = "<!-- audit: begin -->\n", "<!-- audit: end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480, help="for all cases together")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="the cases whose names hold this")
    parser.add_argument("--write", action="store_true", help=f"the table goes into {PAGE.name}")
    options = parser.parse_args()
    found = [
        (library, place, case.weight)
        for library in LIBRARIES
        for place, case in enumerate(cases_of(library))
        if options.only in str(case)
    ]
    each = options.seconds * options.processes / max(1, sum(weight for *_, weight in found))
    asked = [(library, place, each * weight) for library, place, weight in found]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        lines = []
        print(HEAD, end="")
        for line in pool.imap(line_of, asked, chunksize=1):
            lines.append(line)
            print(row(line), end="", flush=True)
    if options.write:
        written(lines)
    sys.exit(any(spends_more(line) for line in lines))


def written(lines: list[Line]) -> None:
    text = PAGE.read_text()
    table = HEAD + "".join(map(row, lines))
    PAGE.write_text(re.sub(f"{MARKS[0]}.*{MARKS[1]}", lambda _: MARKS[0] + table + MARKS[1], text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
