"""A run under control in which something of ours fails goes on under its base schedule."""

import warnings
from typing import Any

import pytest
import pytorch_lightning as pl
from fits import QUIET, Module, rows, trainer

from rl_lr.callbacks import RLLearningRate
from rl_lr.config import ControlConfig
from rl_lr.schedules import base_schedule

pytestmark = [pytest.mark.filterwarnings(one) for one in QUIET]


def broken(*_: object) -> Any:
    """What fails whenever it is called."""
    raise ConnectionError("nobody is there")


class Break(pl.Callback):
    """Breaks a part of the scheduler in mid-run, which then fails at every step."""

    def __init__(self, callback: RLLearningRate, part: str) -> None:
        self.callback, self.part = callback, part

    def on_train_batch_end(self, run: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        scheduler = self.callback.scheduler
        if batch_idx == 20 and scheduler is not None:
            setattr(scheduler if self.part == "_agree" else scheduler._measuring, self.part, broken)


@pytest.mark.parametrize("part", ["weights", "_agree"], ids=["in a hook", "before a step counts"])
def test_wherever_it_fails_there_is_one_warning_and_the_base_schedule_goes_on(part: str) -> None:
    callback, module = RLLearningRate(), Module()
    run = trainer(callback, Break(callback, part), max_epochs=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run.fit(module, rows())
    assert sum("hands over to the base schedule" in str(one.message) for one in told) == 1
    wanted = [0.01 * base_schedule(step, 40, "cosine", ControlConfig()) for step in range(25, 40)]
    assert module.rates[25:] == wanted


@pytest.mark.parametrize("part", ["weights", "_agree"])
def test_if_it_is_to_raise_it_raises(part: str) -> None:
    callback = RLLearningRate(on_error="raise")
    with pytest.raises(ConnectionError, match="nobody is there"):
        trainer(callback, Break(callback, part), max_epochs=1).fit(Module(), rows())


def test_when_groups_are_taken_away_those_that_are_left_keep_their_rates() -> None:
    class Take(pl.Callback):
        def on_train_batch_end(self, run: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 20:
                del run.optimizers[0].param_groups[1]

    module = Module(groups=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer(RLLearningRate(), Take(), max_epochs=1).fit(module, rows())
    assert sum("lost parameter groups" in str(one.message) for one in told) == 1
    assert module.rates[25:] == [module.rates[25]] * 15
