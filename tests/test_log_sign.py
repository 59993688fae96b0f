"""Tests of size and sign as inputs of learned optimizers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_lr.log_sign import log_and_sign


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(1.0, 15.0))
def test_its_two_numbers_are_of_about_one_whatever_comes_in(x: float, p: float) -> None:
    size, sign = log_and_sign(torch.tensor(x), p)
    assert -1.0 - 1e-5 <= size <= 70.0 / p
    assert -1.0 - 1e-5 <= sign <= 1.0 + 1e-5


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_it_is_continuous_where_small_begins(sign: float) -> None:
    edge = sign * math.exp(-10.0)
    below, above = log_and_sign(torch.tensor([edge * 0.9999, edge * 1.0001]))
    torch.testing.assert_close(below, above, atol=1e-3, rtol=0.0)


def test_nothing_flows_back_through_it() -> None:
    assert not log_and_sign(torch.ones(3, requires_grad=True)).requires_grad
