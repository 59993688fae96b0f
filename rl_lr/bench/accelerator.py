"""What the scheduler costs on an accelerator: wall time of whole steps, all work of the device waited for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rl_lr.bench.ratios import Ratio, paired, seconds
from rl_lr.scheduler import RLScheduler

_WIDTH = 4096
_WANTED = 0.01  # seconds in a step
_SHORT, _LONG = 1000, 20_000
_WINDOW = 432  # steps between two decisions of the long run


class _Loop:
    """A plain training loop of 50 million parameters under AdamW, steps of about 10 ms."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(_WIDTH, _WIDTH) for _ in range(3)]
        self.network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).cuda()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-4)
        self.x = torch.randn(1024, _WIDTH, device="cuda")
        self.steps(3)
        rows = round(len(self.x) * _WANTED * 10 / self.steps(10))
        self.x = torch.randn(max(1, rows), _WIDTH, device="cuda")

    def steps(self, count: int, told: Callable[[Tensor], None] = lambda loss: None) -> float:
        """Seconds of so many steps, after each of which ``told`` has its loss."""

        def loop() -> None:
            for _ in range(count):
                loss = (self.network(self.x) - self.x).square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                told(loss)
            torch.cuda.synchronize()

        torch.cuda.synchronize()
        return seconds(loop)


def scheduler_on_accelerator(repetitions: int) -> list[Ratio]:
    """Time of steps with the scheduler over that of steps without, of the same network, in turn."""
    ours, theirs = _Loop(), _Loop()
    theirs.x = ours.x
    return [_within_a_run(ours, theirs, repetitions), _whole_runs(ours, theirs, max(2, repetitions // 4))]


def _within_a_run(ours: _Loop, theirs: _Loop, repetitions: int) -> Ratio:
    """In the middle of a long run, with a decision in each repetition."""
    scheduler = RLScheduler(ours.optimizer, _LONG)
    ours.steps(_SHORT, scheduler.step)
    ratio = paired(
        f"steps with RLScheduler / without, {torch.cuda.get_device_name()}, after step {_SHORT} of {_LONG}",
        "≤ 1.01",
        lambda: ours.steps(_WINDOW, scheduler.step),
        lambda: theirs.steps(_WINDOW),
        repetitions,
    )
    scheduler.detach()
    return ratio


def _whole_runs(ours: _Loop, theirs: _Loop, repetitions: int) -> Ratio:
    """Of short runs, whose decisions are close to each other."""

    def whole_run() -> float:
        scheduler = RLScheduler(ours.optimizer, _SHORT)
        taken = ours.steps(_SHORT, scheduler.step)
        scheduler.detach()
        return taken

    name = f"steps with RLScheduler / without, {torch.cuda.get_device_name()}, whole runs of {_SHORT}"
    return paired(name, "", whole_run, lambda: theirs.steps(_SHORT), repetitions)
