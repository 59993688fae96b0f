"""A training under way: its members learn one after the other, and every iteration is kept."""

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rl_lr.agents import Figures, build
from rl_lr.config import TrainConfig
from rl_lr.episodes import Plan, play
from rl_lr.mean_policy import lifted, mean_policy
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.resume import Progress, checkpoint, save
from rl_lr.starting import best_policy
from rl_lr.validation import Validation
from rl_lr.workers import Workers


@dataclass(frozen=True)
class Beginning:
    """What a training begins with, or goes on with."""

    progress: Progress[TrainConfig]
    """Settings, tasks, and the iterations that are done."""
    state: dict[str, Any] | None
    """Of the agent, if it is taken up again."""
    first: Policy | None
    """The policy that it began from, if it did."""
    origin: dict[str, Any]
    """What is known of its policies before they are trained."""


class Course:
    """Iterations of a training: :meth:`learn`, then :meth:`keep`, for each of them; :meth:`policy` at the end.

    Args:
        out: folder of the training.
        begun: what it goes on with.
        plan: what episodes are played.
        workers: where they are, started.
    """

    def __init__(self, out: Path, begun: Beginning, plan: Plan, workers: Workers) -> None:
        self._out, self._begun, self._workers = out, begun, workers
        self._config = begun.progress.config
        self._agent = build(self._config, out, begun.progress.iterations, begun.first)
        if begun.state is not None:
            self._agent.load_state_dict(begun.state)
        self._members = self._kept_members() or [self._agent.policy({}, str(out))]
        self._validation = Validation(plan, workers, self._config.validation_groups)
        self._done = begun.progress.iterations
        self._clock = time.monotonic() - 60 * begun.progress.minutes
        self._figures = Figures()
        if begun.first is not None and not begun.progress.iterations:
            self._told(begun.first, 0, 0.0, self._measure(begun.first)).save(checkpoint(out, 0))
            self._agent.curves.write(0)

    def learn(self, done: int) -> None:
        """Iteration number ``done``, from 1: a whole episode of every group, then the update."""
        if done > len(self._members) * self._config.iterations:
            self._agent = build(self._config, self._out, done - 1)
            self._members.append(self._agent.policy({}, str(self._out)))
        agent, began = self._agent, time.monotonic()
        episodes = self._workers.map(play, agent.orders(done - 1))
        played = time.monotonic() - began
        figures = agent.update(episodes, done - 1)
        steps = sum(episode.steps * episode.log_base_lr.size for episode in episodes)
        decisions = sum(episode.rewards.size for episode in episodes)
        figures |= {
            "engine_steps_per_second": steps / played,
            "decisions_per_second": decisions / (time.monotonic() - began),
        }
        agent.curves.log("rollout", figures)
        agent.curves.show_actions(episodes)
        self._figures |= figures
        self._members[-1] = agent.policy({}, str(self._out))

    def keep(self, done: int, last: bool) -> Figures:
        """Write what the iteration came to, measured if it is the last or it is time; the latest figures."""
        every = self._config.validate_every
        due = every and (last or done % every == 0)
        measured = self._measure(self._mean()) if due else {}
        self._agent.curves.write(done)
        minutes = (time.monotonic() - self._clock) / 60
        self._members[-1] = self._told(self._members[-1], done, minutes, measured)
        progress = replace(self._begun.progress, iterations=done, minutes=minutes)
        try:  # a disk that is full now may not be after the next iteration
            self._members[-1].save(checkpoint(self._out, done))
            save(self._out, progress, self._agent.state_dict())
        except (OSError, PolicyFileError) as error:
            warnings.warn(
                f"Iteration {done} could not be saved in {self._out} ({error}): the last one that "
                f"was stays good, and training goes on; make room before it ends.",
                stacklevel=3,
            )
        self._figures |= measured
        self._done = done
        return self._figures

    def policy(self) -> Policy:
        """What has come of it: the mean of the members, or, if it began from a policy, the best that was measured."""
        if self._begun.first is None:
            return self._mean()
        every = self._config.validate_every
        planned = [
            *range(0, self._done, every),
            self._done,
        ]  # an interruption measured another, which does not count
        folders = (checkpoint(self._out, iterations) for iterations in planned)
        return best_policy([Policy.load(one) for one in folders if one.is_dir()], str(self._out))

    def _mean(self) -> Policy:
        """What the members come to, together."""
        return lifted(mean_policy(self._members), self._config.lift)

    def _measure(self, policy: Policy) -> Figures:
        """On runs kept apart."""
        measured = self._validation.measure(policy)
        self._agent.curves.log("validation", measured)
        return measured

    def _told(self, policy: Policy, done: int, minutes: float, measured: Figures) -> Policy:
        """The policy with what its training has come to."""
        known = {
            "iterations": done,
            "runs": done * self._config.runs,
            "minutes": round(minutes, 1),
            "validation": {name: round(value, 4) for name, value in measured.items()},
        }
        return replace(policy, provenance=self._begun.origin | known)

    def _kept_members(self) -> list[Policy]:
        """The last policy of every member so far."""
        each, done = self._config.iterations, self._begun.progress.iterations
        last = [*range(each, done, each), *([done] if done else [])]
        return [Policy.load(checkpoint(self._out, iteration)) for iteration in last]
