"""What a process is told before it computes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rl_lr.process import compute_portably

KERNELS = """
import hashlib
import torch
from torch.nn.functional import conv2d, gelu, layer_norm
from rl_lr.process import compute_portably
compute_portably()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
left, right, images, filters = (
    torch.rand(shape, generator=generator) for shape in [(12, 33, 100), (12, 100, 31), (8, 3, 12, 12), (16, 3, 3, 3)]
)
x = 6.0 * left - 3.0
results = [left @ right, left[0] @ right[0], x.exp(), x.tanh(), left.log(), x.erf(), gelu(x), x.softmax(-1)]
results += [x.sum(1), layer_norm(x, (100,)), conv2d(images, filters, padding=1), torch.linalg.qr(left[0] @ left[0].T)[0]]
for result in results:
    print(hashlib.sha256(result.contiguous().numpy().tobytes()).hexdigest()[:8])
"""


def test_kernels_round_alike_on_all_processors() -> None:
    """Literals of one processor, to be met on any other; of the torch that ``constraints.txt`` has."""
    done = subprocess.run([sys.executable, "-c", KERNELS], capture_output=True, text=True, check=True)
    expected = "0c91e882 d8c94eb5 7c3f0762 fa9dc2ef 029e550e f84f3d49 f92d195b 020d4875 ccc15ba5 897f88a8 5ee66a87 6243c9a7"
    assert done.stdout.split() == expected.split()


def test_a_portable_training_makes_the_same_policy_on_all_processors(tmp_path: Path) -> None:
    settings = {"portable": "true", "members": 1, "iterations": 1, "groups": 6, "group_size": 4}
    settings |= {"validate_every": 0, "draw.min_steps": 60, "draw.max_steps": 60, "ppo.minibatch": 448}
    words = [f"--settings.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-c", "from rl_lr.cli import main; main()", "train", "--out", str(tmp_path)]
    subprocess.run([*command, "--engine", "processes", "--workers", "2", *words], check=True)
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest()[:8] == "e7b0150f"
    assert "meant to round alike on any x86-64 processor with AVX2" in (tmp_path / "README.md").read_text()


def test_what_has_computed_already_is_not_made_portable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.ones(3, 3) @ torch.ones(3, 3)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    before = dict(os.environ)
    with pytest.raises(ValueError, match=r"has computed already.* MKL_CBWR=COMPATIBLE in its environment"):
        compute_portably()
    assert dict(os.environ) == before  # or processes started later would compute otherwise than this one
