"""The notebooks run from top to bottom, and say what their text says."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebook_01_runs_and_the_callback_wins_from_the_low_rate(tmp_path: Path) -> None:
    notebook = nbformat.read(  # type: ignore[no-untyped-call]
        NOTEBOOKS / "01_use_the_callback.ipynb", as_version=4
    )
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    shares = [
        float(line.split(":")[1].split("%")[0]) for line in printed.splitlines() if "digits right" in line
    ]
    usual, usual_ours, low, low_ours = shares
    assert low_ours > low + 20
    assert min(usual_ours, low_ours) > 95
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert usual > 90
