"""How far a long run has come: told by a library in its worker, read by the server."""

from __future__ import annotations

import json
import math
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """`share` from 0 to 1, None where it is unknown, and a few words about what is being done."""

    share: float | None
    phase: str


_file: ContextVar[Path | None] = ContextVar("progress_file", default=None)


def told_in(file: Path | None) -> None:
    """From here on `tell` writes into `file`; nowhere where it is None, as in a dummy run."""
    _file.set(file)


def tell(share: float | None, phase: str) -> None:
    """Says how far the run has come. Only public or already noised facts may decide what is told."""
    file = _file.get()
    if file is None:
        return
    share = None if share is None else min(max(share, 0.0), 1.0)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(Progress(share, phase))))
    draft.replace(file)


def read(file: Path) -> Progress | None:
    """What was told last in `file`, if anything."""
    try:
        told = json.loads(file.read_text())
        share = told["share"]
        return Progress(share if share is None or math.isfinite(share) else None, str(told["phase"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
