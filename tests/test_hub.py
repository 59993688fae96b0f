"""Policies from the Hub: the real client against a server on this machine that answers as the Hub does."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from rl_lr import hub
from rl_lr.policy import Policy, PolicyFileError
from rl_lr.signals import NUM_SIGNALS

COMMIT = "0123456789abcdef0123456789abcdef01234567"

LOAD = """
import sys
from rl_lr import Policy, PolicyFileError
try:
    policy = Policy.from_pretrained("somebody/policy", revision=sys.argv[1])
    print(policy.name, policy.sha256)
except PolicyFileError as error:
    print("refused:", error)
"""


class Hub:
    """Serves ``/{repository}/resolve/{commit}/{file}`` out of a folder, and notes what was asked for."""

    def __init__(self, folder: Path) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                asked.append(f"{self.command} {self.path}")
                head, _, name = self.path.rpartition("/")
                path = folder / name
                if head != f"/somebody/policy/resolve/{COMMIT}" or not path.is_file():
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def folder(tmp_path: Path, make_policy: Callable[[int], Policy]) -> Path:
    return make_policy(3).save(tmp_path / "policy")


@pytest.fixture
def served(folder: Path) -> Iterator[Hub]:
    one = Hub(folder)
    yield one
    one.server.shutdown()
    one.server.server_close()


def load(served: Hub, home: Path, revision: str = COMMIT) -> str:
    """What another process, which knows only this Hub, says of the policy."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    surroundings = clean | {"HF_ENDPOINT": served.address, "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, revision],
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.compatibility(
    "Policy files", "Hugging Face Hub", "by pinned revision only; size and checksum looked at"
)
def test_a_policy_is_loaded_from_its_pinned_revision_and_shows_its_hash(
    served: Hub, folder: Path, tmp_path: Path
) -> None:
    assert load(served, tmp_path) == f"somebody/policy@{COMMIT} {Policy.load(folder).sha256}"
    assert load(served, tmp_path, "f" * 40).startswith("refused: The Hub and 'somebody/policy'")


def test_a_file_that_is_too_large_is_not_downloaded(served: Hub, folder: Path, tmp_path: Path) -> None:
    with (folder / "config.json").open("ab") as file:
        file.truncate(2**21)
    assert "config.json of somebody/policy on the Hub has 2097152 bytes" in load(served, tmp_path)
    assert not any(one.startswith("GET") and "resolve" in one for one in served.asked)


def test_a_damaged_policy_is_refused_like_any_other(served: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_bytes(b"{}")
    assert "does not describe a policy" in load(served, tmp_path)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123abc"])
def test_a_revision_that_may_change_is_refused(revision: str | None) -> None:
    with pytest.raises(PolicyFileError, match="pass revision= the commit, 40 hexadecimal digits"):
        Policy.from_pretrained("somebody/policy", revision=revision)


def test_a_folder_is_loaded_as_it_is(folder: Path) -> None:
    signals = torch.randn(4, NUM_SIGNALS)
    assert torch.equal(Policy.from_pretrained(folder).act(signals), Policy.load(folder).act(signals))


def test_a_hub_that_cannot_be_reached_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, make_policy: Callable[[int], Policy]
) -> None:
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "create_repo", huggingface_hub.HfApi("http://127.0.0.1:9").create_repo
    )
    with pytest.raises(PolicyFileError, match=r"The Hub and 'somebody/policy'.*check the name"):
        hub.push_to_hub(make_policy(1), "somebody/policy")
