"""Tests of the loss that the rows of a network feel."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_lr.agreement import felt_loss

ROWS = torch.zeros(3, dtype=torch.float64)


def alone(value: Tensor) -> Tensor:
    """The mean over one process."""
    return value


@pytest.mark.parametrize(
    "loss",
    [
        0.25,
        torch.tensor(0.25, requires_grad=True),
        torch.tensor([[0.25]], dtype=torch.bfloat16),
        np.float32(0.25),
    ],
    ids=str,
)
def test_on_the_cpu_it_is_a_plain_number_whatever_came_in(loss: Tensor | float) -> None:
    assert type(felt_loss(torch.tensor(3), None, ROWS)) is float
    assert felt_loss(loss, None, ROWS) == 0.25
    assert felt_loss(loss, alone, ROWS) == 0.25


def test_elsewhere_every_row_has_it_without_its_history() -> None:
    felt = felt_loss(torch.tensor(0.25, device="meta", requires_grad=True), None, ROWS.to("meta"))
    assert isinstance(felt, Tensor)
    assert felt.shape == (3,)
    assert not felt.requires_grad


def test_a_process_without_a_loss_feels_none_alone_and_takes_part_among_others() -> None:
    def other_has_one(own: Tensor) -> Tensor:
        return (own + torch.tensor([0.5, 1.0])) / 2

    assert felt_loss(None, None, ROWS) is None
    assert felt_loss(None, other_has_one, ROWS) == 0.5
    assert felt_loss(0.25, other_has_one, ROWS) == 0.375
    nobody = felt_loss(None, alone, ROWS)
    assert isinstance(nobody, float)
    assert math.isnan(nobody)
