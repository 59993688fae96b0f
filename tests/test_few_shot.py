"""``rl-lr siblings few-shot``, as it is typed, at sizes that take seconds."""

import json
from pathlib import Path

import pytest
from PIL import Image

from rl_lr.board import find_logs
from rl_lr.cli import main
from rl_lr.few_shot.measure import Demand, Interval, Row
from rl_lr.few_shot.report import BEGIN, END, write_page

ARMS = (
    "nearest neighbour, pixels",
    "nearest neighbour, features",
    "fine-tuning",
    "meta-learner",
    "gates alone, start fixed",
    "learned start, one rate",
    "MAML",
    "prototypical network",
    "meta-learner, from scratch",
)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["rl-lr", "siblings", "few-shot", *words])
    main()


def test_the_command_trains_measures_and_writes_everything_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out, page, results = tmp_path / "out", tmp_path / "page.md", tmp_path / "results"
    words = ("--quick", "true", "--out", str(out), "--page", str(page), "--results", str(results))
    run(monkeypatch, *words)
    printed = capsys.readouterr().out
    assert f"rl-lr board {out}" in printed
    found = json.loads((results / "few-shot.json").read_text())
    assert [row["arm"] for row in found["rows"]] == list(ARMS)
    assert [one["rival"] for one in found["demands"]] == list(ARMS[:3])
    text = page.read_text()
    for row in found["rows"]:
        mean, half = (f"{100 * row['glyphs'][name]:.1f}" for name in ("mean", "half"))
        assert f"| {row['arm']} | 1 | {mean} ± {half} |" in text
        assert row["arm"] in printed
    gates = found["notes"]["meta-learner, 1-shot"]
    assert len(gates["input gate by step: mean, least, most"]) == 2
    with Image.open(results / "few-shot.png") as picture:
        assert picture.format == "PNG"
    assert find_logs(out) == out / "tensorboard"
    assert len(list((out / "tensorboard").iterdir())) == 7  # the features, and what is trained on episodes

    trained = {path: path.stat().st_mtime_ns for path in out.glob("*.pt")}
    assert len(trained) == 7
    run(monkeypatch, *words)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.pt")} == trained
    assert page.read_text() == text


def test_a_folder_of_coloured_images_takes_the_place_of_the_glyphs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for index in range(15):
        for image in range(4):
            path = tmp_path / "images" / f"class{index}" / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (16 * index, 255 - 16 * index, 20 * image)).save(path)
    sizes = "ways=2 shots=[1] queries=2 train_queries=2 size=8 channels=2 blocks=2 steps=1 hidden=2 batch=2 iterations=2"
    more = "feature_iterations=2 validate_every=2 validation_episodes=2 test_episodes=4"
    settings = [f"--settings.{one}" for one in f"{sizes} {more}".split()]
    run(monkeypatch, "--data", str(tmp_path / "images"), "--out", str(tmp_path / "out"), *settings)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["images"] == "`images`"
    assert len(found["rows"]) == len(ARMS)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data", "{tmp}/nowhere"], "nowhere is not a folder"),
        (["--data", "{tmp}/empty"], "holds zero classes"),
        (["--data", "{tmp}/one"], "holds a single image"),
        (["--settings.test_classes=4"], "holds 4 classes, fewer than the 5 ways"),
        (["--settings.shots=[6]"], "has 20 images, fewer than the 21 that an episode needs"),
        (["--settings.batch=10000000"], "GB are free: lower batch"),
        (["--settings.size=17"], "it must be a multiple of 8"),
        (["--quick", "true", "--settings.size=8"], "leave it out to give settings"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "class").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "one" / "class" / "0.png")
    few = ["--settings.train_classes=5", "--settings.validation_classes=5"]
    if not any("test_classes" in word for word in words):
        few.append("--settings.test_classes=5")
    small = [] if "--quick" in words else few
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *(word.format(tmp=tmp_path) for word in words), *small, "--out", str(tmp_path / "x"))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert reason in error.replace("\n", " ")
    assert "Traceback" not in error
    assert not (tmp_path / "x").exists()


def test_only_the_marked_part_of_a_page_is_written(tmp_path: Path) -> None:
    page, row = tmp_path / "page.md", Row("an arm", 1, Interval(0.5, 0.1), None, Interval(0.0, 0.0))
    one = Demand("an arm", 1, Interval(0.7, 0.05), row.glyphs)
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(page, [row], [one], "glyphs")
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| an arm | 1 | 50.0 ± 10.0 | – | +0.0 ± 0.0 |" in text
    assert "| an arm | 1 | from 65.0 % | up to 60.0 % | yes |" in text
    assert "old" not in text
    page.write_text("a page of something else")
    with pytest.raises(ValueError, match=r"page\.md has no part for the results: put the lines"):
        write_page(page, [row], [one], "glyphs")
