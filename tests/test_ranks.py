"""Two gloo ranks with data of their own decide alike, and runs move between numbers of ranks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from event_files import logs
from fits import QUIET, Module, full_loss, rows, trainer

from rl_lr.callbacks import RLLearningRate

GOES_ON = "goes on; what was measured since the last decision is lost"

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def on_two_ranks(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What each rank ended with."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), *sys.path])
    clean = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "MASTER_PORT")}
    done = subprocess.run(
        [sys.executable, str(here / "two_ranks.py"), str(folder), *arguments],
        env=clean | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return on_two_ranks(folder)


def across(what: str, verdict: str) -> pytest.MarkDecorator:
    return pytest.mark.compatibility("Several processes", what, verdict)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("plain", marks=across("DDP", "ranks end with the same bits, each on data of its own")),
        pytest.param("each tensor", marks=across("DDP, a rate for each tensor", "the same bits")),
        pytest.param("unused", marks=across("DDP, parameters unused on one rank", "the same bits")),
        pytest.param("by hand", marks=across("DDP, a loss missing on one rank", "the same bits")),
        pytest.param(
            "sharded", marks=across("FSDP 2 with RLScheduler(agree=...)", "the same decisions on shards")
        ),
        pytest.param(
            "spread",
            marks=across("FSDP 2 in a Trainer (ModelParallelStrategy)", "the same decisions on shards"),
        ),
        pytest.param(
            "spread, resumed",
            marks=across("FSDP 2 in a Trainer, resumed", GOES_ON),
        ),
        pytest.param(
            "spread, resumed from parts",
            marks=across(
                "FSDP 2 in a Trainer, resumed from a checkpoint that each rank wrote its part of", GOES_ON
            ),
        ),
        pytest.param(
            "spread by tensor, resumed from parts",
            marks=across("FSDP 2 in a Trainer, a rate for each tensor, resumed", GOES_ON),
        ),
        pytest.param("exploding", marks=across("DDP, a run that explodes", "the same bits")),
    ],
)
def test_ranks_end_with_the_same_bits(kind: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (one[kind] for one in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert first["rates"] == second["rates"]
    assert len(set(first["rates"])) > 50  # decisions were made


def test_a_run_on_shards_goes_on_at_the_rate_that_it_had(ranks: list[dict[str, Any]]) -> None:
    for one in ranks:
        for way in ("spread, resumed", "spread, resumed from parts"):
            assert one[way]["steps"] == 120
            assert one[way]["rates"][0] == pytest.approx(one["spread"]["rates"][-1], rel=0.5)
        assert one["spread, resumed from parts"]["rates"] == one["spread, resumed"]["rates"]


def test_two_ranks_train_from_a_rate_a_hundred_times_too_low(ranks: list[dict[str, Any]]) -> None:
    trained = Module()
    weight, bias = ranks[0]["plain"]["weights"].split([8, 1])
    trained.network.load_state_dict({"weight": weight.view(1, 8), "bias": bias})
    assert full_loss(trained) < 0.5


def test_the_board_is_written_by_the_first_rank_alone(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert [one["plain"]["shown"] for one in ranks] == [1, 0]
    (run,) = (folder / "logs" / "lightning_logs").iterdir()
    steps = [one.step for one in logs(run).Scalars("convergence/rate")]
    assert steps == sorted(set(steps))
    assert len(steps) > 30


def test_sharded_weights_train(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["sharded"]["fell to"] < 0.05


@across(
    "FSDP 2 with RLScheduler(average=True), a state of another process", "refused: each has to keep its own"
)
def test_averages_of_another_process_s_part_of_the_weights_are_refused(ranks: list[dict[str, Any]]) -> None:
    for rank, one in enumerate(ranks):
        assert f"weights of process {1 - rank}, and this is process {rank}" in one["sharded"]["refusal"]


@across("resume on another number of ranks, 2 → 1 → 2", "goes on; with total_steps to the same horizon")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
def test_a_run_moves_from_two_ranks_to_one_and_back(
    folder: Path, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    module = Module(lr=1e-4)
    one = trainer(RLLearningRate(total_steps=120), max_epochs=4)
    one.fit(module, rows(), ckpt_path=folder / "saved" / "epoch=2.ckpt")
    assert one.global_step == 60 + 40
    assert module.rates[0] == pytest.approx(ranks[0]["plain"]["rates"][-1], rel=0.5)
    one.save_checkpoint(tmp_path / "one.ckpt")
    first, second = (one["resumed"] for one in on_two_ranks(tmp_path, str(tmp_path / "one.ckpt")))
    assert first["steps"] == 120
    assert torch.equal(first["weights"], second["weights"])
    assert first["rates"][0] == pytest.approx(module.rates[-1], rel=0.5)
