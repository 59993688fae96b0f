"""RLScheduler where a plain loop does something unusual, or something fails."""

import copy
import io
import math
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from test_scheduler import T, differentiate, loss_of, network, train, weights
from torch import nn
from torch.optim import SGD, AdamW

from rl_lr.policy import Policy
from rl_lr.scheduler import RLScheduler


def explode(model: nn.Module, scheduler: RLScheduler, step: int) -> None:
    """A step whose gradients are NaN under a finite loss."""
    loss = differentiate(model, scheduler.optimizer, step, factor=math.nan)
    scheduler.optimizer.step()
    scheduler.step(loss)


@pytest.mark.parametrize("late", ["thawed", "added", "appended"])
def test_layers_that_came_in_mid_run_come_back_from_nan_with_the_others(late: str) -> None:
    model = network()
    optimizer = SGD(model[2].parameters(), 0.1, momentum=0.9)
    if late == "thawed":
        model[0].requires_grad_(False)
        optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = RLScheduler(optimizer, T, Policy.keep())
    train(model, scheduler, range(60))
    if late == "thawed":
        model[0].requires_grad_(True)
    elif late == "added":
        optimizer.add_param_group({"params": list(model[0].parameters())})
    else:
        optimizer.param_groups[0]["params"].extend(model[0].parameters())
    explode(model, scheduler, 60)
    assert weights(model).isnan().all()
    train(model, scheduler, range(61, T))
    assert int(scheduler.controller.rewinds) == 1
    assert weights(model).isfinite().all()
    assert loss_of(model, 0) < 1.0


def replace(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> "list[weakref.ref[nn.Parameter]]":
    """Other parameters with the numbers of the first layer's, as who prunes or grows a layer puts in their place."""
    left = []
    for place, name in enumerate(("weight", "bias")):
        old = getattr(model[0], name)
        new = nn.Parameter(old.detach().clone())
        setattr(model[0], name, new)
        optimizer.param_groups[0]["params"][place] = new
        optimizer.state[new] = optimizer.state.pop(old)
        left.append(weakref.ref(old))
    return left


def test_parameters_may_be_replaced_by_others_in_mid_run() -> None:
    models = network(), network()
    for model, replaced in zip(models, (False, True), strict=True):
        optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
        scheduler = RLScheduler(optimizer, T, average=True)
        gone: list[weakref.ref[nn.Parameter]] = []
        for step in range(T):
            if replaced and step % 10 == 5:
                gone += replace(model, optimizer)
            train(model, scheduler, range(step, step + 1))
        assert not any(one() is not None for one in gone)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_parameters_that_replaced_others_come_back_from_nan() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = RLScheduler(optimizer, T, Policy.keep())
    train(model, scheduler, range(60))
    replace(model, optimizer)
    train(model, scheduler, range(60, 62))
    explode(model, scheduler, 62)
    train(model, scheduler, range(63, T))
    assert int(scheduler.controller.rewinds) == 1
    assert weights(model).isfinite().all()
    assert loss_of(model, 0) < 1.0


def test_a_network_that_is_frozen_between_its_steps_comes_back_from_nan() -> None:
    model = network()  # as the discriminator of a pix2pix
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T, Policy.keep())
    for step in range(T):
        model.requires_grad_(True)
        loss = differentiate(model, scheduler.optimizer, step, factor=math.nan if step == 60 else 1.0)
        scheduler.optimizer.step()
        model.requires_grad_(False)
        scheduler.step(loss)
    assert int(scheduler.controller.rewinds) == 1
    assert weights(model).isfinite().all()


def test_a_network_may_be_frozen_as_a_whole_for_a_while() -> None:
    model = network()
    scheduler = RLScheduler(AdamW(model.parameters(), 0.01), T)
    train(model, scheduler, range(20))
    model.requires_grad_(False)
    for _ in range(20):
        scheduler.optimizer.step()
        scheduler.step(1.0)
    model.requires_grad_(True)
    train(model, scheduler, range(40, T))
    assert scheduler.controller.step == T
    assert loss_of(model, 0) < 1.0


def test_a_model_may_be_loaded_after_its_scheduler() -> None:
    source = network()
    scheduler = RLScheduler(SGD(source.parameters(), 0.1), T, Policy.keep())
    train(source, scheduler, range(60))
    states = source.state_dict(), scheduler.state_dict()
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T, Policy.keep())
    scheduler.load_state_dict(states[1])
    model.load_state_dict(states[0])
    before = weights(model).clone()
    explode(model, scheduler, 60)
    while int(scheduler.controller.rewinds) == 0:
        train(model, scheduler, range(61, 62))
    torch.testing.assert_close(weights(model), before)


def test_a_run_that_begins_with_weights_that_are_lost_says_so() -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T)
    with pytest.warns(
        UserWarning, match=r"begins with are not finite, .* load an earlier checkpoint"
    ) as told:
        train(model, scheduler, range(5))
    assert len(told) == 1


def test_averages_are_of_nothing_before_the_first_step() -> None:
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T, average=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)  # a pretrained model, loaded now
    with scheduler.averaged():
        assert (weights(model) == 7.0).all()
    scheduler.keep_average()
    assert (weights(model) == 7.0).all()


def test_buffers_that_are_infinite_or_become_finite_are_averaged_as_they_are() -> None:
    model = network()
    mask = torch.full((3, 3), -math.inf).triu(1)
    model.register_buffer("mask", mask.clone())
    lowest = torch.full((2,), math.inf)  # as an observer of ranges begins
    model.register_buffer("lowest", lowest)
    scheduler = RLScheduler(
        SGD(model.parameters(), 0.1), T, Policy.keep(), buffers=model.buffers(), average=True
    )
    for step in range(20):
        train(model, scheduler, range(step, step + 1))
        lowest.fill_(float(step))
    states = scheduler.state_dict()
    with scheduler.averaged():
        assert torch.equal(model.get_buffer("mask"), mask)
        assert torch.isfinite(lowest).all()
        inside = lowest.clone()
    scheduler.load_state_dict(states)
    train(model, scheduler, range(20, 30))
    scheduler.keep_average()
    assert torch.equal(model.get_buffer("mask"), mask)
    assert (lowest > inside).all()


def test_a_state_between_a_step_and_its_loss_keeps_both_bit_for_bit() -> None:
    whole, buffer = network(), io.BytesIO()
    scheduler = RLScheduler(SGD(whole.parameters(), 0.1, momentum=0.9), T)
    train(whole, scheduler, range(60))
    loss = differentiate(whole, scheduler.optimizer, 60)
    scheduler.optimizer.step()
    torch.save([one.state_dict() for one in (whole, scheduler.optimizer, scheduler)], buffer)
    scheduler.step(loss)
    train(whole, scheduler, range(61, T))
    buffer.seek(0)
    model = network()
    resumed = RLScheduler(SGD(model.parameters(), 0.1, momentum=0.9), T)
    for one, state in zip((model, resumed.optimizer, resumed), torch.load(buffer), strict=True):
        one.load_state_dict(state)  # type: ignore[attr-defined]
    assert resumed.untold
    resumed.step(loss)
    train(model, resumed, range(61, T))
    assert torch.equal(weights(model), weights(whole))


def test_a_state_that_is_refused_leaves_the_average_as_it_was() -> None:
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T, average=True)
    train(model, scheduler, range(10))
    other = RLScheduler(SGD(network().parameters(), 0.1), T, base_schedule="linear", average=True)
    with scheduler.averaged():
        before = weights(model).clone()
    with pytest.raises(ValueError, match="schedule='linear'"):
        scheduler.load_state_dict(other.state_dict())
    with scheduler.averaged():
        assert torch.equal(weights(model), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("settings", [{}, {"average": True}, {"granularity": "tensor"}], ids=str)
def test_a_copy_of_model_optimizer_and_scheduler_goes_on_by_itself(copied: Any, settings: Any) -> None:
    model = network()
    scheduler = RLScheduler(AdamW(model.parameters(), 0.01), T, **settings)
    train(model, scheduler, range(50))
    twin, follower = copied((model, scheduler))
    train(model, scheduler, range(50, T))
    assert follower.controller.step == 50
    train(twin, follower, range(50, T))
    assert torch.equal(weights(twin), weights(model))
    follower.detach()
    assert scheduler.optimizer.param_groups[0]["lr"] < 5e-3  # the original's is still its own
    detached = copied(follower)
    assert not detached.untold
    detached.detach()


@pytest.mark.parametrize("buffers", [[("mask", torch.zeros(2))], ["mask"]])
def test_what_fails_in_the_making_leaves_the_optimizer_to_others(buffers: Any) -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match=r"buffers has a (tuple|str) in it"):
        RLScheduler(optimizer, T, buffers=buffers, granularity="tensor")
    assert len(optimizer.param_groups) == 1
    train(model, RLScheduler(optimizer, T), range(3))


def test_letting_go_twice_is_letting_go_once() -> None:
    optimizer = SGD(network().parameters(), 0.1)
    first = RLScheduler(optimizer, T, granularity="tensor")
    first.detach()
    first.detach()
    RLScheduler(optimizer, T)
    first.detach()
    with pytest.raises(ValueError, match="has an RLScheduler already"):
        RLScheduler(optimizer, T)


def test_a_group_that_is_taken_away_is_told_of() -> None:
    model = network()
    groups: list[Any] = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    scheduler = RLScheduler(SGD(groups, 0.1), T)
    train(model, scheduler, range(3))
    del scheduler.optimizer.param_groups[1]
    with pytest.raises(ValueError, match=r"lost parameter groups .* 1 of 2 are left: detach\(\)"):
        train(model, scheduler, range(3, 4))
    scheduler.detach()


@pytest.mark.parametrize("number", [np.int64(T), torch.tensor(T)])
def test_a_horizon_may_be_any_whole_number(number: Any) -> None:
    scheduler = RLScheduler(SGD(network().parameters(), 0.1), number)
    buffer = io.BytesIO()
    torch.save(scheduler.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True)["controller"]["total_steps"] == T


@pytest.mark.parametrize("number", [50.0, 100.5, "100"])
def test_a_horizon_that_is_no_whole_number_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match=f"total_steps is {number!r}: give .* a whole number"):
        RLScheduler(SGD(network().parameters(), 0.1), number)


def test_a_loss_of_several_elements_is_refused_before_its_step_is_taken_in() -> None:
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), 0.1), T)
    differentiate(model, scheduler.optimizer, 0)
    scheduler.optimizer.step()
    for losses in (np.ones(2), torch.ones(3)):
        with pytest.raises(ValueError, match=r"one scalar loss, got shape \([23],\)"):
            scheduler.step(losses)  # type: ignore[arg-type]
    scheduler.step(torch.tensor(3))
    assert scheduler.controller.step == 1


def test_an_optimizer_without_a_rate_is_refused() -> None:
    class Rateless(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            """Nothing."""

    with pytest.raises(ValueError, match="Rateless has no lr in its parameter groups"):
        RLScheduler(Rateless(network().parameters(), {}), T)


def test_with_a_rate_for_each_tensor_an_empty_group_stays_where_it_was() -> None:
    model = network()
    groups: list[Any] = [
        {"params": []},
        {"params": list(model.parameters())},
        {"params": [], "weight_decay": 0.5},
    ]
    optimizer = AdamW(groups, 0.01)
    optimizer.param_groups[0]["lr"] = 0.3
    before = optimizer.state_dict()["param_groups"]
    scheduler = RLScheduler(optimizer, T, granularity="tensor")
    train(model, scheduler, range(30))
    state = scheduler.joined(optimizer.state_dict())
    assert [len(group["params"]) for group in state["param_groups"]] == [0, 4, 0]
    assert [group["initial_lr"] for group in state["param_groups"]] == [0.3, 0.01, 0.01]
    scheduler.detach()
    assert optimizer.state_dict()["param_groups"] == before


def test_letting_go_gives_back_the_very_tensor_that_holds_the_rate() -> None:
    rate = torch.tensor(0.1)
    model = network()
    scheduler = RLScheduler(SGD(model.parameters(), rate), T, granularity="tensor")
    train(model, scheduler, range(30))
    scheduler.detach()
    assert scheduler.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.1)


def test_policies_are_the_same_by_what_they_are() -> None:
    assert Policy.load() == Policy.load()
    assert len({Policy.load(), Policy.load(), Policy.keep()}) == 2
