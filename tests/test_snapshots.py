"""Going back to where a run was healthy."""

import pytest
import torch
from torch import nn

from rl_lr.snapshots import Snapshots, copy_rows, writable


def test_only_the_chosen_rows_are_copied() -> None:
    target, source = [torch.zeros(3, 2), torch.zeros(3)], [torch.ones(3, 2), torch.full((3,), 2.0)]
    copy_rows(target, source, torch.tensor([False, True, False]))
    assert target[0].tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert target[1].tolist() == [0.0, 2.0, 0.0]
    copy_rows(target, source, torch.tensor([True, True, True]))
    assert torch.equal(target[0], source[0])


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_from_a_snapshot_a_run_takes_the_same_steps_again(kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    extra = (
        {"momentum": 0.9} if kind is not torch.optim.AdamW else {"betas": (0.0, 0.0)}
    )  # no memory of counts
    optimizer = kind(model.parameters(), lr=1e-2, **extra)  # type: ignore[call-arg]
    step(model, optimizer)
    snapshots = Snapshots(optimizer)
    step(model, optimizer)
    once = model.weight.detach().clone()
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    snapshots.put_back()
    step(model, optimizer)
    torch.testing.assert_close(model.weight, once)
    assert kind is not torch.optim.SGD or torch.equal(model.weight, once)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
def test_averages_that_did_not_exist_are_made_anew_as_at_the_first_step(
    kind: type[torch.optim.Optimizer],
) -> None:
    model = nn.Linear(3, 2)
    optimizer = kind(model.parameters())  # type: ignore[call-arg]
    snapshots = Snapshots(optimizer)
    step(model, optimizer)
    once = model.weight.detach().clone()
    for _ in range(3):
        step(model, optimizer)
    snapshots.put_back()
    assert kind is torch.optim.Adagrad or not optimizer.state[model.weight]
    step(model, optimizer)
    torch.testing.assert_close(model.weight.detach(), once)


def test_what_else_lies_in_the_state_of_an_optimizer_is_made_anew_beside_what_is_known() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    step(model, optimizer)
    snapshots = Snapshots(optimizer)
    momentum = optimizer.state[model.weight]["momentum_buffer"].clone()
    optimizer.state[model.weight]["slow"] = torch.ones(2, 3)  # as Lookahead keeps its slow weights
    step(model, optimizer)
    snapshots.put_back()
    state = optimizer.state[model.weight]
    assert "slow" not in state  # zeros there would halve the weights
    assert torch.equal(state["momentum_buffer"], momentum)


def test_parameters_that_came_later_and_never_moved_are_left_as_they_are() -> None:
    model, late, thawed = nn.Linear(3, 2), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    thawed.requires_grad_(False)
    optimizer = torch.optim.SGD([*model.parameters(), thawed], 0.1)
    snapshots = Snapshots(optimizer)
    optimizer.add_param_group({"params": [late]})
    thawed.requires_grad_(True)
    snapshots.put_back()
    assert late.tolist() == thawed.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_parameters_that_came_later_go_back_to_what_they_were_before_their_first_step(taken: int) -> None:
    model, late, thawed = nn.Linear(3, 2), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    thawed.requires_grad_(False)
    optimizer = torch.optim.Adagrad([*model.parameters(), thawed], 0.1)  # its state is there from the start
    snapshots = Snapshots(optimizer)
    for _ in range(taken):
        snapshots.take()
    optimizer.add_param_group({"params": [late]})
    thawed.requires_grad_(True)
    snapshots.notice()
    with torch.no_grad():
        late.fill_(float("nan"))
        thawed.fill_(float("nan"))
        optimizer.state[thawed]["sum"].fill_(float("nan"))
    thawed.requires_grad_(False)  # as a discriminator is between its steps
    snapshots.put_back()
    assert late.tolist() == thawed.tolist() == [1.0, 1.0]
    assert optimizer.state[thawed]["sum"].tolist() == [0.0, 0.0]


def test_a_model_that_is_loaded_before_the_first_step_is_what_a_run_goes_back_to() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    snapshots = Snapshots(torch.optim.SGD(model.parameters(), 0.1), model.buffers())
    loaded = {name: torch.full_like(value, 2.0) for name, value in model.state_dict().items()}
    model.load_state_dict(loaded)
    snapshots.notice()
    for tensor in model.state_dict().values():
        tensor.fill_(7.0)
    snapshots.put_back()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_buffers_that_cannot_be_written_are_left_out_and_what_is_no_tensor_is_refused() -> None:
    expanded, plain = torch.ones(1).expand(3), torch.ones(1, 3).expand(1, 3)
    assert [one is plain for one in writable([expanded, plain])] == [True]
    with pytest.raises(TypeError, match="buffers has a tuple in it: pass tensors, as"):
        writable([("name", plain)])  # type: ignore[list-item]


def test_running_statistics_come_back_from_nan() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    snapshots = Snapshots(torch.optim.SGD(model.parameters(), 0.1), model.buffers())
    model(torch.full((4, 3), float("nan")))
    assert not all(b.isfinite().all() for b in model.buffers())
    snapshots.put_back()
    assert all(b.isfinite().all() for b in model.buffers())


def test_what_was_kept_last_is_not_trusted_before_the_next_is_kept() -> None:
    model = nn.Linear(1, 1, bias=False)
    snapshots = Snapshots(torch.optim.SGD(model.parameters(), 0.1))

    def value_is(value: float) -> None:
        with torch.no_grad():
            model.weight.fill_(value)

    for value in (1.0, 2.0, 3.0):
        value_is(value)
        snapshots.take()
    for _ in range(2):  # also when it falls again
        value_is(9.0)
        snapshots.put_back()
        assert float(model.weight.detach()) == 2.0
    value_is(4.0)
    snapshots.take()
    value_is(9.0)
    snapshots.put_back()
    assert float(model.weight.detach()) == 2.0


def test_two_copies_serve_a_whole_run() -> None:
    model = nn.Linear(3, 2)
    snapshots = Snapshots(torch.optim.SGD(model.parameters(), 0.1))
    places = set()
    for _ in range(10):
        snapshots.take()
        places |= {copy.data_ptr() for _, copy in snapshots._recent}
    assert len(places) == 2 * len(list(model.parameters()))
