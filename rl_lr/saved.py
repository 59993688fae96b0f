"""Whether a saved run can go on under a scheduler, and what of it."""

from typing import Any

from rl_lr.controller import Controller
from rl_lr.sketches import Granularity


def check_saved(state: dict[str, Any], granularity: Granularity, groups: int, average: bool) -> None:
    """Refuse a state of :class:`rl_lr.RLScheduler` that was saved with other settings than these.

    Args:
        state: of the saved run.
        granularity: what has a rate of its own now.
        groups: parameter groups of the optimizer now.
        average: whether an average of the weights is kept now.
    """
    was = state.get("granularity", "network")
    if was != granularity:
        raise ValueError(
            f"The saved run set a rate for each {was}, this scheduler for each {granularity}: "
            f"build it with granularity={was!r}."
        )
    saved = len(state["base_lrs"])
    if saved != groups:
        raise ValueError(
            f"The saved run has {saved} parameter groups, this optimizer {groups}: "
            f"build it with the saved groups before loading."
        )
    if "average" in state and not average:
        raise ValueError(
            "The saved run kept an average of the weights, this scheduler keeps none: build it with average=True."
        )


def going_on(state: dict[str, Any], controller: Controller, sharded: bool) -> dict[str, Any]:
    """A state of a scheduler as this one can take it up, without what was measured of weights that it does not measure.

    Args:
        state: of the saved run.
        controller: of the run that goes on.
        sharded: whether weights are or were spread over processes, each of which measures its own.

    Raises:
        ValueError: if another number of tensors has a rate, or other weights were measured.
    """
    saved, rows = state["controller"], len(controller.offset)
    if len(saved["offset"]) != rows:
        raise ValueError(
            f"The saved run set a rate for each of {len(saved['offset'])} parameters, this scheduler for {rows}: add "
            f"later layers after it is built, as in the saved run."
        )
    if saved["width"] != controller.width and not sharded:
        raise ValueError(
            f"The saved run measures {saved['width']} coordinates of what it trains, this one {controller.width}: build "
            f"model and scheduler as in the saved run, and thaw or add later layers when the scheduler is there."
        )
    kept: dict[str, Any] = {"untold": 0, "measured": [None, None]} | state
    if sharded:
        kept |= {"measured": [None, None], "controller": unsketched(saved, controller.width)}
    return kept


def unsketched(state: dict[str, Any], width: int) -> dict[str, Any]:
    """The state of a controller without what it knows of single coordinates: in the window under way, and of the last one.

    Where weights are spread over processes, each measures its own shard, and a checkpoint holds what one of them
    measured. The signals of the next decision that need coordinates are then those of the rest of its window.

    Args:
        state: of a :class:`rl_lr.controller.Controller`.
        width: coordinates in the sketches from now on.
    """
    signals = state["signals"]
    window, history = signals["window"], signals["history"]
    blank = window["gradient"].new_zeros(len(window["gradient"]), width)
    sums = {name: window[name].new_zeros(window[name].shape) for name in ("pairs", "products")}
    forgotten = {
        "window": window | sums | {"gradient": blank},
        "history": history | {"displacement": blank},
        **dict.fromkeys(("before", "start", "latest")),
        "span": 0,
        "unseen": 0,
    }
    return state | {"width": width, "signals": signals | forgotten}
