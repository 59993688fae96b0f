"""Whether a saved run can go on under a scheduler, and what of it."""

from typing import Any

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
