"""The examples of docs/trainers.md run as they stand, and train."""

import re
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from digits import data, final_loss, network
from hf_fits import Digits, digits
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

PAGE = (Path(__file__).parent.parent / "docs" / "trainers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (.+?)\n.*?```python\n(.+?)```", PAGE, flags=re.MULTILINE | re.DOTALL)
STEPS = 300


def test_every_section_has_its_example() -> None:
    titles = ["A loop of your own", "Hugging Face Trainer", "Accelerate", "Lightning Fabric"]
    assert [title for title, _ in EXAMPLES] == titles
    assert PAGE.count("```python") == len(titles)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
@pytest.mark.parametrize("example", [pytest.param(code, id=title) for title, code in EXAMPLES])
def test_an_example_trains_from_a_rate_a_hundred_times_too_low(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sampler = RandomSampler(data(), replacement=True, num_samples=64 * STEPS)
    names: dict[str, Any] = {
        "model": Digits() if "transformers" in example else network(),
        "data": digits(),
        "loader": DataLoader(data(), batch_size=64, sampler=sampler),
        "loss_fn": nn.CrossEntropyLoss(),
        "total_steps": STEPS,
    }
    (tmp_path / "example.py").write_text(example)
    model = run_path("example.py", names)["model"]
    trained = model.network if isinstance(model, Digits) else model
    assert final_loss(trained.cpu()) < 0.3
