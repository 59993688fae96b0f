"""Wherever episodes are played, whoever dies meanwhile: the same results, or one clear sentence."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.cluster_utils import Cluster
from small_training import TINY, assert_same_weights

import rl_lr
from rl_lr.config import ControlConfig, PPOConfig
from rl_lr.episodes import Order, Plan, play
from rl_lr.exploration import Gaussian
from rl_lr.policy import Policy
from rl_lr.tasks import Family, Task
from rl_lr.tasks.families import quadratic
from rl_lr.validation import Validation
from rl_lr.workers import Local, Processes, RayCluster, WorkerError, Workers

PLAN = Plan(((quadratic, 1.0),), TINY.draw, ControlConfig(), group_size=4, seed=0)


@pytest.fixture
def started() -> Iterator[list[Workers]]:
    """Workers put into it are closed in the end."""
    workers: list[Workers] = []
    yield workers
    for one in workers:
        one.close()


def start(started: list[Workers], workers: Workers, plan: Plan = PLAN) -> Workers:
    started.append(workers)
    workers.start(plan)
    return workers


# Orders for workers: module-level functions, as the learner's are.


def square(plan: Plan, order: int) -> int:
    return order**2


def die_once(plan: Plan, order: tuple[int, Path]) -> int:
    """Kill the process that carries out order 1, the first time."""
    number, marker = order
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(plan: Plan, order: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return order


def doubt(plan: Plan, order: int) -> int:
    warnings.warn("this network cannot be stacked", stacklevel=1)
    return order


def divide(plan: Plan, order: int) -> float:
    return 1 / order


# --- processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_processes_train_the_policy_of_a_single_process(tmp_path: Path, count: int) -> None:
    alone = rl_lr.train(tmp_path / "alone", [quadratic], TINY)
    spread = rl_lr.train(tmp_path / "spread", [quadratic], TINY, workers=Processes(count))
    assert_same_weights(alone, spread)


def test_processes_measure_what_a_single_process_does(started: list[Workers]) -> None:
    here, there = (
        Validation(PLAN, start(started, workers), groups=2).measure(Policy.load("default"))
        for workers in (Local(), Processes(2))
    )
    assert here == there


def test_an_episode_is_the_same_to_the_bit_on_any_number_of_threads(started: list[Workers]) -> None:
    orders = [Order(Policy.load("default"), Gaussian(0.5), iteration=3, group=group) for group in range(2)]
    torch.set_num_threads(2)
    try:
        here = start(started, Local()).map(play, orders)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    there = start(started, Processes(2)).map(play, orders)
    for ours, theirs in zip(here, there, strict=True):
        for name in vars(ours):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_what_a_killed_process_was_doing_is_done_again(started: list[Workers], tmp_path: Path) -> None:
    workers = start(started, Processes(2))
    with pytest.warns(UserWarning, match="A worker process died: what it was doing is done again"):
        assert workers.map(die_once, [(k, tmp_path / "died") for k in range(5)]) == list(range(5))
    assert workers.map(square, range(3)) == [0, 1, 4]


@pytest.mark.filterwarnings("ignore:A worker process died")
def test_processes_that_keep_dying_end_the_training(started: list[Workers]) -> None:
    with pytest.raises(WorkerError, match=r"died 3 times in a row .* fewer workers or a smaller group_size"):
        start(started, Processes(1)).map(die, [1])


@pytest.mark.parametrize("make", [Local, lambda: Processes(1)])
def test_what_a_task_raises_arrives(started: list[Workers], make: type[Workers]) -> None:
    with pytest.raises(ZeroDivisionError):
        start(started, make()).map(divide, [1, 0])


def test_warnings_of_a_worker_arrive(started: list[Workers]) -> None:
    with pytest.warns(UserWarning, match="cannot be stacked"):
        assert start(started, Processes(1)).map(doubt, [1, 2]) == [1, 2]


def test_processes_end_with_a_learner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from rl_lr.workers import Processes\n"
        "from test_workers import PLAN, pids\n"
        "if __name__ == '__main__':\n"
        "    workers = Processes(2)\n"
        "    workers.start(PLAN)\n"
        "    print(*workers.map(pids, range(4)), flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as learner:
        assert learner.stdout is not None
        workers = {int(word) for word in learner.stdout.readline().split()}
        assert len(workers) == 2
        learner.kill()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)


def pids(plan: Plan, order: int) -> int:
    time.sleep(0.5)  # so that each process gets some
    return os.getpid()


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- tasks that travel -----------------------------------------------------------------------


class Locked:
    """A task that holds what cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, rng: np.random.Generator) -> Task:
        return quadratic(rng)


def test_tasks_that_cannot_be_sent_are_refused_by_name_and_train_locally(tmp_path: Path) -> None:
    for workers in (Processes(1), RayCluster(1)):
        with pytest.raises(
            ValueError, match=r"Task 'Locked' cannot be sent to workers \(.*lock.*local engine"
        ):
            rl_lr.train(tmp_path / "refused", [Locked()], TINY, workers=workers)
    assert not (tmp_path / "refused").exists()
    config = replace(TINY, iterations=1, groups=1, group_size=4, ppo=PPOConfig(minibatch=224))
    rl_lr.train(tmp_path / "local", [Locked()], config)


def test_tasks_of_a_script_reach_the_processes_by_value(started: list[Workers]) -> None:
    bowl: Family = lambda rng: quadratic(rng)
    plan = Plan(((bowl, 1.0),), TINY.draw, ControlConfig(), group_size=4, seed=0)
    order = Order(Policy.keep(), Gaussian(0.5), 0, 0)
    (here,) = start(started, Local(), plan).map(play, [order])
    (there,) = start(started, Processes(1), plan).map(play, [order])
    assert np.array_equal(here.rewards, there.rewards)


# --- a Ray cluster ---------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that works on nothing itself; machines are added by the test."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    impatient = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 6,
    }
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": impatient}
    ray_cluster = Cluster(initialize_head=True, head_node_args=head)
    yield ray_cluster
    ray_cluster.shutdown()  # type: ignore[no-untyped-call]


def noting(folder: Path) -> Family:
    """A family that leaves a note in ``folder`` whenever a task is drawn, and takes its time."""

    def draw_and_note(rng: np.random.Generator) -> Task:
        (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.5)
        return quadratic(rng)

    return draw_and_note


def test_a_machine_lost_in_mid_iteration_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    machines = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
    config = replace(TINY, iterations=2, groups=4)
    alone = rl_lr.train(tmp_path / "alone", [noting(notes)], config)
    before = set(notes.iterdir())

    def pull_the_plug() -> None:
        while (
            len({note.name.split("-")[0] for note in set(notes.iterdir()) - before} - {str(os.getpid())}) < 2
        ):
            time.sleep(0.01)  # until both machines are at work
        cluster.remove_node(machines[0], allow_graceful=False)

    thread = threading.Thread(target=pull_the_plug)
    thread.start()
    spread = rl_lr.train(
        tmp_path / "spread", [noting(notes)], config, workers=RayCluster(address=cluster.address)
    )
    thread.join()
    assert_same_weights(alone, spread)
    drawn_by_workers = {n for n in set(notes.iterdir()) - before if not n.name.startswith(f"{os.getpid()}-")}
    assert len(drawn_by_workers) > config.iterations * config.groups  # what was lost was played again


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "refused"),
        ("no-such-host.invalid:6379", "'no-such-host.invalid:6379'"),
        ("nonsense", "not of the form host:port"),
        ("127.0.0.1:99999", "99999"),
        ("auto", "Could not find any running Ray instance"),
    ],
)
def test_an_unknown_address_is_one_sentence_within_seconds(address: str, reason: str) -> None:
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"There is no Ray cluster at") as refused:
        RayCluster(address=address).start(PLAN)
    assert time.monotonic() - begin < 20
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_an_address_the_one_of_the_surrounding_job_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"There is no Ray cluster at '127\.0\.0\.1:1'"):
        RayCluster().start(PLAN)


def test_an_address_where_something_else_listens_is_refused_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        with pytest.raises(ValueError, match="does not answer as Ray does"):
            RayCluster(address=f"127.0.0.1:{port}").start(PLAN)
        server.kill()


@pytest.mark.parametrize("make", [lambda: Processes(0), lambda: RayCluster(0)])
def test_no_workers_are_refused(make: type[Workers]) -> None:
    with pytest.raises(ValueError, match="workers is 0: give the number of"):
        make()
