"""RLScheduler: a controller bound to a torch optimizer by the optimizer's own step hooks."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.config import ControlConfig
from rl_lr.controller import Controller
from rl_lr.policy import Policy
from rl_lr.schedules import BaseSchedule
from rl_lr.signals import sketch_stride


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

    Time is counted by the optimizer's post-step hook, so a step that a gradient scaler skipped
    does not count. Every parameter group keeps its own base rate; all are multiplied by the same
    number, which is written before every step, so nothing else that sets rates has a say.
    Between decisions no value is read back from an accelerator.

    Args:
        optimizer: any torch optimizer whose update is proportional to ``lr``.
        total_steps: horizon, in optimizer steps.
        policy: a name that ships with the package, a folder, a :class:`Policy`, or None: then
            whoever holds the scheduler decides, by :meth:`signals` and :meth:`act` when
            :attr:`due` (this is how the environments drive it).
        base_schedule: the shape that the rate follows where the policy does nothing.
        control: constants of the control law where there is no policy; a policy brings its own.

    Raises:
        ValueError: for a horizon below 1, a base rate that is not a positive number, an unknown
            base schedule, or an optimizer without trainable parameters.
        PolicyFileError: if the policy cannot be loaded.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        policy: "str | Policy | None" = "default",
        base_schedule: BaseSchedule = "cosine",
        control: ControlConfig | None = None,
    ) -> None:
        _check_optimizer(optimizer)
        if policy is not None and not isinstance(policy, Policy):
            policy = Policy.load(policy)
        self.optimizer, self.policy = optimizer, policy
        for group in optimizer.param_groups:
            _base_rate(group)
        parameters = _trainable(optimizer)
        count = sum(p.numel() for p in parameters)
        self._stride = sketch_stride(count)
        self.controller = Controller(
            runs=1,
            width=-(-count // self._stride),
            total_steps=total_steps,
            schedule=base_schedule,
            config=policy.control if policy else control,
            device=parameters[0].device,
        )
        self.base_lrs: list[float] = []
        self._bases()
        self._weights: Tensor | None = None  # sketch before the step under way
        self._gradient: Tensor | None = None
        self._stepped = False
        self._offset, self._multiplier = 0.0, 0.0
        self._read: Tensor | None = None  # the controller's offset that _offset was read from
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self._latest_signals: Tensor | None = None
        self._decide_if_due()
        self._refresh()

    @property
    def due(self) -> bool:
        """Whether a decision is open: only ever True between calls when ``policy`` is None."""
        return self.controller.due

    @property
    def stepped(self) -> bool:
        """Whether the optimizer made a step that :meth:`step` was not yet told of."""
        return self._stepped

    @property
    def latest_signals(self) -> Tensor | None:
        """What the policy saw at the latest decision, ``[NUM_SIGNALS]``; None before the first."""
        return self._latest_signals

    def step(self, loss: Tensor | float) -> None:
        """Take in one iteration: call it after ``optimizer.step()`` with that step's loss.

        Does nothing if the optimizer made no step since the last call.
        """
        if not self._stepped:
            return
        value = torch.as_tensor(loss)
        if value.numel() != 1:
            raise ValueError(f"scheduler.step needs one scalar loss, got shape {tuple(value.shape)}.")
        self._stepped = False
        self.controller.record(value.reshape(1), self._gradient, self._weights)
        self._weights = self._gradient = None
        self._decide_if_due()
        self._refresh()

    def signals(self) -> Tensor:
        """Close the window; what the policy sees now, ``[1, NUM_SIGNALS]`` on the CPU."""
        table = self.controller.signals().cpu()
        self._latest_signals = table[0]
        return table

    def act(self, action: Tensor) -> None:
        """Make the open decision with ``action``, ``[1]`` in [-1, 1]."""
        self.controller.act(action)
        self._refresh()

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group at the coming step."""
        return [base * self._multiplier for base in self._bases()]

    def state_dict(self) -> dict[str, Any]:
        """State as plain types and tensors, safe for ``torch.load(weights_only=True)``."""
        return {"base_lrs": list(self.base_lrs), "controller": self.controller.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a saved run; base rates come from the state, never from the optimizer."""
        saved, present = len(state["base_lrs"]), len(self.optimizer.param_groups)
        if saved != present:
            raise ValueError(
                f"The saved run has {saved} parameter groups, this optimizer {present}: "
                f"build it with the saved groups before loading."
            )
        self.controller.load_state_dict(state["controller"])
        self.base_lrs = [float(rate) for rate in state["base_lrs"]]
        self._offset = self.controller.offset.item()
        self._refresh()

    def release(self) -> None:
        """Stop deciding: from now on the rate is the base schedule's."""
        control = self.policy.control if self.policy else None
        self.policy = Policy.keep(control)
        self.controller.offset = torch.zeros_like(self.controller.offset)
        self._offset = 0.0
        self._refresh()

    def detach(self) -> None:
        """Let go of the optimizer: its hooks are removed and its base rates put back."""
        for hook in self._hooks:
            hook.remove()
        for group, base in zip(self.optimizer.param_groups, self._bases(), strict=True):
            _set_rate(group, base)
            group.pop("initial_lr", None)

    def _decide_if_due(self) -> None:
        if self.policy is not None and self.controller.due:
            self.controller.act(self.policy.act(self.signals()))

    def _refresh(self) -> None:
        """Work out the coming step's multiplier and write the rates.

        The offset is read back at decisions; in between only from the CPU, where it is free, so
        a guard event on an accelerator takes effect at the next decision.
        """
        controller, offset = self.controller, self.controller.offset
        if controller.just_decided or (offset is not self._read and offset.device.type == "cpu"):
            self._offset, self._read = offset.item(), offset
        self._multiplier = controller.schedule_value * math.exp(self._offset)
        self._write()

    def _write(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self._bases(), strict=True):
            _set_rate(group, base * self._multiplier)

    def _bases(self) -> list[float]:
        """Base rates; a group added later brings its own.

        Each is left in its group as ``initial_lr``, torch's own custom, so that a checkpoint of
        the optimizer alone still tells what the rate was before it was scheduled.
        """
        groups = self.optimizer.param_groups
        for index in range(len(self.base_lrs), len(groups)):
            rate = groups[index]["lr"]
            shared = [k for k in range(index) if isinstance(rate, Tensor) and groups[k]["lr"] is rate]
            base = self.base_lrs[shared[0]] if shared else _base_rate(groups[index])
            self.base_lrs.append(base)
            groups[index]["initial_lr"] = base
        return self.base_lrs

    def _before_step(self, *_: object) -> None:
        self._write()
        if self.controller.measures:
            self._weights = self._sketch([p.detach() for p in _trainable(self.optimizer)])

    def _after_step(self, *_: object) -> None:
        self._stepped = True
        if self._weights is not None:
            self._gradient = self._sketch([_gradient(p) for p in _trainable(self.optimizer)])

    def _sketch(self, tensors: list[Tensor]) -> Tensor:
        """Every ``stride``-th coordinate of the concatenated tensors, ``[1, width]`` float32."""
        device, stride = self.controller.offset.device, self._stride
        offset, pieces = 0, []
        for tensor in tensors:
            start = -offset % stride
            size = tensor.numel()
            offset += size
            if start < size:
                dense = tensor.to_dense() if tensor.is_sparse else tensor
                piece = dense.reshape(-1)[start::stride].to(device)
                pieces.append(piece.abs() if piece.is_complex() else piece)
        row = torch.cat(pieces).float()
        missing = self.controller.width - row.numel()  # parameters were added or frozen since
        row = row if missing == 0 else torch.nn.functional.pad(row, (0, missing))
        return row[None]


def _trainable(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def _gradient(parameter: Tensor) -> Tensor:
    return parameter.new_zeros(()).expand(parameter.shape) if parameter.grad is None else parameter.grad


def _check_optimizer(optimizer: Optimizer) -> None:
    if not any(p.numel() for p in _trainable(optimizer)):
        raise ValueError(
            "The optimizer has no trainable parameters: pass it parameters with requires_grad=True "
            "before the scheduler is built."
        )


def _base_rate(group: dict[str, Any]) -> float:
    """The base rate of a group: its ``initial_lr`` where a scheduler left one, else its ``lr``."""
    rate = float(group.get("initial_lr", group["lr"]))
    if not (math.isfinite(rate) and rate > 0.0):
        raise ValueError(
            f"The base learning rate of a parameter group is {rate}: give the optimizer a positive lr."
        )
    return rate


def _set_rate(group: dict[str, Any], rate: float) -> None:
    """Torch's own rule: fill a tensor rate in place, else assign a plain float."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
