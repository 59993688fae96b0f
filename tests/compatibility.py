"""Writes ``docs/compatibility.md`` from the tests that are marked ``compatibility(area, what, verdict)``.

``pytest --compatibility=docs/compatibility.md``: a row for every marked test that passed, in
the order of the files; a row whose test failed or was skipped says so. So the table claims nothing that no
test has shown.
"""

import os
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest

_TESTED = {
    "torch": "torch",
    "pytorch-lightning": "Lightning",
    "transformers": "transformers",
    "accelerate": "Accelerate",
}
_VERSIONS = ", ".join(f"{name} {version(package).partition('+')[0]}" for package, name in _TESTED.items())
_HEAD = f"""# Compatibility

What RLLearningRate and RLScheduler were tested with, on real Trainers and optimizers. This page is written by
`make compatibility` from the results of the tests: a row stands for tests that passed, with
{_VERSIONS}.
"""


class Compatibility:
    """Collects the verdicts of marked tests, in whichever process they run.

    Args:
        path: of the page.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._verdicts: list[tuple[int, str, str, str]] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember the order of the files, in which tests in several processes do not end."""
        self._order = {item.nodeid: index for index, item in enumerate(session.items)}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Note in the report of a marked test how it came out."""
        report = yield
        marker = item.get_closest_marker("compatibility")
        if marker is not None and (report.when == "call" or not report.passed):
            area, what, verdict = marker.args
            shown = verdict if report.passed else f"**test {report.outcome}**"
            report.user_properties.append(("compatibility", (self._order[item.nodeid], area, what, shown)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what is noted, which has come here from another process, or not."""
        for name, verdict in report.user_properties:
            if name == "compatibility":
                self._verdicts.append(cast(tuple[int, str, str, str], verdict))

    def pytest_sessionfinish(self) -> None:
        """Write the page; of several tests with the same row all must have passed."""
        areas: dict[str, dict[str, str]] = {}
        for _, area, what, shown in sorted(self._verdicts):
            rows = areas.setdefault(area, {})
            if not rows.get(what, "").startswith("**"):
                rows[what] = shown
        parts = [_HEAD]
        for area, rows in areas.items():
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
        path = (
            Path(os.devnull) if hasattr(config, "workerinput") else path
        )  # the process that started others writes
        config.pluginmanager.register(Compatibility(path))
