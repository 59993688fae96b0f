"""Two ranks under Fabric, Accelerate and transformers decide alike."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(HERE / "two_ranks_of_others.py"), str(folder)),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=pytest.mark.compatibility("Several processes", f"{what} on DDP", "the same bits")
        )
        for kind, what in {
            "Fabric": "Lightning Fabric",
            "Accelerate": "Accelerate",
            "transformers": "Hugging Face Trainer",
        }.items()
    ],
)
def test_ranks_end_with_the_same_bits_at_a_low_loss(kind: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (one[kind] for one in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert first["rates"] == second["rates"]
    assert len(set(first["rates"])) > 100
    assert first["loss"] < 0.15  # from a rate a hundred times too low
