"""LearnedOptimizer: the steps of the training path, as torch and Lightning know optimizers."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from fits import QUIET, Module, full_loss, rows, trainer
from torch import Tensor, nn

from rl_lr import RLScheduler
from rl_lr.callbacks import RLLearningRate
from rl_lr.coordinate import CoordinatePolicy, LearnedOptimizer
from rl_lr.coordinate.network import CoordinateNetwork, NetworkSpec
from rl_lr.coordinate.tasks import quadratics, sigmoid_mlp
from rl_lr.coordinate.unroll import Runs
from rl_lr.engine import Engine, build_objective
from rl_lr.policy import Policy
from rl_lr.policy_files import PolicyFileError
from rl_lr.tasks.tensors import TensorTask


def random_policy(seed: int = 0) -> CoordinatePolicy:
    torch.manual_seed(seed)
    return CoordinatePolicy(CoordinateNetwork(NetworkSpec(hidden=6)))


# --- parity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "name"), [(quadratics(), "quadratics"), (sigmoid_mlp(), "sigmoid-mlp")])
def test_it_makes_the_weights_of_the_unrolled_training_path(task: TensorTask, name: str) -> None:
    """From the same gradients; what is left is rounding, as coordinates lie in other batches."""
    policy, steps = CoordinatePolicy.load(name), 40
    engine, twin = Engine(task, [3]), Engine(task, [3])
    with torch.no_grad():
        Runs(engine, policy.network).unroll(steps)
    start, weights = twin.weights, [nn.Parameter(p[0].clone()) for p in twin.parameters.values()]
    optimizer = LearnedOptimizer(weights, policy)
    for _ in range(steps):
        _, gradients = twin.gradients()
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient[0].clone()
        optimizer.step()
        for p, weight in zip(twin.parameters.values(), weights, strict=True):
            p.copy_(weight.detach()[None])
    assert (engine.weights - start).abs().max() > 0.2
    torch.testing.assert_close(twin.weights, engine.weights, rtol=1e-4, atol=1e-5)


def test_a_loop_of_ones_own_is_the_training_path_until_rounding_has_grown() -> None:
    """Under this policy a difference grows tenfold in about eight steps, so that late steps tell nothing."""
    policy, task = CoordinatePolicy.load("quadratics"), quadratics()
    engine, objective = Engine(task, [3]), build_objective(task, 3)
    with torch.no_grad():
        Runs(engine, policy.network).unroll(10)
    optimizer = LearnedOptimizer(objective.parameters(), policy)
    for _ in range(10):
        optimizer.zero_grad()
        objective(*task.data()).backward()
        optimizer.step()
    (theta,) = objective.parameters()
    torch.testing.assert_close(theta.detach(), engine.weights[0], rtol=1e-4, atol=1e-5)


# --- as torch knows optimizers ---------------------------------------------------------------


def steps_of(optimizer: LearnedOptimizer, weight: nn.Parameter, count: int) -> Iterator[Tensor]:
    for _ in range(count):
        optimizer.zero_grad()
        (weight - 1.0).square().sum().backward()
        optimizer.step()
        yield weight.detach().clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_run_goes_on_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    policy = random_policy()
    weight = nn.Parameter(torch.tensor([3.0, -2.0, 0.5], dtype=dtype))
    optimizer = LearnedOptimizer([weight], policy)
    list(steps_of(optimizer, weight, 4))
    torch.save({"optimizer": optimizer.state_dict(), "weight": weight.detach()}, tmp_path / "run.pt")
    whole = list(steps_of(optimizer, weight, 4))
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    other = nn.Parameter(saved["weight"])
    resumed = LearnedOptimizer([other], policy)
    resumed.load_state_dict(saved["optimizer"])
    parts = list(steps_of(resumed, other, 4))
    assert all(torch.equal(one, two) for one, two in zip(whole, parts, strict=True))
    assert not torch.equal(parts[0], parts[-1])


def test_copies_and_pickles_go_on_like_the_original() -> None:
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = LearnedOptimizer([weight], random_policy())
    list(steps_of(optimizer, weight, 2))
    copies = [copy.deepcopy((optimizer, weight)), pickle.loads(pickle.dumps((optimizer, weight)))]
    expected = list(steps_of(optimizer, weight, 3))
    for twin, own in copies:
        own = twin.param_groups[0]["params"][0]
        assert all(torch.equal(a, b) for a, b in zip(steps_of(twin, own, 3), expected, strict=True))


def test_lr_is_a_factor_on_every_step_and_groups_have_their_own() -> None:
    one, two, three = (nn.Parameter(torch.ones(2)) for _ in range(3))
    groups: list[dict[str, Any]] = [{"params": [one]}, {"params": [two], "lr": 3.0}]
    optimizer = LearnedOptimizer(groups, random_policy())
    optimizer.add_param_group({"params": [three], "lr": 0.5})
    for weight in (one, two, three):
        weight.grad = torch.tensor([1.0, -1.0])
    optimizer.step()
    moved = one.detach() - 1.0
    assert moved.abs().min() > 0
    torch.testing.assert_close(two.detach() - 1.0, 3.0 * moved)
    torch.testing.assert_close(three.detach() - 1.0, 0.5 * moved)
    halved = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.step()
    halved.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.5, 0.25]


def test_weights_without_a_gradient_stay_and_remember_nothing() -> None:
    idle, busy = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LearnedOptimizer([idle, busy], random_policy())
    busy.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2))
    assert not torch.equal(busy, torch.ones(2))
    assert list(optimizer.state) == [busy]


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = LearnedOptimizer([weight], random_policy())

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    assert not torch.equal(weight, torch.ones(2))


# --- bad input -------------------------------------------------------------------------------


def test_sparse_and_complex_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = LearnedOptimizer(embedding.parameters(), random_policy())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"one is sparse: build the embedding with sparse=False"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"some are complex: pass torch\.view_as_real"):
        LearnedOptimizer([nn.Parameter(torch.ones(2, dtype=torch.complex64))], random_policy())


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_a_factor_that_is_not_positive_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match="give a positive factor"):
        LearnedOptimizer([nn.Parameter(torch.ones(2))], random_policy(), lr)


def test_a_policy_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    weight, other = nn.Parameter(torch.ones(2)), random_policy().save(tmp_path / "coordinate")
    with pytest.raises(PolicyFileError, match="sets learning rates, here one is wanted that sets a step"):
        LearnedOptimizer([weight], Policy.keep().save(tmp_path / "network"))
    with pytest.raises(PolicyFileError, match="sets a step for every coordinate"):
        RLScheduler(torch.optim.SGD([weight], 0.1), 100, policy=str(other))
    with pytest.raises(PolicyFileError, match="sets a step for every coordinate"):
        RLLearningRate(policy=str(other))


def test_a_run_saved_under_another_policy_or_optimizer_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = LearnedOptimizer([weight], random_policy(0))
    for saved in (LearnedOptimizer([weight], random_policy(1)), torch.optim.SGD([weight], 0.1)):
        with pytest.raises(ValueError, match="made by another optimizer or policy"):
            optimizer.load_state_dict(saved.state_dict())


def test_a_second_controller_of_its_steps_is_refused() -> None:
    optimizer = LearnedOptimizer([nn.Parameter(torch.ones(2))], random_policy())
    with pytest.raises(ValueError, match="LearnedOptimizer chooses its own step sizes"):
        RLScheduler(optimizer, 100)


# --- Lightning -------------------------------------------------------------------------------


class Learned(Module):
    """The linear regression of the other tests."""

    def configure_optimizers(self) -> Any:
        return LearnedOptimizer(self.parameters(), policy="quadratics")


@pytest.mark.filterwarnings(*QUIET)
def test_a_fit_in_lightning_reaches_a_low_loss() -> None:
    module = Learned()
    assert full_loss(module) > 5.0
    trainer(max_epochs=3).fit(module, rows())
    assert full_loss(module) < 0.05


@pytest.mark.filterwarnings(*QUIET)
def test_a_fit_in_lightning_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = Learned()
    trainer(max_epochs=2).fit(whole, rows())
    first, second = Learned(), Learned()
    half = trainer(max_epochs=1)
    half.fit(first, rows())
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(max_epochs=2).fit(second, rows(), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(whole.network.weight, second.network.weight)


@pytest.mark.filterwarnings(*QUIET)
def test_the_callback_refuses_it_before_the_first_step() -> None:
    module = Learned()
    with pytest.raises(Exception, match="LearnedOptimizer chooses its own step sizes"):
        trainer(RLLearningRate()).fit(module, rows())
    assert isinstance(module, pl.LightningModule)
    assert module.rates == []
