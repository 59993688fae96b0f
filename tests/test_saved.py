"""What of a saved run can go on."""

import torch

from rl_lr.controller import Controller
from rl_lr.saved import unsketched

WIDE, NARROW = 12, 5


def controlled(width: int, steps: int) -> Controller:
    """A run of falling loss that was decided, with sketches of that width."""
    controller = Controller(runs=1, width=width, total_steps=400)
    advance(controller, steps)
    return controller


def advance(controller: Controller, steps: int) -> None:
    generator = torch.Generator().manual_seed(controller.step)
    for _ in range(steps):
        if controller.due:
            controller.rewind()
            controller.signals()
            controller.act(torch.tensor([0.1]))
        grad, weights = torch.randn(2, 1, controller.width, generator=generator)
        controller.record(torch.tensor([1.0 / (1 + controller.step)]), grad, weights)


def test_a_run_goes_on_with_the_sketches_of_another_shard() -> None:
    saved = controlled(WIDE, 101).state_dict()
    other = Controller(runs=1, width=NARROW, total_steps=400)
    other.load_state_dict(unsketched(saved, NARROW))
    assert other.step == 101
    assert torch.equal(other.offset, saved["offset"])
    advance(other, 100)
    assert torch.isfinite(other.signals()).all()


def test_losses_and_what_earlier_windows_told_are_kept() -> None:
    whole, other = controlled(WIDE, 101), Controller(runs=1, width=WIDE, total_steps=400)
    other.load_state_dict(unsketched(whole.state_dict(), WIDE))
    assert other.last_loss == whole.last_loss
    kept = (whole.signals() == other.signals())[0]
    assert kept[:6].all()  # where the run stands
    assert kept[6:12].all()  # losses
    assert not kept.all()


def test_what_was_saved_is_left_as_it_was() -> None:
    saved = controlled(WIDE, 101).state_dict()
    unsketched(saved, NARROW)
    assert saved["width"] == WIDE
    assert saved["signals"]["window"]["gradient"].shape == (1, WIDE)
