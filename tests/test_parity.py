"""One run three ways: single environment, stacked engine, Lightning callback."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from rl_lr.batches import Batches
from rl_lr.callbacks import RLLearningRate
from rl_lr.compare.workloads import held_out_tasks
from rl_lr.config import ControlConfig
from rl_lr.demo.fits import quiet_trainer
from rl_lr.engine import Objective, build_objective
from rl_lr.envs import LearningRateEnv
from rl_lr.policy import Policy
from rl_lr.rollout import Draw, Rollout
from rl_lr.signals import NUM_SIGNALS
from rl_lr.sketches import Granularity
from rl_lr.tasks import TensorTask, real_task
from rl_lr.tasks.task import steppable

STEPS = 120


def lively_policy() -> Policy:
    """Random weights that move the rate at every decision, within bounds that keep runs from chaos."""
    generator = torch.Generator().manual_seed(3)
    layers = (
        (0.2 * torch.randn(16, NUM_SIGNALS, generator=generator), torch.zeros(16)),
        (0.2 * torch.randn(1, 16, generator=generator), torch.zeros(1)),
    )
    return Policy(layers, ControlConfig(warmup_step=1.0, bound=2.0), name="lively")


def drawn(name: str) -> Draw:
    task = real_task(name)
    return Draw(task, (11,), (3.0 * task.optimizer.lr,), STEPS)


def by_single_env(draw: Draw, policy: Policy) -> tuple[Tensor, Tensor, Tensor]:
    env = LearningRateEnv(task=steppable(draw.task), control=policy.control)
    observation, _ = env.reset(options={"draw": draw})
    seen, offsets, over = [], [], False
    while not over:
        seen.append(torch.from_numpy(observation)[None])
        observation, _, over, _, _ = env.step(policy.act(seen[-1]).numpy())
        offsets.append(env.scheduler.controller.offset)
    return torch.stack(seen), torch.stack(offsets), flat(env.objective)


def by_engine(
    draw: Draw, policy: Policy, granularity: Granularity = "network"
) -> tuple[Tensor, Tensor, Tensor]:
    rollout = Rollout(draw, policy.control, granularity=granularity)
    seen, offsets = [], []
    while not rollout.done:
        seen.append(rollout.signals())
        rollout.advance(policy.act(seen[-1]))
        offsets.append(rollout.controller.offset)
    return torch.stack(seen), torch.stack(offsets), rollout.engine.weights[0]


class Module(pl.LightningModule):
    """The task of a draw, fed the very batches that the environments draw."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.objective: Objective = build_objective(steppable(draw.task), draw.seeds[0])
        self.draw = draw

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.objective(*batch)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return steppable(self.draw.task).optimizer.build(self.objective.parameters(), self.draw.base_lrs[0])


class Rows(torch.utils.data.IterableDataset[tuple[Tensor, ...]]):
    """The batches of the draw's run, ready made."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        batches = Batches(steppable(self.draw.task), list(self.draw.seeds))
        for _ in range(STEPS):
            yield tuple(rows[0] for rows in batches.rows(batches.draw()))


class Watch(pl.Callback):
    """Writes down what the callback before it saw and did at every decision."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.offsets: list[Tensor] = []

    def look(self, trainer: pl.Trainer) -> None:
        callback = next(c for c in trainer.callbacks if isinstance(c, RLLearningRate))  # type: ignore[attr-defined]
        assert callback.scheduler is not None
        if callback.scheduler.controller.just_decided:
            assert callback.scheduler.latest_signals is not None
            self.seen.append(callback.scheduler.latest_signals)
            self.offsets.append(callback.scheduler.controller.offset)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        self.look(trainer)


def by_callback(
    draw: Draw, policy: Policy, granularity: Granularity = "network"
) -> tuple[Tensor, Tensor, Tensor]:
    module, watch = Module(draw), Watch()
    callbacks = [RLLearningRate(policy, granularity=granularity), watch]
    trainer = quiet_trainer(max_steps=STEPS, logger=False, callbacks=callbacks)
    trainer.fit(module, torch.utils.data.DataLoader(Rows(draw), batch_size=None))
    return torch.stack(watch.seen), torch.stack(watch.offsets), flat(module.objective)


def flat(objective: Objective) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in objective.parameters()])


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "digits-linear"])
def test_env_engine_and_callback_see_do_and_reach_the_same(name: str) -> None:
    draw, policy = drawn(name), lively_policy()
    assert isinstance(draw.task, TensorTask)
    single, stacked, lightning = (way(draw, policy) for way in (by_single_env, by_engine, by_callback))
    assert len(single[0]) == 56
    assert single[1].abs().max() > 0.1  # the policy did act
    for ours, theirs in zip(single, lightning, strict=True):
        assert torch.equal(ours, theirs)  # the same code on the same numbers
    for ours, theirs, tolerance in zip(single, stacked, (2e-3, 1e-4, 1e-4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=tolerance)  # other kernels round otherwise


@pytest.mark.parametrize(
    ("name", "factor", "returns"),
    [("digits-linear", 1e5, 20), ("digits-mlp", 1e4, 15), ("digits-cnn", 3e3, 1)],
)
def test_they_agree_as_well_on_a_run_that_explodes_and_goes_back(
    name: str, factor: float, returns: int
) -> None:
    draw, policy = drawn(name), lively_policy()
    draw = replace(draw, base_lrs=(factor * draw.base_lrs[0],))
    single, stacked, lightning = (way(draw, policy) for way in (by_single_env, by_engine, by_callback))
    rollout = Rollout(draw, policy.control)
    while not rollout.done:
        rollout.advance(policy.act(rollout.signals()))
    assert int(rollout.controller.rewinds) >= returns
    for index, tolerance in ((0, 2e-3), (2, 1e-3)):  # signals and weights; offsets are noted at other times
        assert torch.equal(single[index], lightning[index])
        torch.testing.assert_close(single[index], stacked[index], rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_engine_and_callback_agree_where_every_tensor_has_a_rate(name: str) -> None:
    draw, policy = drawn(name), lively_policy()
    stacked, lightning = by_engine(draw, policy, "tensor"), by_callback(draw, policy, "tensor")
    assert stacked[0].shape == (56, len(list(steppable(draw.task).model().parameters())), NUM_SIGNALS)
    assert (stacked[1][19] - stacked[1][19].mean()).abs().max() > 0.1  # tensors went their own ways
    for ours, theirs in zip(lightning[:2], stacked[:2], strict=True):  # later, rounding grows by itself
        torch.testing.assert_close(ours[:20], theirs[:20], rtol=0.0, atol=1e-4)


def test_engine_and_callback_average_the_same_weights_and_running_statistics() -> None:
    (task,) = (task for task in held_out_tasks() if task.name == "CNN with batch-norm")
    draw = Draw(task, (11,), (0.1 * task.optimizer.lr,), STEPS, "constant")
    rollout = Rollout(draw, average=True)
    while not rollout.done:
        rollout.advance(Policy.keep().act(rollout.signals()))
    module, callback = Module(draw), RLLearningRate(Policy.keep(), base_schedule="constant", average=True)
    trainer = quiet_trainer(max_steps=STEPS, logger=False, callbacks=[callback])
    trainer.fit(module, torch.utils.data.DataLoader(Rows(draw), batch_size=None))
    names = [
        *rollout.engine.parameters,
        *(n for n, b in module.objective.named_buffers() if b.is_floating_point()),
    ]
    ends = module.objective.state_dict()
    for name, theirs, last in zip(names, rollout._average, rollout.engine.iterates, strict=True):
        if not name.endswith(("bias", "running_mean")):  # a bias before a norm is moved by rounding alone
            assert (ends[name] - theirs[0]).norm() < 0.2 * (theirs - last).norm(), name
