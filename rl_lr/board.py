"""``rl-lr board``: TensorBoard on the logs in a folder, opened where their charts are."""

import io
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from pathlib import Path

from rich.console import Console

_LAYOUT = b"custom_scalars__config__"  # the tag of a layout of custom scalars
_BEGINNING = 2**20  # bytes of an event file in which it is looked for: layouts are written first


def serve(folder: Path, port: int, console: Console) -> None:
    """Show the logs in a folder until Ctrl-C, and print the address first.

    Args:
        folder: of one run or of several, or one that ``rl-lr train``, ``compare`` or ``demo`` wrote.
        port: 0 for any free one.
        console: where the address is printed.

    Raises:
        ValueError: if there are no logs, or the port cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"port is {port}: give a number from 1 to 65535, or 0 for any free port.")
    logs = find_logs(folder)
    address = _launch(logs, port)
    if _has_layout(logs):
        address += "#custom_scalars&_smoothingWeight=0"  # smoothing would hide the single decisions
    console.print(f"TensorBoard: {address} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def find_logs(folder: Path) -> Path:
    """``tensorboard/`` in the folder if event files are there, else the folder itself.

    Raises:
        ValueError: if it does not exist, or has no event files anywhere below it.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ValueError(
            f"{folder} {what}: give the folder of a Lightning logger, or --out of an rl-lr command."
        )
    for logs in (folder / "tensorboard", folder):
        if any(_event_files(logs)):
            return logs
    raise ValueError(
        f"{folder} holds no TensorBoard event files: give the folder of a TensorBoardLogger, or --out of rl-lr train, "
        f"compare or demo, once its first figures are written."
    )


def _event_files(folder: Path) -> Iterator[Path]:
    return folder.rglob("*tfevents*")


def _has_layout(logs: Path) -> bool:
    """Whether there is a page of custom scalars to open."""
    for path in _event_files(logs):
        with path.open("rb") as file:
            if _LAYOUT in file.read(_BEGINNING):
                return True
    return False


def _launch(logs: Path, port: int) -> str:
    """Start the server beside this thread; its address."""
    from tensorboard.program import TensorBoard, TensorBoardServerException

    server = TensorBoard()
    server.configure(logdir=str(logs), port=port, reload_interval=5.0)
    try:
        with redirect_stderr(io.StringIO()):  # advice for users of the tensorboard command
            return str(server.launch())
    except TensorBoardServerException as error:
        raise ValueError(
            f"{error.msg}: end what uses that port, or give another one with --port; 0 is any free one."
        ) from error
