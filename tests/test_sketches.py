"""Sketches: small, spread evenly, of the network or of each tensor."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_lr.sketches import SKETCH, TENSOR_SKETCH, Sketches, sketch_stride

SHAPES = ((7, 3), (11,), (40, 50))


def tensors(runs: int) -> list[torch.Tensor]:
    """Numbered coordinates, so that a sketch says where it is from; runs are 10⁴ apart."""
    start, made = 0, []
    for shape in SHAPES:
        size = math.prod(shape)
        one = torch.arange(start, start + size, dtype=torch.float32).view(shape)
        made.append(torch.stack([one + 1e4 * run for run in range(runs)]))
        start += size
    return made


SIZES = [math.prod(shape) for shape in SHAPES]


@given(st.integers(1, 10**10))
def test_a_stride_is_prime_and_the_sketch_fits(count: int) -> None:
    stride = sketch_stride(count)
    assert -(-count // stride) <= SKETCH
    assert (stride == 1) == (count <= SKETCH)
    assert all(stride % k for k in range(2, math.isqrt(stride) + 1))


def test_the_sketch_of_a_network_is_every_nth_coordinate_of_all_its_tensors() -> None:
    sketches = Sketches(SIZES)
    stride = sketch_stride(sum(SIZES))
    assert stride > 1
    expected = torch.arange(0, sum(SIZES), stride, dtype=torch.float32)
    assert torch.equal(sketches(tensors(2)), torch.stack((expected, expected + 1e4)))


def test_each_tensor_has_a_sketch_and_the_tensors_of_a_run_are_neighbours() -> None:
    sketches = Sketches(SIZES, "tensor")
    rows = sketches(tensors(2))
    assert (sketches.rows, rows.shape) == (3, (6, sketches.width))
    assert sketches.width <= TENSOR_SKETCH
    assert rows[:3, 0].tolist() == [0.0, 21.0, 32.0]
    assert rows[3:, 0].tolist() == [10000.0, 10021.0, 10032.0]
    assert rows[1, 11:].count_nonzero() == 0  # eleven numbers, and zeros


@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_what_came_later_is_left_out_and_what_is_missing_is_zero(granularity: str) -> None:
    sketches = Sketches(SIZES, granularity)  # type: ignore[arg-type]
    more = [*tensors(1), torch.full((1, 5), 7.0)]
    assert torch.equal(sketches(more), sketches(tensors(1)))
    fewer = Sketches(SIZES)(tensors(1)[:2])
    assert fewer.shape[1] == Sketches(SIZES).width
    assert fewer[0, -1] == 0.0
