"""RLScheduler: a controller bound to a torch optimizer by the optimizer's own step hooks."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from rl_lr.agreement import Agree, felt_loss
from rl_lr.averaging import WeightAverage, existing
from rl_lr.config import ControlConfig
from rl_lr.controller import Controller
from rl_lr.measuring import Measuring
from rl_lr.optimizer_step import bare, check_free, check_told, controlled, refuse_capture, skipped
from rl_lr.param_groups import GroupRates, base_rate
from rl_lr.policy import Policy
from rl_lr.saved import check_saved, going_on
from rl_lr.schedules import BaseSchedule
from rl_lr.sketches import Granularity, check_granularity
from rl_lr.snapshots import OnDivergence, Snapshots, check_on_divergence, writable
from rl_lr.supported import check_optimizer


class RLScheduler:
    """A learning-rate scheduler whose step sizes are chosen by a learned policy.

    Call :meth:`step` with the loss once per iteration, after ``optimizer.step()``::

        scheduler = RLScheduler(optimizer, total_steps=10_000)
        for batch in loader:
            loss = loss_fn(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)

    Time is counted by the optimizer's post-step hook, so a step that a gradient scaler skipped does not count.
    Every parameter group keeps its own base rate; all are multiplied by one number, which is written before every
    step, so that nothing else has a say. Between decisions no accelerator is waited for.

    Attributes:
        latest_signals: what the policy saw at the latest decision, ``[rows, NUM_SIGNALS]``; None before the first.
        untold: steps that the optimizer made since :meth:`step` was called last.
        failure: of what is done in the optimizer's steps, until the next report.

    Args:
        optimizer: any torch optimizer whose update is proportional to ``lr``; a trainer may have wrapped it.
        total_steps: horizon, in optimizer steps; None if unknown: not annealed (:mod:`rl_lr.timetable`), so best with ``average``.
        policy: a name that ships with the package, a folder, a :class:`Policy`, or None: then whoever holds
            the scheduler decides, by :meth:`signals` and :meth:`act` when :attr:`due`.
        base_schedule: the shape that the rate follows where the policy does nothing.
        control: constants of the control law where there is no policy; a policy brings its own.
        granularity: ``"network"``, one offset for all, or ``"tensor"``, one for each parameter, moved by its own
            signals, near the mean of all. The optimizer then has a parameter group for each, until :meth:`detach`
            puts them together again; :meth:`joined` does so for a state of the optimizer.
        on_divergence: ``"restore"`` takes a run whose loss exploded back to where it was healthy, with a tenth
            of the rate, for which two copies of weights, optimizer state and ``buffers`` are kept; ``"cut"``
            only lowers the rate.
        buffers: what else goes back, and is averaged: ``model.buffers()``, as running statistics keep a NaN.
        agree: the mean of a tensor over all processes that train one network, each of which may then give the
            loss of its own data; None where there is one process.
        average: keep an average of the weights, which forgets all but the last few per cent of the run, for
            :meth:`averaged` and :meth:`keep_average`: one more copy of them (:mod:`rl_lr.averaging`).

    Raises:
        ValueError: for a horizon below 1, an unknown choice, a base rate that is not a positive number, an
            optimizer that cannot be controlled (:mod:`rl_lr.supported`) or has a scheduler of ours already.
        PolicyFileError: if the policy cannot be loaded.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None,
        policy: "str | Policy | None" = "default",
        base_schedule: BaseSchedule = "cosine",
        control: ControlConfig | None = None,
        granularity: Granularity = "network",
        on_divergence: OnDivergence = "restore",
        buffers: Iterable[Tensor] = (),
        agree: Agree | None = None,
        average: bool = False,
    ) -> None:
        check_granularity(granularity)
        check_on_divergence(on_divergence)
        check_optimizer(optimizer := bare(optimizer))
        check_free(optimizer)
        if policy is not None and not isinstance(policy, Policy):
            policy = Policy.load(policy)
        self.optimizer, self.policy, self.granularity = optimizer, policy, granularity
        for group in optimizer.param_groups:
            base_rate(group)  # refuses it before anything is changed
        self._measuring = Measuring(optimizer, granularity)
        rows, width, device = self._measuring.rows, self._measuring.width, self._measuring.device
        law, deferred = policy.control if policy else control, device.type != "cpu"
        self.controller = Controller(
            rows, width, total_steps, base_schedule, law, device, tensors=rows, deferred=deferred
        )
        self._hooks: list[RemovableHandle] = []
        self.failure: Exception | None = None
        self._weights: Tensor | None = None  # sketch before the step under way
        self._gradient: Tensor | None = None
        self.untold, self._agree, self._now = 0, agree, self.controller.now
        self._factors: list[float] = []  # exp(o) of each row
        self._read: Tensor | None = None  # the controller's offset that they were read from
        self.latest_signals: Tensor | None = None
        buffers = writable(buffers)
        self.average = WeightAverage(optimizer, buffers) if average else None
        self._snapshots = Snapshots(optimizer, buffers, self.average) if on_divergence == "restore" else None
        if policy is not None:
            self.controller.act(policy.act(self.signals()))
        self._rates = GroupRates(optimizer, split=granularity == "tensor")
        self._refresh(read=True)
        self._attach()

    @property
    def due(self) -> bool:
        """Whether a decision is open: only ever True between calls when ``policy`` is None."""
        return self.controller.due

    def step(self, loss: Tensor | float | None) -> None:
        """Take in one iteration: call it after ``optimizer.step()`` with that step's loss.

        Nothing happens if the optimizer made no step since the last call; one without a loss, None, does not count.

        Raises:
            ValueError: for a loss of several elements.
            Exception: what failed in the step, which the optimizer did not feel.
        """
        if not self.untold:
            return
        if getattr(loss, "ndim", 0) and math.prod(shape := loss.shape) != 1:  # type: ignore[union-attr]
            raise ValueError(f"scheduler.step needs one scalar loss, got shape {tuple(shape)}.")
        self.untold = 0
        felt = felt_loss(loss, self._agree, self.controller.offset)
        measured = self._gradient, self._weights
        self._gradient, self._weights, failure, self.failure = None, None, self.failure, None
        if failure is not None:
            raise failure
        if felt is None:
            return
        self.controller.record(felt, *measured)
        if self.controller.step == self.controller.timetable.total_steps:
            self._rewind()
        self._now = self.controller.now
        if self._now.decides and self.policy is not None:
            self.controller.act(self.policy.act(self.signals()))
        self._refresh()

    def signals(self) -> Tensor:
        """Close the window; what the policy sees now, ``[1, NUM_SIGNALS]`` on the CPU, or a row per parameter."""
        self._rewind()
        seen = self.controller.signals()
        self.latest_signals = (seen if self._agree is None else self._agree(seen)).cpu()
        return self.latest_signals

    def act(self, action: Tensor) -> None:
        """Make the open decision with ``action``, ``[1]``, or one per parameter; it is clipped to [-1, 1]."""
        self.controller.act(action)
        self._refresh()

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group at the coming step, in the order of the optimizer's groups."""
        return self._rates.at(self._now.schedule, self._factors)

    @property
    def base_lrs(self) -> list[float]:
        """Base rate of each parameter group; one added later brings its own."""
        return self._rates.bases

    def averaged(self) -> AbstractContextManager[None]:
        """Averaged weights in the place of those that are trained: ``with scheduler.averaged(): evaluate()``."""
        return existing(self.average).shown()

    def keep_average(self) -> None:
        """Make the averaged weights those of the network, at the end of training."""
        existing(self.average).keep()

    def joined(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's state, empty where another process has it, with its groups as they were before the scheduler came."""
        return state and state | {"param_groups": self._rates.joined(state["param_groups"])}

    def state_dict(self) -> dict[str, Any]:
        """State as plain types and tensors, safe for ``torch.load(weights_only=True)``."""
        return {
            "base_lrs": list(self.base_lrs),
            "granularity": self.granularity,
            "sharded": self._measuring.sharded,
            "controller": self.controller.state_dict(),
            "untold": self.untold,
            "measured": [self._gradient, self._weights],
        } | ({} if self.average is None else {"average": self.average.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a saved run; base rates come from the state, never from the optimizer.

        Planned for another horizon, it goes on at the rate that it had, towards the new end, with a warning.

        Raises:
            ValueError: if the state is of another granularity, base schedule, network, number of groups or ``average``.
        """
        check_saved(state, self.granularity, len(self.optimizer.param_groups), self.average is not None)
        sharded = self._measuring.sharded or state.get("sharded", False)
        state = going_on(state, self.controller, sharded)
        self.controller.load_state_dict(state["controller"])
        if self.average is not None and "average" in state:
            self.average.load_state_dict(state["average"])
        self.untold, device = state["untold"], self._measuring.device
        self._gradient, self._weights = (None if one is None else one.to(device) for one in state["measured"])
        self._rates.bases[:] = [float(rate) for rate in state["base_lrs"]]
        if self._snapshots is not None:
            self._snapshots.restart()
        self._refresh(read=True)

    def release(self) -> None:
        """Stop deciding: from now on the rate is the base schedule's. Steps that were not told of are not waited for."""
        self.policy = Policy.keep(self.policy.control if self.policy else None)
        self.controller.catch_up()
        self._snapshots, self.untold, self._gradient, self._weights = None, 0, None, None
        self.controller.offset = torch.zeros_like(self.controller.offset)
        self._refresh(read=True)

    def detach(self) -> None:
        """Let go of the optimizer: its hooks are removed, its base rates and parameter groups put back."""
        if not self._hooks:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._snapshots = [], None
        controlled.discard(self.optimizer)
        self._rates.put_back()

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, from whose optimizer torch leaves hooks out."""
        return vars(self) | {"_hooks": bool(self._hooks)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take hold of the copied optimizer, if the original had one."""
        vars(self).update(state)
        if self._hooks:
            self._attach()

    def _attach(self) -> None:
        before, after = self.optimizer.register_step_pre_hook, self.optimizer.register_step_post_hook
        refused = [before(refuse_capture)] if self._measuring.device.type == "cuda" else []
        self._hooks = [*refused, before(self._before_step), after(self._after_step)]
        controlled.add(self.optimizer)

    def _rewind(self) -> None:
        """Go back if the run has fallen; if it is healthy, remember where it is."""
        self.controller.catch_up()
        if self._snapshots is None:
            return
        fallen, healthy = self.controller.rewind()  # all rows feel the same loss
        if fallen[0]:
            self._snapshots.put_back()
        elif healthy[0]:
            self._snapshots.take()

    def _refresh(self, read: bool = False) -> None:
        """Write the coming step's rates; ``read`` after anything but a step, when step and offset may be any.

        Offsets are read back at decisions and if asked for, in between only where it is free: not from accelerators.
        """
        if read:
            self._now = self.controller.now
        offset = self.controller.offset  # another tensor whenever it changes
        if read or (offset is not self._read and (self.controller.just_decided or offset.is_cpu)):
            self._read, self._factors = offset, [math.exp(one) for one in offset.tolist()]
        self._rates.write(self._now.schedule, self._factors)

    def _before_step(self, *_: object) -> None:
        try:
            self._rates.write_again()
            if self._snapshots is not None:
                self._snapshots.notice()
            if self._now.measured:
                self._weights = self._measuring.weights()
        except Exception as error:  # noqa: BLE001 - must not end the user's step: raised where that is reported
            self.failure = error

    def _after_step(self, *_: object) -> None:
        try:
            found_inf = getattr(self.optimizer, "found_inf", None)
            if found_inf is not None and skipped(found_inf):
                self._weights = None
                return
            self.untold += 1
            if self.untold > 1:  # hardly ever: spares every step a call
                check_told(self.untold, self.controller.step)
            if self.average is not None:
                self.average.update()
            if self._weights is not None:
                self._gradient = self._measuring.gradients()
        except Exception as error:  # noqa: BLE001 - as before the step
            self.failure = error
