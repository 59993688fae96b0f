"""Writes ``docs/compatibility.md`` from the tests that are marked ``compatibility(area, what, verdict)``.

``pytest --compatibility=docs/compatibility.md``: a row for every marked test that passed, in
the order of the files; a row whose test failed or was skipped says so. So the table claims nothing that no
test has shown.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_HEAD = """# Compatibility

What RLLearningRate and RLScheduler were tested with, on real Trainers and optimizers. This page is written by
`make compatibility` from the results of the tests: a row stands for tests that passed.
"""


class Compatibility:
    """Collects the verdicts of marked tests.

    Args:
        path: of the page.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Note how a marked test came out; of several with the same row all must have passed."""
        report = yield
        marker = item.get_closest_marker("compatibility")
        if marker is None or (report.when != "call" and report.passed):
            return report
        area, what, verdict = marker.args
        rows = self._rows.setdefault(area, {})
        shown = verdict if report.passed else f"**test {report.outcome}**"
        if not rows.get(what, "").startswith("**"):
            rows[what] = shown
        return report

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        parts = [_HEAD]
        for area, rows in self._rows.items():
            lines = "\n".join(f"| {what} | {verdict} |" for what, verdict in rows.items())
            parts.append(f"## {area}\n\n| | |\n|---|---|\n{lines}\n")
        self._path.write_text("\n".join(parts))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the page goes."""
    parser.addoption("--compatibility", type=Path, help="write the table of compatibility to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Collect only if somebody wants the page."""
    config.addinivalue_line("markers", "compatibility(area, what, verdict): a row of docs/compatibility.md")
    path = config.getoption("--compatibility")
    if path is not None:
        config.pluginmanager.register(Compatibility(path))
