"""Files of results that come one by one."""

import json
from pathlib import Path
from typing import Any

import pytest

from rl_lr.json_lines import append, whole_lines


def test_what_was_appended_is_read_back_and_no_file_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert whole_lines(path) == []
    rows: list[dict[str, Any]] = [{"number": 1}, {"name": "Ω"}]
    for row in rows:
        append(path, row)
    assert [json.loads(line) for line in whole_lines(path)] == rows


@pytest.mark.parametrize("left", [1, 5, 12])
def test_a_line_that_was_cut_off_is_dropped_so_that_the_next_one_stands_alone(
    tmp_path: Path, left: int
) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, {"number": 1})
    first = path.read_bytes()
    append(path, {"number": 2})
    path.write_bytes(path.read_bytes()[: len(first) + left])
    assert len(whole_lines(path)) == 1
    append(path, {"number": 3})
    assert [json.loads(line)["number"] for line in whole_lines(path)] == [1, 3]
