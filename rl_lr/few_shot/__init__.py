"""Few-shot learning with a learned start and learned gates (Ravi & Larochelle, 2017), and its rivals."""

from rl_lr.few_shot.config import FewShotConfig

__all__ = ["FewShotConfig"]
