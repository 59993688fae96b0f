"""The guard: who has fallen, told by windows of losses."""

import pytest
import torch

from rl_lr.guard import Guard
from rl_lr.signals import Position, Signals

NOWHERE = Position(0.5, 0.0, 0.0, False, torch.zeros(1), torch.zeros(1))


class Watched:
    """One run: windows of losses go in, verdicts come out."""

    def __init__(self) -> None:
        self.guard, self.signals = Guard(1, 3.0, "cpu"), Signals(1, 1)

    def window(self, loss: float, steps: int = 20, swing: float = 0.0) -> tuple[bool, bool]:
        """Whether the run has fallen, and whether it is healthy, after a window of losses around a mean."""
        return self.losses([loss + swing * (-1) ** step for step in range(steps)], loss)

    def losses(self, losses: list[float], latest: float | None = None) -> tuple[bool, bool]:
        """The same after a window of these; ``latest`` is judged as if it had been the last."""
        for loss in losses:
            one = torch.tensor([loss])
            self.signals.record(one, None, None)
            self.guard.feel(one.double())
        last = losses[-1] if latest is None else latest
        verdict = self.guard.judge(torch.tensor([last]).double(), self.signals, over=False)
        fallen, healthy = (bool(one) for one in verdict)
        if fallen:
            self.signals.forget(verdict[0])
        self.signals.read(NOWHERE)
        self.guard.watch(self.signals)
        return fallen, healthy


@pytest.mark.parametrize(
    ("come_down_to", "jump_to", "falls"),
    [
        (0.1, 0.5, False),  # 0.1 + half of the 0.9 gained is 0.55
        (0.1, 0.6, True),
        (0.0, 0.6, True),
        (0.8, 1.5, False),  # has not come down by a quarter: only the level it began at counts
        (0.8, 2.1, True),
    ],
)
def test_a_run_falls_that_loses_half_of_what_it_had_gained_at_once(
    come_down_to: float, jump_to: float, falls: bool
) -> None:
    run = Watched()
    assert run.window(1.0)[0] is False
    assert run.window(come_down_to) == (False, True)
    assert run.window(come_down_to) == (False, True)
    assert run.window(jump_to) == (falls, not falls)


def test_a_loss_that_drifts_up_slowly_is_no_fall() -> None:
    run = Watched()
    for loss in (1.0, 0.1, *(0.1 + 0.1 * k for k in range(1, 15))):
        assert run.window(loss) == (False, True)


def test_a_jump_of_few_losses_or_of_their_usual_spread_is_chance() -> None:
    few = Watched()
    few.window(1.0)
    few.window(0.1)
    assert few.window(0.9, steps=3)[0] is False
    wild = Watched()
    for loss in (1.0, 0.2, 0.2):
        wild.window(loss, swing=0.6)
    assert wild.window(1.5, swing=0.6)[0] is False
    calm = Watched()
    for loss in (1.0, 0.2, 0.2):
        calm.window(loss)
    assert calm.window(1.5)[0] is True


def test_a_lucky_window_of_few_losses_is_no_gain() -> None:
    run = Watched()
    run.window(1.0)
    run.window(0.1, steps=2)
    assert run.window(1.2)[0] is False


def test_a_loss_that_falls_by_chance_upon_a_lucky_first_batch_is_no_fall() -> None:
    run = Watched()
    verdicts = [run.window(loss, steps=1) for loss in (3.5, 11.3, 10.2, 4.0, 7.5, 8.9, 5.8, 12.8, 7.8, 9.4)]
    assert not any(fallen for fallen, _ in verdicts)
    assert all(healthy for _, healthy in verdicts[5:])  # the first five tell where it began: at 7.5


def test_a_window_whose_mean_a_few_outliers_make_is_no_fall() -> None:
    run = Watched()
    for loss in (1.0, 1.0):
        run.window(loss)
    for loss in (1.0, 100.0, 100.0, 1.0, 1.0):
        run.guard.feel(torch.tensor([loss]).double())
        run.signals.record(torch.tensor([loss]), None, None)
    latest = torch.ones(1, dtype=torch.float64)
    assert [bool(one) for one in run.guard.judge(latest, run.signals, over=False)] == [False, True]


def test_a_run_that_explodes_from_its_second_step_is_told_by_its_first_and_never_copied() -> None:
    run = Watched()
    assert run.window(2.0, steps=1) == (False, True)
    for loss in (10.0, 30.0, 90.0, 270.0):
        assert run.window(loss, steps=1) == (False, False)
    assert run.window(800.0, steps=1)[0] is True


@pytest.mark.parametrize("up_there", [1, 4])
def test_a_fall_that_begins_at_the_end_of_a_window_is_told_by_the_next(up_there: int) -> None:
    """Its losses made the first window's spread so wide that the second was no surprise, nor any after it."""
    run = Watched()
    for loss in (1.0, 0.01, 0.01):
        assert run.window(loss) == (False, True)
    losses = [0.01] * (40 - up_there) + [2.0 + step for step in range(up_there)]
    assert run.losses(losses) == (False, False)
    assert run.window(0.9)[0] is True
    assert run.window(0.01) == (False, True)


def test_a_run_that_goes_back_is_judged_by_where_it_went_back_to() -> None:
    run = Watched()
    run.window(1.0)
    run.window(0.1)
    for _ in range(5):
        assert run.window(0.9)[0] is True
    assert run.window(0.9)[0] is False  # the sixth time it is taken as it is
    assert run.window(0.9) == (False, True)


def test_a_state_goes_on_where_it_was() -> None:
    whole, resumed = Watched(), Watched()
    for loss in (1.0, 0.1):
        whole.window(loss)
    resumed.guard.load_state_dict(whole.guard.state_dict())
    resumed.signals.load_state_dict(whole.signals.state_dict())
    for loss in (0.7, 0.1, 5.0, float("nan"), 0.1):
        assert whole.window(loss) == resumed.window(loss)


@pytest.mark.parametrize("steps", [2, 20])
def test_a_loss_that_is_zero_at_first_begins_where_its_terms_count(steps: int) -> None:
    run = Watched()
    for loss in [0.0] * 5 + [1.0] * 10:
        assert not run.window(loss, steps)[0]
    assert run.guard.feel(3.0)
    assert not run.guard.feel(5.0)
