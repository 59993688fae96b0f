"""One torch thread, deterministic property tests, one seed for every test."""

import gc
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from rl_lr.policy import Policy
from rl_lr.signals import NUM_SIGNALS

pytest_plugins = ["compatibility"]
torch.set_num_threads(1)
settings.register_profile("rl-lr", derandomize=True, database=None, deadline=None, max_examples=30)
settings.load_profile("rl-lr")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pictures of the browser go that are to be kept."""
    parser.addoption("--screenshots", type=Path, help="write test_browser.py's screenshots to this folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, or one core waits for the other at the end."""
    longest = ("test_notebooks.py", "test_resume.py", "test_workers.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # for libraries that draw from numpy's global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _spare_the_old() -> None:
    """Every episode collects garbage, which took a quarter of the time while it looked through all that was ever imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def make_policy() -> Callable[[int], Policy]:
    """Builds a policy of two hidden layers with random weights from a seed."""

    def make(seed: int) -> Policy:
        generator = torch.Generator().manual_seed(seed)
        sizes = (NUM_SIGNALS, 8, 6, 1)
        layers = tuple(
            (
                2 * torch.randn(fan_out, fan_in, generator=generator) / fan_in**0.5,
                torch.randn(fan_out, generator=generator) / 4,
            )
            for fan_in, fan_out in pairwise(sizes)
        )
        return Policy(layers, provenance={"seed": seed}, name=f"random-{seed}")

    return make
