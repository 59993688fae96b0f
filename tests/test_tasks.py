"""Tasks: deterministic, trainable, stackable."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_lr.compare.suites import own_workloads
from rl_lr.design.family import DESIGNED
from rl_lr.engine import Engine
from rl_lr.optimizers import OptimizerSpec
from rl_lr.tasks import REAL, Task, TensorTask, real_task, resolve, tensor_task
from rl_lr.tasks.check import check
from rl_lr.tasks.choosing import CHOOSING
from rl_lr.tasks.families import TRAINING, Bowl, mixture
from rl_lr.tasks.networks import Reader, Transformer, embedding, mlp
from rl_lr.tasks.plateaus import lookups, parities
from rl_lr.tasks.real import digits, source_text
from rl_lr.tasks.task import steppable
from rl_lr.tasks.tensors import Parts, cross_entropy, squared_error
from rl_lr.tasks.wrappers import Rescaled, with_directions

FAMILIES = [family for family, _ in (*TRAINING, *CHOOSING, *DESIGNED)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_the_same_task_from_the_same_seed(family: Any) -> None:
    ours, theirs = (family(np.random.default_rng(5)) for _ in range(2))
    assert ours.optimizer == theirs.optimizer
    assert ours.batch_size == theirs.batch_size
    for one, other in zip(ours.data(), theirs.data(), strict=True):
        assert torch.equal(one, other)
    loss = [Engine(task, [1]).step(torch.tensor([1e-3]))[0] for task in (ours, theirs)]
    assert torch.equal(*loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_some_rate_of_a_grid_trains_every_drawn_task(family: Any) -> None:
    for seed in range(4):
        task = family(np.random.default_rng(seed))
        engine = Engine(task, [0] * 5)
        before = engine.evaluate()
        rates = task.optimizer.lr * torch.tensor([0.01, 0.1, 1.0, 3.0, 10.0])
        for _ in range(60):
            engine.step(rates)
        assert (before > 0).all()
        assert np.nanmin((engine.evaluate() / before).numpy()) < 0.99


def test_a_lookup_asks_for_a_value_that_is_there() -> None:
    x, y = lookups(np.random.default_rng(3)).data()
    keys = x.shape[1] - 1
    asked, pairs = x[:, 0, :keys].argmax(dim=-1), x[:, 1:]
    place = (pairs[..., :keys].argmax(dim=-1) == asked[:, None]).int().argmax(dim=-1)
    assert torch.equal(pairs[torch.arange(len(x)), place, keys:].argmax(dim=-1), y)
    assert x[:, 0, keys:].count_nonzero() == 0


def test_each_input_of_a_parity_by_itself_tells_nothing() -> None:
    for seed in range(20):
        task = parities(np.random.default_rng(seed))
        x, y = task.data()
        told = torch.corrcoef(torch.cat((x, y.float().view(len(x), 1)), dim=1).T)[-1, :-1]
        assert told.abs().max() < 6.0 / len(x) ** 0.5


def test_the_mixture_draws_every_family_and_every_optimizer() -> None:
    drawn = [mixture(np.random.default_rng(seed)) for seed in range(60)]
    assert {task.name for task in drawn} == {family.__name__.replace("_", "-") for family, _ in TRAINING}
    assert {steppable(task).optimizer.kind for task in drawn} == {"sgd", "adam", "adamw", "rmsprop"}


@pytest.mark.parametrize("name", REAL)
def test_real_tasks_hold_out_rows_and_start_near_chance(name: str) -> None:
    task = real_task(name)
    assert isinstance(task, Task)
    assert len(task.held_out[0]) > 50
    loss = Engine(task, [0]).evaluate()
    assert 0.5 < float(loss) < 6.0


def test_digits_and_source_text_are_what_they_say() -> None:
    images, labels, held_images, _ = digits()
    assert images.shape == (1437, 8, 8)
    assert len(held_images) == 360
    assert float(images.min()) == 0.0
    assert float(images.max()) == 1.0
    assert labels.bincount().min() > 100
    rows, held_out, vocabulary = source_text(32)
    assert rows.max() < vocabulary == 97
    assert len(rows) > 5 * len(held_out) > 1000


def test_cross_entropy_is_torchs_in_value_and_gradient() -> None:
    logits = (5.0 * torch.randn(3, 4, 7)).requires_grad_()
    target = torch.randint(7, (3, 4))
    ours = cross_entropy(logits, target)
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_rescaling_changes_the_numbers_and_not_the_function() -> None:
    def build(log_scale: float) -> torch.nn.Module:
        torch.manual_seed(0)
        return Rescaled(mlp((3, 8, 1), torch.nn.Tanh), log_scale, seed=4)

    x = torch.randn(5, 3)
    plain, scaled = build(0.0), build(1.0)
    torch.testing.assert_close(plain(x), scaled(x))
    assert not torch.allclose(next(plain.parameters()), next(scaled.parameters()))


def test_directions_do_not_depend_on_the_scale_of_weights() -> None:
    torch.manual_seed(0)
    network, x = with_directions(partial(mlp, (3, 8, 4), torch.nn.Tanh), 10.0), torch.randn(5, 3)
    before = network(x)
    with torch.no_grad():
        next(network[-1].parameters()).mul_(7.0)  # type: ignore[index]
    torch.testing.assert_close(network(x), before)
    assert before.abs().max() <= 10.0


def test_walls_are_quadratic_at_the_bottom_and_rise_faster_above() -> None:
    low, high = torch.full((1, 4), 0.01), torch.full((1, 4), 5.0)
    quadratic, walls = (Bowl(torch.ones(4), steepness) for steepness in (0.0, 2.0))
    for bowl in (quadratic, walls):
        torch.nn.init.zeros_(bowl.w)
    torch.testing.assert_close(walls(low), quadratic(low), rtol=1e-3, atol=1e-7)
    assert float(quadratic(high).detach()) == pytest.approx(12.5)
    assert float(walls(high).detach()) == pytest.approx((np.cosh(10.0) - 1.0) / 4.0, rel=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_a_reader_reads_a_series_from_its_first_value_to_its_last(gated: bool) -> None:
    torch.manual_seed(0)
    reader, x = Reader(2, 6, 3, gated), torch.randn(1, 5, 2)
    for place in (0, 4):
        changed = x.clone()
        changed[0, place] += 1.0
        assert not torch.allclose(reader(x), reader(changed))


def test_the_transformer_is_causal() -> None:
    torch.manual_seed(0)
    network = Transformer(7, 6, 8, depth=2)
    tokens = torch.randint(7, (1, 6))
    changed = tokens.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 7
    before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_embeddings_begin_as_the_linear_layer_of_one_hot_tokens() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(100, 80).weight.detach()
    assert float(embedding(100, 80).weight.detach().abs().max()) == pytest.approx(
        float(linear.abs().max()), rel=0.01
    )


def test_resolve_takes_names_tasks_and_families_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    assert resolve("digits-mlp")(rng).name == "digits-mlp"
    task = real_task("digits-mlp")
    assert resolve(task)(rng) is task
    assert isinstance(resolve(mixture)(rng), TensorTask)
    with pytest.raises(ValueError, match=r"no task 'mnist': choose one of digits-linear"):
        resolve("mnist")
    with pytest.raises(TypeError, match=r"got (Posix|Windows)Path"):
        resolve(Path())  # type: ignore[arg-type]


def test_a_small_head_begins_near_zero_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    plain = mlp((3, 8, 2), torch.nn.Tanh)
    torch.manual_seed(0)
    quiet = Rescaled(mlp((3, 8, 2), torch.nn.Tanh), 0.0, head=0.01)
    (first, _, last, _), (same, _, small, _) = plain.parameters(), quiet.parameters()
    assert torch.equal(first, same)
    assert torch.allclose(0.01 * last, small)


def test_a_decorated_function_is_a_task_of_its_name_with_the_rows_it_keeps_apart() -> None:
    rows = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))

    @tensor_task(OptimizerSpec("adam", lr=1e-2), batch_size=16, held_out=(rows[:8],))
    def auto_encoder() -> Parts:
        return lambda: nn.Linear(8, 8), (rows,), squared_error

    check(auto_encoder)
    assert (auto_encoder.name, auto_encoder.batch_size) == ("auto-encoder", 16)
    engine = Engine(auto_encoder, [0])
    start = engine.evaluate()
    for _ in range(50):
        engine.step(torch.full((1,), 1e-2))
    assert engine.evaluate() < 0.7 * start
    task = own_workloads([auto_encoder], 60)[0].stepped
    assert (len(task.data()[0]), len(task.held_out[0])) == (64, 8)


def test_a_decorated_function_that_gives_something_else_is_refused_where_it_is_defined() -> None:
    with pytest.raises(TypeError, match="'nothing' gave int: return the network factory, a tuple of tensors"):

        @tensor_task(OptimizerSpec("adam", lr=1e-2), batch_size=16)
        def nothing() -> Parts:
            return 3  # type: ignore[return-value]
