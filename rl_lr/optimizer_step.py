"""Which optimizer makes the steps, whether a step was made at all, and whether anybody told of it."""

import warnings
from weakref import WeakSet

import torch
from torch import Tensor
from torch.optim import Optimizer

from rl_lr.supported import refuse_self_tuning

_SILENCE = 10  # steps without a report: fewer may be on purpose, as those of a critic

controlled: "WeakSet[Optimizer]" = WeakSet()
"""Optimizers under control: two schedulers on one of them would fight over its rates."""


def check_free(optimizer: Optimizer) -> None:
    """Refuse an optimizer that is under control already."""
    if optimizer in controlled:
        raise ValueError(
            "This optimizer has an RLScheduler already, and two would overwrite each other's rates: "
            "call detach() on the first one before another is built."
        )


def refuse_capture(*_: object) -> None:
    """As a hook: refuse a step that is captured in a CUDA graph: its replays call no hooks, and the rate would stand still."""
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise ValueError(
            "The optimizer's step is captured in a CUDA graph, of whose replays rl-lr is not told: capture forward and "
            "backward pass alone, and call optimizer.step() after each replay."
        )


def bare(optimizer: Optimizer) -> Optimizer:
    """The innermost optimizer of a wrapper, which makes the steps: only its own hooks tell of every one.

    A wrapper has the very parameter groups of what is inside it: those of Accelerate, Fabric and Lightning, and
    optimizers around others, such as Lookahead (1907.08610) or sharpness-aware minimization (2010.01412).

    Raises:
        ValueError: if it is DeepSpeed's, whose engine makes the steps without calling it, chooses its own step sizes,
            or calls no hooks.
    """
    refuse_self_tuning(optimizer)  # also around an optimizer that does not
    if "DeepSpeedOptimizerWrapper" in {kind.__name__ for kind in type(optimizer).__mro__}:
        raise ValueError(
            "rl-lr cannot control an optimizer under DeepSpeed, whose engine makes the steps itself: train with DDP "
            "or FSDP."
        )
    for inner in vars(optimizer).values():
        if isinstance(inner, Optimizer) and inner.param_groups is optimizer.param_groups:
            return bare(inner)
    if not getattr(type(optimizer).step, "hooked", False):  # torch's mark, made by Optimizer.__init__
        raise ValueError(
            f"{type(optimizer).__name__} calls no step hooks, by which rl-lr is told of its steps: let its __init__ "
            f"call super().__init__(params, defaults)."
        )
    return optimizer


def skipped(found_inf: object) -> bool:
    """Whether a fused optimizer under a gradient scaler, which left it ``found_inf``, was called for a step that it did not make.

    Others are not called at all. On accelerators looking would cost a synchronisation: there the step
    counts, and its gradient, which is not finite, is left out of the signals.
    """
    return isinstance(found_inf, Tensor) and found_inf.device.type == "cpu" and bool(found_inf)


def check_told(steps: int, told: int) -> None:
    """Warn where an optimizer began with so many steps that nobody reported, as if time were counted in epochs."""
    if steps == _SILENCE and told == 0:
        warnings.warn(
            f"The optimizer made {steps} steps, and scheduler.step(loss) was not called yet: call it after every "
            f"optimizer.step(), not once an epoch, as steps in between do not count.",
            stacklevel=2,
        )
