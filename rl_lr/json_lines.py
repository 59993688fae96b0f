"""Files that keep results as they come, a line of JSON each, and survive being cut off."""

import json
import os
from pathlib import Path
from typing import Any


def whole_lines(path: Path) -> list[str]:
    """The lines of a file, none if there is no file; a last one that was cut off is dropped from it."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return whole


def append(path: Path, row: dict[str, Any]) -> None:
    """One more line, on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
