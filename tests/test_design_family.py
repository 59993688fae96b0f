"""Random designs as tasks that train the policy."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from rl_lr.design.family import DESIGNED, designed
from rl_lr.tasks.check import check_deterministic
from rl_lr.tasks.families import images, sequences

FAMILIES = [family for family, _ in DESIGNED]


def _same_draw(family: Any, seed: int, _: np.random.Generator) -> Any:
    return family(np.random.default_rng(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_the_same_task_from_the_same_seed(family: Any) -> None:
    for seed in range(3):
        check_deterministic(partial(_same_draw, family, seed))


def test_drawn_networks_differ_in_depth_and_layers() -> None:
    names = {
        tuple(type(module).__name__ for module in designed(np.random.default_rng(seed)).factory().modules())
        for seed in range(40)
    }
    assert len(names) > 20


def test_the_families_draw_what_the_recorded_training_drew() -> None:
    """Sums of rows: with another draw the recorded command would train another policy."""
    assert float(images(np.random.default_rng(0)).data()[0].double().sum()) == pytest.approx(
        -18.69401, rel=1e-5
    )
    assert int(sequences(np.random.default_rng(0)).data()[0].sum()) == 158149
