"""A learned optimizer as torch knows optimizers: what a coordinate-wise policy says is what weights move by."""

import os
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from rl_lr.coordinate.network import CoordinateNetwork
from rl_lr.coordinate.policy import CoordinatePolicy


class LearnedOptimizer(Optimizer):
    """``w ← w + lr · u``, with u what the policy says to the gradient of each weight w, and to those before it.

    There is nothing to tune: the policy knows its own step sizes, and ``lr`` is 1 as it was trained. A scheduler
    may change it; :class:`rl_lr.RLScheduler` refuses, as it would be a second controller of the same steps. Beside
    the weights 4 · hidden numbers are kept for each of them (320 bytes with the policies that ship; Adam keeps 8).

    A policy is good where it was trained: see ``docs/learned-optimizer.md`` before you use one elsewhere.

    Args:
        params: parameters or groups of them, real.
        policy: a policy, or the name or folder of one.
        lr: factor on every step, positive.

    Raises:
        PolicyFileError: if the policy cannot be loaded.
        ValueError: for complex parameters, a rate that is not positive, and at a step for sparse gradients.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> optimizer = LearnedOptimizer([w], policy="quadratics")
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     w.square().sum().backward()
    ...     optimizer.step()
    >>> bool(w.abs().max() < 0.05)
    True
    """

    def __init__(
        self, params: ParamsT, policy: "str | os.PathLike[str] | CoordinatePolicy", lr: float = 1.0
    ) -> None:
        self.policy = policy if isinstance(policy, CoordinatePolicy) else CoordinatePolicy.load(policy)
        self._networks: dict[torch.device, CoordinateNetwork] = {}
        super().__init__(params, {"lr": lr, "policy": self.policy.sha256})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, under a factor of their own if the group has ``lr``."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["lr"] > 0.0:
            raise ValueError(
                f"lr is {group['lr']}: give a positive factor; 1 is the step that the policy was trained with."
            )
        if any(p.is_complex() for p in group["params"]):
            raise ValueError(
                "LearnedOptimizer steps real weights, and some are complex: pass torch.view_as_real of them."
            )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every weight that has a gradient.

        Args:
            closure: computes the loss and its gradients anew.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.add_(self._update(weight), alpha=float(group["lr"]))
        return loss

    def _update(self, weight: Tensor) -> Tensor:
        """What the policy says to the gradient of a tensor; what it remembers goes into the state."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if gradient.is_sparse:
            raise ValueError(
                "LearnedOptimizer needs the gradient of every weight at every step, and one is sparse: build the "
                "embedding with sparse=False, or give it an optimizer of its own, such as SparseAdam."
            )
        network = self._network(weight.device)
        memory = state["memory"] if state else network.start(weight.numel(), weight.device)
        update: Tensor
        update, after = network(gradient.reshape(-1).float(), tuple(memory))
        state["memory"] = list(after)
        return update.view_as(weight).to(weight.dtype)

    def _network(self, device: torch.device) -> CoordinateNetwork:
        """The policy's network where the weights are."""
        if device not in self._networks:
            spec, weights = self.policy.network.spec, self.policy.network.state_dict()
            self._networks[device] = CoordinateNetwork(spec).to(device).requires_grad_(False)
            self._networks[device].load_state_dict(weights)
        return self._networks[device]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run was saved.

        Raises:
            ValueError: if it was made by another policy, to which what was remembered means nothing.
        """
        for group in state_dict["param_groups"]:
            was = group.get("policy")
            if was != self.policy.sha256:
                raise ValueError(
                    f"The saved run was made by another optimizer or policy ({str(was)[:12]}, here "
                    f"{self.policy.sha256[:12]}): build LearnedOptimizer with that policy before loading."
                )
        super().load_state_dict(state_dict)
        saved = [place for group in state_dict["param_groups"] for place in group["params"]]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for place, weight in zip(saved, weights, strict=True):
            if place in state_dict["state"]:  # torch has cast it to the dtype of the weights
                memory = state_dict["state"][place]["memory"]
                self.state[weight]["memory"] = [t.to(weight.device, torch.float32, copy=True) for t in memory]

    def __getstate__(self) -> dict[str, Any]:
        """Torch's, with the policy: what copies and pickles are made of."""
        return {**super().__getstate__(), "policy": self.policy, "_networks": {}}
