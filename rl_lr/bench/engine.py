"""Speed and memory of the engine, against a plain loop and against its own matrix products."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rl_lr.bench.ratios import Ratio, paired, seconds
from rl_lr.engine import Engine, bytes_per_run
from rl_lr.graph import products
from rl_lr.optimizers import OptimizerSpec
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, Rollout, part_size, split
from rl_lr.tasks.networks import Transformer, convnet
from rl_lr.tasks.tensors import TensorTask, cross_entropy, next_token


@dataclass(frozen=True)
class Workload:
    """A task, and how much of it is measured at once."""

    task: TensorTask
    """Named as in the table."""
    runs: int
    """Stacked runs."""
    steps: int
    """Steps in one measurement of steps alone."""
    horizon: int
    """Steps of a run under control."""
    wanted: str
    """Bound of steps alone / plain loop."""


def workloads() -> tuple[Workload, ...]:
    """An MLP, a convolutional network and a transformer, all small, all under AdamW."""
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(1024, 64, generator=generator), torch.randint(10, (1024,), generator=generator)
    tokens = torch.randint(64, (1024, 16), generator=generator)
    spec, images = OptimizerSpec("adamw", lr=1e-3), x.view(-1, 1, 8, 8)

    def mlp() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def cnn() -> nn.Module:
        return convnet((1, 8, 16), 8, 10, nn.ReLU, norm=False, maximum=True)

    def transformer() -> nn.Module:
        return Transformer(64, 16, 32, depth=1)

    return (
        Workload(
            TensorTask("MLP 64-32-10", spec, 32, mlp, (x, labels), cross_entropy), 256, 500, 2000, "≥ 25"
        ),
        Workload(
            TensorTask("CNN 8, 16", spec, 32, cnn, (images, labels), cross_entropy), 32, 100, 1000, "≥ 3"
        ),
        Workload(
            TensorTask("transformer 32", spec, 8, transformer, (tokens,), next_token), 32, 100, 1000, "≥ 5"
        ),
    )


def engine_figures(repetitions: int, loads: tuple[Workload, ...] | None = None) -> list[Ratio]:
    """Everything about the engine; the first of ``loads`` is looked at more closely."""
    loads = loads or workloads()
    first = loads[0]
    return [
        whole_runs(first, max(2, repetitions // 2)),
        whole_runs(replace(first, horizon=first.horizon // 4), repetitions),
        *(steady_steps(load, repetitions) for load in loads),
        *(signals_cost(load, repetitions) for load in loads),
        *(distance_to_products(load, repetitions) for load in loads),
        *(tracing_cost(load, max(2, repetitions // 4)) for load in loads),
        *(by_runs(first, runs, max(2, repetitions // 4)) for runs in (1, 4, 16, 64, 256, 1024, 4096)),
        *(
            Ratio.single(f"memory per run, KiB, {load.task.name}", bytes_per_run(load.task) / 1024)
            for load in loads
        ),
    ]


def plain_steps_per_second(task: TensorTask, steps: int) -> Callable[[], float]:
    """Measures the loop that a person would write over the same network."""
    network, data = task.model(), task.data()
    optimizer = task.optimizer.build(network.parameters(), task.optimizer.lr)
    generator = torch.Generator().manual_seed(0)
    classes = nn.functional.cross_entropy

    def loss(rows: Tensor) -> Tensor:
        if len(data) == 1:  # text
            logits, tokens = network(data[0][rows])[:, :-1], data[0][rows][:, 1:]
            return classes(logits.flatten(0, 1), tokens.flatten())
        return classes(network(data[0][rows]), data[1][rows])

    def loop() -> None:
        for _ in range(steps):
            rows = torch.randint(len(data[0]), (task.batch_size,), generator=generator)
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()

    return lambda: steps / seconds(loop)


def whole_runs(load: Workload, repetitions: int) -> Ratio:
    """Runs from beginning to end under control, tracing included, over a plain loop."""
    task, runs, steps = load.task, load.runs, load.horizon
    keep = Policy.keep()

    def stacked() -> float:
        drawn = Draw(task, tuple(range(runs)), (task.optimizer.lr,) * runs, steps)
        parts = [Rollout(part) for part in split(drawn)]

        def run() -> None:
            while not parts[0].done:
                for part in parts:
                    part.advance(keep.act(part.signals()))

        return runs * steps / seconds(run)

    name = f"engine / plain loop, {runs} × {task.name}, whole runs of {steps} steps with signals"
    return paired(name, "≥ 15", stacked, plain_steps_per_second(task, steps), repetitions)


def steady_steps(load: Workload, repetitions: int) -> Ratio:
    """Steps per second once everything is set up, without signals, over a plain loop."""
    name = f"engine / plain loop, {load.task.name}, steps alone"
    stacked = _engine_steps_per_second(load, _part_of(load))
    return paired(name, load.wanted, stacked, plain_steps_per_second(load.task, load.steps), repetitions)


def by_runs(load: Workload, runs: int, repetitions: int) -> Ratio:
    """The same for any number of runs in one piece."""
    steps = max(4, load.steps * 16 // max(16, runs))
    stacked = _engine_steps_per_second(replace(load, steps=steps), runs)
    name = f"engine / plain loop, {load.task.name}, {runs} runs in one piece"
    return paired(name, "", stacked, plain_steps_per_second(load.task, load.steps), repetitions)


def signals_cost(load: Workload, repetitions: int) -> Ratio:
    """Steps per second with signals and control, over steps alone; both measure the result in the end."""
    runs, steps, keep = _part_of(load), load.horizon, Policy.keep()
    engine, lr = _engine(load.task, runs), torch.full((runs,), load.task.optimizer.lr)

    def controlled() -> float:
        rollout = Rollout(Draw(load.task, tuple(range(runs)), (load.task.optimizer.lr,) * runs, steps))
        rollout.advance(keep.act(rollout.signals()))  # traces the step
        begun = rollout.controller.step

        def rest() -> None:
            while not rollout.done:
                rollout.advance(keep.act(rollout.signals()))

        return (steps - begun) / seconds(rest)

    def alone() -> float:
        return steps / seconds(lambda: ([engine.step(lr) for _ in range(steps)], engine.evaluate()))

    name = f"engine with signals / without, {load.task.name}, runs of {steps} steps"
    return paired(name, "≥ 0.9", controlled, alone, repetitions)


def distance_to_products(load: Workload, repetitions: int) -> Ratio:
    """Time of a step over the time of the matrix products in it, by themselves."""
    engine = _engine(load.task, _part_of(load))
    assert engine.graph is not None
    pairs = products(engine.graph)
    lr = torch.full((engine.runs,), load.task.optimizer.lr)

    def step() -> float:
        return seconds(lambda: [engine.step(lr) for _ in range(load.steps // 4)])

    def alone() -> float:
        return seconds(lambda: [torch.bmm(a, b) for _ in range(load.steps // 4) for a, b in pairs])

    name = f"time of a step / of its {len(pairs)} matrix products alone, {load.task.name}"
    return paired(name, "", step, alone, repetitions)


def tracing_cost(load: Workload, repetitions: int) -> Ratio:
    """What building and tracing a group costs, in steps of that group."""
    lr = torch.full((_part_of(load),), load.task.optimizer.lr)
    engine = _engine(load.task, len(lr))

    def trace() -> float:
        return seconds(lambda: Engine(load.task, range(len(lr)), traced=True).step(lr))

    def step() -> float:
        return seconds(lambda: [engine.step(lr) for _ in range(20)]) / 20

    return paired(f"building and tracing a group / one step, {load.task.name}", "", trace, step, repetitions)


def _part_of(load: Workload) -> int:
    """How many of its runs are stepped in one piece."""
    draw = Draw(load.task, tuple(range(load.runs)), (load.task.optimizer.lr,) * load.runs, load.horizon)
    return part_size(draw)


def _engine(task: TensorTask, runs: int) -> Engine:
    engine = Engine(task, range(runs), traced=True)
    engine.step(torch.full((runs,), task.optimizer.lr))  # traces
    return engine


def _engine_steps_per_second(load: Workload, runs: int) -> Callable[[], float]:
    engine = _engine(load.task, runs)
    lr = torch.full((runs,), load.task.optimizer.lr)

    def steps() -> None:
        for _ in range(load.steps):
            engine.step(lr)

    return lambda: runs * load.steps / seconds(steps)
