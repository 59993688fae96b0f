"""On an accelerator: the decisions of the CPU, the same promises, and nothing read back to the host between decisions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear_fit import RATE, STEPS, Fit
from torch import Tensor, nn

from rl_lr.config import ControlConfig
from rl_lr.engine import Engine
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, Rollout
from rl_lr.scheduler import RLScheduler
from rl_lr.schedules import base_schedule
from rl_lr.sketches import Granularity
from rl_lr.snapshots import OnDivergence
from rl_lr.supported import SUPPORTED
from rl_lr.tasks.tensors import TensorTask, cross_entropy

DEVICE = "cuda"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_who_decides_by_hand_finds_the_first_decision_open() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(4, device=DEVICE))], 0.1)
    scheduler, law = RLScheduler(optimizer, 50, policy=None), ControlConfig()
    before = 0.1 * base_schedule(0, 50, "cosine", law)
    assert scheduler.due
    assert scheduler.get_last_lr() == pytest.approx([before])
    scheduler.signals()
    scheduler.act(torch.ones(1))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(before * math.exp(law.warmup_step))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("on_divergence", ["cut", "restore"])
@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_between_decisions_nothing_waits_for_the_device(
    granularity: Granularity, on_divergence: OnDivergence, average: bool
) -> None:
    network = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 8)).to(DEVICE)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    scheduler = RLScheduler(
        optimizer,
        20_000,
        granularity=granularity,
        on_divergence=on_divergence,
        average=average,
        buffers=network.buffers(),
    )
    x = torch.randn(32, 64, device=DEVICE)
    checked = 0
    for step in range(1000):
        loss = network(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        quiet = step > 0 and not scheduler.controller.timetable.at(step + 1).decides
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        try:
            optimizer.step()
            scheduler.step(loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        checked += quiet
    assert scheduler.controller.step == 1000
    assert checked > 900


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda p: torch.optim.SGD(p, RATE, momentum=0.9), id="SGD"),
        pytest.param(lambda p: torch.optim.SGD(p, RATE, momentum=0.9, fused=True), id="SGD fused"),
        pytest.param(lambda p: torch.optim.AdamW(p, RATE), id="AdamW"),
        pytest.param(lambda p: torch.optim.AdamW(p, RATE, foreach=False), id="AdamW one by one"),
        pytest.param(lambda p: torch.optim.AdamW(p, RATE, fused=True), id="AdamW fused"),
        pytest.param(
            lambda p: torch.optim.AdamW(p, torch.tensor(RATE, device=DEVICE), capturable=True),
            id="AdamW capturable, tensor lr",
        ),
        pytest.param(
            lambda p: torch.optim.AdamW(p, torch.tensor(RATE, device=DEVICE), fused=True),
            id="AdamW fused, tensor lr",
        ),
    ],
)
def test_a_policy_that_keeps_trains_the_bits_of_the_base_schedule(
    build: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:
    ours, by_hand = Fit(build, device=DEVICE), Fit(build, device=DEVICE)
    group = by_hand.optimizer.param_groups[0]
    base = float(group["lr"])
    ours.train(Policy.keep())
    for step in range(STEPS):
        rate = base * base_schedule(step, STEPS, "cosine", ControlConfig())
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        by_hand.step()
    assert torch.equal(ours.weight, by_hand.weight)


@pytest.mark.parametrize("kind", SUPPORTED)
def test_every_optimizer_is_controlled(kind: Any) -> None:
    rate = {torch.optim.Adagrad: 0.1, torch.optim.Adadelta: 1.0}.get(kind, RATE)
    fit = Fit(lambda p: kind(p, lr=rate), kind is torch.optim.SparseAdam, DEVICE)
    _, share = fit.train("default")
    assert share < 0.05


@pytest.mark.parametrize("granularity", ["network", "tensor"])
def test_the_decisions_are_those_of_the_cpu(granularity: Granularity) -> None:
    def rates(device: str) -> list[float]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).double()
        x = torch.randn(64, 16, dtype=torch.float64)
        y = (x[:, :4] * x[:, 4:8]).to(device)
        network, x = network.to(device), x.to(device)
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
        scheduler, seen = RLScheduler(optimizer, 300, granularity=granularity), []
        for _ in range(300):
            loss = (network(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)
            seen += scheduler.get_last_lr()
        return seen

    there, here = rates(DEVICE), rates("cpu")
    assert max(here) > 3 * min(here[:100])  # it had something to decide
    first = len(here) * 2 // 3  # near the minimum rounding decides
    assert there[:first] == pytest.approx(here[:first], rel=1e-3)


def test_a_captured_forward_and_backward_pass_is_no_obstacle_and_a_captured_step_is_refused() -> None:
    fit = Fit(
        lambda p: torch.optim.AdamW(p, torch.tensor(RATE, device=DEVICE), capturable=True), device=DEVICE
    )
    scheduler, start = RLScheduler(fit.optimizer, STEPS), fit.share()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            fit.differentiate()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = fit.differentiate()
    for _ in range(STEPS):
        graph.replay()
        fit.optimizer.step()
        scheduler.step(loss)
    assert scheduler.controller.step == STEPS
    assert fit.share() < 0.05 * start
    refused = pytest.raises(
        ValueError, match=r"captured in a CUDA graph.* call optimizer.step\(\) after each replay"
    )
    with refused, torch.cuda.graph(torch.cuda.CUDAGraph()):
        fit.step()


def test_memory_is_constant() -> None:
    network = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 8)).to(DEVICE)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    scheduler = RLScheduler(optimizer, 2000, average=True)
    x, held = torch.randn(32, 256, device=DEVICE), []
    for step in range(2000):
        loss = network(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss.detach())
        if step % 100 == 99:
            held.append(torch.cuda.memory_allocated())
    assert max(held[5:]) - min(held[5:]) < 128 * 1024  # losses that wait for their sum


@pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("traced", [False, True])
def test_the_engine_steps_the_runs_of_the_cpu(kind: Any, traced: bool) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))

    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    data = x, x[:, :4].argmax(dim=1)
    task = TensorTask("classes", OptimizerSpec(kind, 0.01, clip_norm=1.0), 16, network, data, cross_entropy)
    engines = [Engine(task, (0, 1, 2), device, traced) for device in ("cpu", DEVICE)]
    for _ in range(20):  # in the long run rounding tells
        here, there = (
            engine.step(torch.full((3,), 0.01, device=engine.weights.device)) for engine in engines
        )
        assert torch.allclose(here[0], there[0].cpu(), rtol=1e-3)
    assert torch.allclose(engines[0].evaluate(), engines[1].evaluate().cpu(), rtol=1e-3)
    rollout = Rollout(Draw(task, (0, 1), (0.01, 0.02), 100), device=DEVICE)
    policy = Policy.load("default")
    while not rollout.done:
        rollout.advance(policy.act(rollout.signals()))
    assert (rollout.engine.evaluate() < engines[1].evaluate().max()).all()
