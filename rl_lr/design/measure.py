"""``rl-lr siblings design``: searches of every agent, and the best of them against what people design."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console

from rl_lr.design.children import Child, Judge, Training
from rl_lr.design.command import AgentName, agent_of, counted
from rl_lr.design.page import write_page
from rl_lr.design.problems import Digits, Part, Problem, Source
from rl_lr.design.search import Found, search
from rl_lr.intervals import interval
from rl_lr.policy_files import write_atomically

AGENTS: tuple[AgentName, ...] = get_args(AgentName)
HAND_MADE = "conv(16,3) pool(2) conv(16,3) pool(2) dense(32)"
"""What a person would take: two rounds of convolution and pooling, then a dense layer."""
LSTMS = ("lstm", "lstm+1")
"""Rivals of the cells: as torch begins it, and with a forget gate that begins open."""
RESULTS_FILE = "design.json"
FIRST_SEARCH = 100
"""Seed of the first search of each agent; those below 10 were looked at while constants were set."""


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement of one space."""

    problem: Problem[Any]
    """What is designed, and what judges it."""
    training: Training
    """Of a child in a search."""
    rivals: tuple[str, ...]
    """Designs by people."""
    children: int
    """Different designs that each search judges."""
    repeats: int
    """Searches by each agent, which differ in their seed."""
    fresh: int
    """Seeds that the final figures are means over, none used in a search."""
    long: int
    """Steps of a longer training, for the best design and its rivals."""
    finalists: int = 6
    """Best designs of all searches that are judged once more, on the rows of the searches, to choose one."""
    limited: bool = False
    """Whether finalists have at most the parameters of the first rival."""


def plans(quick: bool) -> dict[str, Plan]:
    """Of layers and of cells."""
    layers = Plan(Digits(), Training(), (HAND_MADE,), 80, 20, fresh=5, long=400, limited=True)
    cells = Plan(Source(), Training(seeds=(0, 1)), LSTMS, 120, 5, fresh=5, long=800)
    if not quick:
        return {"layers": layers, "cells": cells}
    brief, sizes = (
        Training(steps=2, seeds=(0,)),
        {"children": 6, "repeats": 2, "fresh": 2, "long": 3, "finalists": 2},
    )
    return {
        "layers": replace(layers, training=brief, **sizes),  # type: ignore[arg-type]
        "cells": replace(cells, training=brief, problem=Source(width=4, length=6), **sizes),  # type: ignore[arg-type]
    }


def run_measure(
    out: Path, page: Path | None = None, quick: bool = False, console: Console | None = None
) -> Path:
    """Everything on the page; what is in ``out`` already is not made again.

    Writes ``design.json``, figures, and the page; returns the page's path.
    """
    console, results = console or Console(), {}
    for name, plan in plans(quick).items():
        results[name] = _measure(name, plan, out, console)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically({out / RESULTS_FILE: json.dumps(results, indent=1).encode()})
    path = write_page(results, out, page or out / "design.md", console)
    console.print(f"Page: {path}\nResults: {out / RESULTS_FILE}", highlight=False, soft_wrap=True)
    return path


def _measure(name: str, plan: Plan, out: Path, console: Console) -> dict[str, Any]:
    judge = Judge(plan.problem, plan.training, out / f"{name}.jsonl")
    agents: dict[str, list[Found]] = {agent: [] for agent in AGENTS}
    with _bar(console, f"{name}: searches", plan.repeats * len(AGENTS) * plan.children) as step:
        for seed in range(FIRST_SEARCH, FIRST_SEARCH + plan.repeats):
            for agent in AGENTS:
                made = agent_of(agent, plan.problem.space, seed)
                agents[agent].append(search(judge, made, plan.children, lambda _: step()))
    short, again = plan.training.steps, partial(_judge, plan, out, name)
    judges = {
        "again": again("again", short, "selection"),
        "again-long": again("again-long", plan.long, "selection"),
        "test": again("test", short, "test"),
        "test-long": again("test-long", plan.long, "test"),
    }
    fives = {child.design for founds in agents.values() for found in founds for child in found.best(5)}
    with _bar(console, f"{name}: best fives on test rows", len(fives)) as step:
        for design in sorted(fives):
            judges["test"](plan.problem.parse(design))
            step()
    best = _choose(
        plan, judge, [one for name, founds in agents.items() for one in founds if name != "random"], judges
    )
    finals = {
        key: {
            design: {
                "losses": list(judges[key](plan.problem.parse(design)).losses),
                "parameters": plan.problem.parameters(plan.problem.parse(design)),
            }
            for design in (best, *plan.rivals)
        }
        for key in ("test", "test-long")
    }
    return {
        "agents": {agent: _summary(plan, founds, judges["test"]) for agent, founds in agents.items()},
        "best": best,
        "rivals": list(plan.rivals),
        "finals": finals,
        "plan": {"children": plan.children, "repeats": plan.repeats, "fresh": plan.fresh, "long": plan.long},
        "settings": judge.settings,
    }


def _judge(plan: Plan, out: Path, name: str, key: str, steps: int, part: Part) -> Judge[Any]:
    """On seeds that no search used."""
    training = replace(plan.training, steps=steps, seeds=tuple(range(100, 100 + plan.fresh)))
    return Judge(plan.problem, training, out / f"{name}-{key}.jsonl", part)


def _choose(plan: Plan, judge: Judge[Any], founds: Sequence[Found], judges: dict[str, Judge[Any]]) -> str:
    """The best of the agents' best: judged once more on the rows of the searches, at both lengths, fresh seeds.

    The highest of many noisy rewards is partly luck; that luck is not shared by other seeds.
    """
    problem = plan.problem
    most = problem.parameters(problem.parse(plan.rivals[0])) if plan.limited else np.inf
    seen = {child.design: child for found in founds for child in found.children}
    ranked = sorted(seen.values(), key=lambda child: -child.reward)
    small = [child for child in ranked if problem.parameters(problem.parse(child.design)) <= most]

    def again(child: Child) -> float:
        design = problem.parse(child.design)
        return judges["again"](design).reward + judges["again-long"](design).reward

    return max(small[: plan.finalists], key=again).design


def _summary(plan: Plan, founds: Sequence[Found], test: Judge[Any]) -> dict[str, Any]:
    """What an agent's searches found."""
    curves = np.array([_filled(found.best_so_far(), plan.children) for found in founds])
    middle = curves.mean(axis=0)
    half = np.array([interval(column)[1] for column in curves.T])

    def judged(child: Child) -> float:
        return test(plan.problem.parse(child.design)).reward

    return {
        "best_five": [float(np.mean([child.reward for child in found.best(5)])) for found in founds],
        "best_five_test": [float(np.mean([judged(child) for child in found.best(5)])) for found in founds],
        "mean": [float(np.mean([child.reward for child in found.children])) for found in founds],
        "judged": [len(found.children) for found in founds],
        "curve": {"mean": middle.round(4).tolist(), "half": half.round(4).tolist()},
    }


def _filled(curve: list[float], length: int) -> list[float]:
    """A search that settled early keeps its best."""
    return curve + curve[-1:] * (length - len(curve))


@contextmanager
def _bar(console: Console, title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar that every call moves on by one."""
    with counted(console) as bar:
        yield partial(bar.advance, bar.add_task(title, total=total))
