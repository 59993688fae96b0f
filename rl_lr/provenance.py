"""Where a result comes from."""

import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

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


def processor() -> str:
    """The processor's name, and the vector instructions that torch's kernels use on it: another kind rounds differently."""
    listed = Path("/proc/cpuinfo")  # Linux has the name there, which Python does not look up
    named = re.search(r"model name\s*: (.+)", listed.read_text()) if listed.is_file() else None
    name = named.group(1) if named else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def origin() -> dict[str, Any]:
    """What makes a training again: its command, commit, versions and processor."""
    return {"command": command(), "commit": commit(), "versions": versions(), "processor": processor()}


def machine() -> str:
    """Kind of processor and operating system, and the version of Python."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
