"""Where a result comes from."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("rl-lr", "torch", "stable-baselines3")
"""Those whose versions change results."""


def command() -> str:
    """The command line that runs, without the folder of its program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> str:
    """The commit of the source checkout that runs, marked if it was changed; "" outside of one."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> dict[str, str]:
    """Of the packages that change results."""
    return {name: version(name) for name in PACKAGES}


def instructions() -> str:
    """The vector instructions that torch's kernels use here: others round differently."""
    return str(torch.backends.cpu.get_cpu_capability())


def machine() -> str:
    """Kind of processor and operating system, and the version of Python."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
