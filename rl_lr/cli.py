"""The command line: ``rl-lr train``, ``compare``, ``demo``, ``board``, ``bench``, ``convert``, ``design`` and ``siblings``."""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from jsonargparse import auto_cli, set_parsing_settings
from rich.console import Console
from rich.markup import escape

from rl_lr.config import TrainConfig
from rl_lr.coordinate.config import UnrollConfig
from rl_lr.policy import Policy
from rl_lr.process import dedicate_process
from rl_lr.workers import Local, Processes, RayCluster, WorkerError, Workers

_DEFAULT, _UNROLLED = TrainConfig(), UnrollConfig()


def train_command(
    out: Path | None = None,
    task: list[str] | str | None = None,
    from_: str | None = None,
    agent: Literal["ppo", "dqn", "unroll"] = "ppo",
    granularity: Literal["network", "coordinate"] = "network",
    settings: TrainConfig = _DEFAULT,
    unroll: UnrollConfig = _UNROLLED,
    resume: Path | None = None,
    engine: Literal["local", "processes", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Train a policy and export it, or go on with a training that was interrupted.

    Args:
        out: Folder for the policy, its model card, checkpoints and TensorBoard curves.
        task: Task to train on, or a list of them: names of tasks on real data or of installed packages, or
            package.module:name of your own; built-in, as if left out, for the families of the default policy.
        from_: Policy that PPO begins from (--from default), a name or folder; what comes out is the best on runs kept
            apart, of those measured, and never worse on them than that.
        agent: What learns: PPO, which takes any action, DQN, which chooses among a few, or unrolled runs, whose steps
            are differentiated.
        granularity: What the policy sets: the rate of a network, as PPO and DQN learn it, or the step of every
            coordinate, as unrolled runs do.
        settings: Sizes, seeds, and the agents' settings, of PPO and DQN.
        unroll: Those of unrolled runs.
        resume: Folder of the training to go on with, instead of out; its tasks and settings stay.
        engine: Where runs are played: in this process, in several, or on a Ray cluster. The policy is the same.
        workers: Processes, or episodes under way at once on the cluster; left out, one per core.
        address: Of the Ray cluster, host:port, or auto; left out, Ray is started on this machine.
    """
    from rl_lr.progress import training_progress
    from rl_lr.resume import is_unrolled, load
    from rl_lr.training import train

    if (out is None) == (resume is None):
        raise ValueError("Give either --out, the folder of a new training, or --resume, that of an old one.")
    folder = out or resume
    assert folder is not None
    untouched = agent == "ppo" and granularity == "network" and settings == _DEFAULT
    if (agent, granularity) == ("unroll", "coordinate") or (resume and untouched and is_unrolled(resume)):
        elsewhere = (settings, from_, engine, workers, address) != (_DEFAULT, None, "local", None, None)
        _train_unrolled(folder, task, unroll, resume is not None, elsewhere)
        return
    if agent == "unroll" or granularity == "coordinate":
        raise ValueError(
            f"--agent {agent} with --granularity {granularity} does not fit: unrolled runs learn the step of every "
            f"coordinate (--agent unroll --granularity coordinate), PPO and DQN the rate of a network."
        )
    if unroll != _UNROLLED:
        raise ValueError(f"--unroll are settings of unrolled runs: give --agent unroll, not {agent}.")
    if agent != _DEFAULT.agent:
        settings = replace(settings, agent=agent)
    config = None if resume and settings == _DEFAULT else settings
    planned = config or load(folder)[0].config
    tasks = [task] if isinstance(task, str) else task
    total = planned.iterations if from_ else planned.total_iterations
    where = _workers(engine, workers, address)
    console, interrupted = Console(), _interrupts()
    with training_progress(console, iterations=total) as progress:
        train(folder, tasks, config, progress, lambda: bool(interrupted), resume is not None, where, from_)
    _tell(console, folder, load(folder)[0].iterations, total)


def _train_unrolled(
    folder: Path, task: list[str] | str | None, unroll: UnrollConfig, resume: bool, elsewhere: bool
) -> None:
    """Train a policy that sets a step for every coordinate."""
    from rl_lr.coordinate.training import train
    from rl_lr.progress import of_unrolls, training_progress
    from rl_lr.resume import load_unrolled

    if elsewhere:
        raise ValueError(
            "Unrolled runs are stepped together in this process, from a network of their own: set --unroll instead "
            "of --settings, and leave --from, --engine, --workers and --address out."
        )
    config = None if resume and unroll == _UNROLLED else unroll
    total = (config or load_unrolled(folder)[0].config).total_iterations
    tasks = [task] if isinstance(task, str) else task
    console, interrupted = Console(), _interrupts()
    with training_progress(console, iterations=total, show=of_unrolls) as progress:
        train(folder, tasks, config, progress, lambda: bool(interrupted), resume)
    _tell(console, folder, load_unrolled(folder)[0].iterations, total)


def _tell(console: Console, folder: Path, done: int, total: int) -> None:
    """Where the policy is, and how to go on with a training that was stopped."""
    if done < total:
        console.print(
            f"Stopped after {done} of {total} iterations; to go on: rl-lr train --resume {quote(str(folder))}",
            soft_wrap=True,
            markup=False,
        )
    told = f"Policy: {folder}\nTensorBoard: rl-lr board {quote(str(folder))}"
    console.print(told, highlight=False, soft_wrap=True, markup=False)


def _workers(engine: str, count: int | None, address: str | None) -> Workers:
    """Where episodes are played; refuses what the engine has no use for."""
    if address is not None and engine != "ray":
        raise ValueError(
            f"--address names a Ray cluster: give --engine ray too, or leave it out, not {engine}."
        )
    if engine == "ray":
        return RayCluster(count, address)
    if engine == "processes":
        return Processes(count)
    if count not in (None, 1):
        raise ValueError(
            f"--workers {count} needs --engine processes or ray: the local engine is one process."
        )
    return Local()


def _interrupts() -> list[int]:
    """A list that Ctrl-C appends to; the second one ends the program at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Console(stderr=True).print("Ctrl-C: finishing this iteration first; once more to end at once.")
        received.append(number)

    signal.signal(signal.SIGINT, note)
    return received


def demo_command(out: Path = Path("demo-out"), minutes: float = 2.0, steps: int = 1000) -> None:
    """Train a small policy, then fit two networks on real data under four ways of setting the rate.

    Args:
        out: Folder for the policy, TensorBoard logs, results and figure.
        minutes: Time to train the small policy for.
        steps: Optimizer steps of each fit.
    """
    from rl_lr.demo import run_demo

    run_demo(out, minutes, steps)


def compare_command(
    out: Path = Path("compare-out"),
    policy: str = "default",
    suite: Literal["heldout", "validation", "train-families"] = "heldout",
    task: list[str] | str | None = None,
    steps: int = 1000,
    jobs: int = 1,
    rivals: bool = True,
    page: Path | None = None,
    beside: list[str] | str | None = None,
) -> None:
    """Compare a policy with tuned schedules and rivals on networks that it was not trained on.

    Args:
        out: Folder for every run and the results; what is there already is not run again.
        policy: Name or folder of the policy.
        suite: heldout, networks used for nothing else; validation, families for choosing between
            policies; train-families, unseen instances of what policies train on.
        task: Task, or a list of them, to compare on instead of a suite, named as for rl-lr train.
        steps: Horizon of these tasks; a LightningFit has its own.
        jobs: Processes to use.
        rivals: Whether what is not a reference or a control takes part: other schedules, and self-tuning optimizers,
            which need the extra "rivals".
        page: Where to write the page of results; left out, results.md in out.
        beside: Another policy, name or folder, or a list of them, in the same tables, and against each other.
    """
    from rl_lr.compare import run_compare
    from rl_lr.compare.suites import own_workloads

    tasks = [task] if isinstance(task, str) else task
    others = [Policy.load(one) for one in ([beside] if isinstance(beside, str) else beside or ())]
    workloads = None if tasks is None else own_workloads(tasks, steps)
    name = suite if tasks is None else "own"
    run_compare(out, Policy.load(policy), name, jobs, rivals, page, workloads, others=others)


def board_command(folder: Path, port: int = 6006) -> None:
    """Show logs in TensorBoard until Ctrl-C; the address is printed.

    Args:
        folder: Of a Lightning logger, with one run or several, or what --out was of train, compare or demo.
        port: To listen on; 0 for any free one.
    """
    from rl_lr.board import serve

    serve(folder, port, Console())


def convert_command(*, model: Path, out: Path, trust: bool = False) -> None:
    """Export a PPO model of stable-baselines3, a zip file, as a policy folder.

    Args:
        model: The zip file that PPO.save wrote.
        out: Folder for the policy.
        trust: Whether the file may run code, which opening it can do: only if you made it, or know who did.
    """
    from rl_lr.agents.convert import convert

    folder = convert(model, out, trust)
    Console().print(f"Policy: {folder}", highlight=False, soft_wrap=True, markup=False)


def bench_command(out: Path = Path("bench.json"), repetitions: int = 20, soak: bool = False) -> None:
    """Measure engine and callback as ratios within this one run.

    Args:
        out: File for the figures, as JSON.
        repetitions: Pairs of measurements behind each ratio.
        soak: Instead, whether time and memory stay flat over a fit of 100 000 steps.
    """
    from rl_lr.bench import run_bench

    run_bench(out, repetitions, soak)


def design_command(
    out: Path | None = None,
    space: Literal["layers", "cells"] = "layers",
    agent: Literal["q-learning", "reinforce", "random"] = "q-learning",
    children: int = 80,
    seed: int = 0,
    steps: int = 120,
    runs: int = 3,
    resume: Path | None = None,
) -> None:
    """Let an agent design networks, each judged after a short training under the default policy.

    Args:
        out: Folder for the judged designs, TensorBoard curves, the result and a drawing of the best.
        space: What is designed: layers of a network for images, or recurrent cells for text.
        agent: What searches.
        children: Different designs to judge.
        seed: Of the agent.
        steps: Optimizer steps of a child's training.
        runs: Seeds that each child is trained from.
        resume: Folder of a search that was interrupted, instead of out; its settings stay.
    """
    from rl_lr.design.command import SearchConfig, run_design

    run_design(out, resume, SearchConfig(space, agent, children, seed, steps, runs))


def main() -> None:
    """Run the command line."""
    from rl_lr.siblings import SIBLINGS

    dedicate_process()
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    commands: dict[str, Any] = {
        "train": train_command,
        "compare": compare_command,
        "demo": demo_command,
        "board": board_command,
        "bench": bench_command,
        "convert": convert_command,
        "design": design_command,
        "siblings": {"_help": "Measure a sibling system and write its page.", **SIBLINGS},
    }
    try:
        auto_cli(commands, allow_abbrev=True)  # --from for --from_; positional is what has no default
    except (ValueError, TypeError, OSError, MemoryError, WorkerError) as error:
        fail(f"{error.filename} is a file: give a folder." if isinstance(error, FileExistsError) else error)
    except KeyboardInterrupt:
        fail("interrupted")


def fail(reason: object) -> None:
    """Say in one line why the command ends, and end it."""
    Console(stderr=True).print(f"[red]rl-lr:[/red] {escape(str(reason))}", highlight=False, soft_wrap=True)
    sys.exit(2)
