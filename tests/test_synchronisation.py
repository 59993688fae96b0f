"""On an accelerator nothing is read back to the host between decisions."""

import pytest
import torch
from torch import nn

from rl_lr.scheduler import RLScheduler


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, whose sync debug mode it uses"
)
def test_between_decisions_nothing_waits_for_the_device() -> None:
    network = nn.Linear(64, 64, device="cuda")
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    scheduler = RLScheduler(optimizer, 2000)
    x = torch.randn(32, 64, device="cuda")
    checked = 0
    for _ in range(400):
        loss = network(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quiet = not scheduler.controller.timetable.is_decision(scheduler.controller.step + 1)
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        try:
            scheduler.step(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        checked += quiet
    assert checked > 300
