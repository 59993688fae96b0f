"""The optimizer that makes the steps, out of what others wrap it in."""

import warnings

import pytest
import torch
from lightning.fabric import Fabric
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn

from rl_lr.optimizer_step import bare
from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler


def test_wrappers_are_opened_also_one_inside_another() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    _, wrapped = Fabric(accelerator="cpu", devices=1).setup(model, optimizer)
    assert bare(optimizer) is optimizer
    assert bare(wrapped) is optimizer
    assert bare(LightningOptimizer(wrapped)) is optimizer  # type: ignore[arg-type]


def test_an_optimizer_that_has_another_and_steps_by_itself_is_left_alone() -> None:
    class Lookahead(torch.optim.SGD):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)

    outer = Lookahead([nn.Parameter(torch.zeros(1))], 0.1)
    assert bare(outer) is outer


@pytest.mark.parametrize("batches", [12, 30])
def test_a_scheduler_that_is_told_of_epochs_instead_of_steps_says_so_once(batches: int) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], 0.01)
    scheduler = RLScheduler(optimizer, 300, Policy.keep())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(4 * batches):
            loss = weight.square().sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step % batches == batches - 1:
                scheduler.step(loss)
    (warning,) = told
    assert "made 10 steps, and scheduler.step(loss) was not called yet" in str(warning.message)
    assert scheduler.controller.step == 4
