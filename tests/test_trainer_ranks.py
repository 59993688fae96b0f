"""Two ranks under Fabric, Accelerate and transformers decide alike, also where each holds a part of the weights."""

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
    """What each rank ended with; on the CPU, as two cannot share a GPU."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(HERE / "two_ranks_of_others.py"), str(folder)),
        ],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
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
    ]
    + [
        pytest.param(kind, marks=pytest.mark.compatibility("Several processes", what, "the same bits"))
        for kind, what in {
            "shards": "Hugging Face Trainer on FSDP 2",
            "shards by tensor": "Hugging Face Trainer on FSDP 2, a rate for each tensor",
        }.items()
    ],
)
def test_ranks_end_with_the_same_bits_at_a_low_loss(kind: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (one[kind] for one in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert first["rates"] == second["rates"]
    assert len(set(first["rates"])) > 100
    assert first["loss"] < 0.15  # from a rate a hundred times too low


@pytest.mark.compatibility(
    "Several processes",
    "Hugging Face Trainer on FSDP 2, resumed from a sharded checkpoint",
    "goes on; what was measured since the last decision is lost",
)
@pytest.mark.parametrize("kind", ["shards", "shards by tensor"])
def test_a_run_on_shards_goes_on_where_it_was(kind: str, ranks: list[dict[str, Any]]) -> None:
    for one in ranks:
        whole, resumed = one[kind], one[f"{kind}, resumed"]
        assert resumed["rates"][0] == whole["rates"][75]
        assert resumed["loss"] < 0.15
    assert torch.equal(*(one[f"{kind}, resumed"]["weights"] for one in ranks))


@pytest.mark.compatibility(
    "Several processes",
    "Hugging Face Trainer on FSDP, average=True",
    "refused: one process writes the state, and would write its own part alone",
)
def test_averages_of_weights_that_are_spread_are_refused(ranks: list[dict[str, Any]]) -> None:
    for one in ranks:
        assert "FSDP spreads the weights over processes" in one["refusal"]
