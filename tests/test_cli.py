"""The command line, as it is typed."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rl_lr.board import find_logs
from rl_lr.cli import main
from rl_lr.policy import Policy

TINY = [
    "--settings.members=1",
    "--settings.iterations=1",
    "--settings.groups=1",
    "--settings.group_size=4",
    "--settings.ppo.minibatch=112",
    "--settings.dqn.updates=10",
    "--settings.validate_every=0",
    "--settings.draw.min_steps=60",
    "--settings.draw.max_steps=60",
]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["rl-lr", *words])
    main()


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_train_writes_a_policy_and_prints_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], agent: str
) -> None:
    out = tmp_path / "mine"
    run(monkeypatch, "train", "--agent", agent, "--out", str(out), "--task", '["digits-linear"]', *TINY)
    policy = Policy.load(out)
    assert policy.provenance["tasks"] == ["digits-linear"]
    assert policy.provenance["runs"] == 4
    assert bool(policy.choices) == (agent == "dqn")
    assert f"rl-lr board {out}" in capsys.readouterr().out
    assert torch.get_num_threads() == 1


def test_train_begins_from_a_policy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured = [*TINY, "--settings.validate_every=1", "--settings.validation_groups=1"]
    run(
        monkeypatch,
        "train",
        "--from",
        "default",
        "--task",
        "digits-linear",
        "--out",
        str(tmp_path),
        *measured,
    )
    policy = Policy.load(tmp_path)
    assert policy.provenance["start"] == Policy.load("default").sha256
    assert policy.provenance["tasks"] == ["digits-linear"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "--out", "{tmp}/x", "--task", '["mnist"]', *TINY], "no task 'mnist'"),
        (["train", "--out", "{tmp}/file/x", *TINY], "Not a directory"),
        (["train", "--out", "{tmp}/x", "--from", "nowhere", *TINY], "no policy 'nowhere'"),
        (["train", "--out", "{tmp}/x", "--workers", "2", *TINY], "needs --engine processes or ray"),
        (["train", "--out", "{tmp}/x", "--engine", "processes", "--workers", "0", *TINY], "workers is 0"),
        (["train", "--out", "{tmp}/x", "--address", "a:1", *TINY], "give --engine ray too"),
        (
            ["train", "--out", "{tmp}/x", "--engine", "ray", "--address", "a.invalid:1", *TINY],
            "no Ray cluster",
        ),
        (["train", "--out", "{tmp}/x", *TINY, "--settings.group_size=1"], "at least two runs"),
        (["compare", "--out", "{tmp}/x", "--jobs", "0"], "jobs is 0"),
        (["compare", "--out", "{tmp}/x", "--policy", "none"], "There is no policy 'none'"),
        (["train", "--out", "{tmp}/file", *TINY], "file is a file: give a folder"),
        (["compare", "--out", "{tmp}/file"], "file is a file: give a folder"),
        (["demo", "--out", "{tmp}/x", "--steps", "0"], "steps is 0: give the optimizer steps"),
        (["board", "{tmp}/x"], "x does not exist: give the folder"),
        (["board", "{tmp}/[b] [/q]"], "[b] [/q] does not exist: give the folder"),
        (["board", "{tmp}/file"], "file is a file: give the folder"),
        (["board", "{tmp}"], "holds no TensorBoard event files: give the folder"),
        (["board", "{tmp}", "--port", "65536"], "port is 65536: give a number"),
        (["bench", "--repetitions", "1"], "a spread needs at least 2"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *(word.format(tmp=tmp_path) for word in words))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_board_finds_the_logs_of_a_logger_of_one_run_and_of_a_command(tmp_path: Path) -> None:
    logs = tmp_path / "out" / "tensorboard"
    with SummaryWriter(str(logs / "run")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    assert find_logs(tmp_path / "out") == logs
    assert find_logs(logs) == logs
    assert find_logs(logs / "run") == logs / "run"
    (tmp_path / "root" / "tensorboard").mkdir(parents=True)  # somebody's own folder of that name, empty
    (logs / "run").rename(tmp_path / "root" / "run")
    assert find_logs(tmp_path / "root") == tmp_path / "root"


def test_board_on_a_taken_port_ends_in_one_line_and_code_2(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", "from rl_lr.cli import main; main()"]
        done = subprocess.run(
            [*command, "board", str(tmp_path), "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert f"port {port}, it was already in use: end what uses that port, or give another one" in line
