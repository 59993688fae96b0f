"""``rl-lr siblings few-shot``: the comparison from images to page."""

from pathlib import Path

from rl_lr.few_shot.config import FewShotConfig, small

_DEFAULT = FewShotConfig()


def few_shot_command(
    out: Path = Path("few-shot-out"),
    data: Path | None = None,
    settings: FewShotConfig = _DEFAULT,
    quick: bool = False,
    page: Path | None = None,
    results: Path | None = None,
) -> None:
    """Learn a start and gates for few-shot learning (Ravi & Larochelle, 2017), and compare with what learns less.

    Args:
        out: Folder for trained arms, curves, results.json and episode.png; what is there already is not trained again.
        data: Folder that holds a folder of images for each class, such as Omniglot or mini-ImageNet unpacked; left
            out, glyphs are drawn.
        settings: Ways, shots, sizes, iterations, seed.
        quick: Instead, sizes at which all of it takes seconds, to see that it works; the figures mean nothing.
        page: Page in Markdown whose marked part is written anew, and made if missing.
        results: Where results.json and episode.png go instead, as few-shot.json and few-shot.png.
    """
    from rich.console import Console

    from rl_lr.few_shot.comparison import compare

    if quick and settings != _DEFAULT:
        raise ValueError("--quick sets all sizes itself: leave it out to give settings.")
    compare(out, data, small() if quick else settings, page, results, Console())
