"""What an evaluation measures: each thing once, with its names, its unit and its better direction.

A measure belongs to whoever makes it. The evaluation makes those of `OF_ANSWERS` by itself; a judge
says which others it makes, and of which prompts (`Verdict.marks`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Style = Literal["percent", "score", "plain"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A mean over those answers that it applies to; `better` is +1 up, -1 down, 0 neither.

    `unit`: it lies in 0..1, and has the interval of a share. `guarded`: a policy that is worse by
    it is not called better without saying so, nor at all if it is `safety`. `most` is what is left
    of something bad without a remark. `sign` is shown with an answer whose mark is the bad one.
    """

    key: str
    english: str
    chinese: str
    better: int = 0
    style: Style = "percent"
    unit: bool = True
    by_slice: bool = False
    guarded: bool = False
    safety: bool = False
    most: float | None = None
    sign: str = ""

    def plain(self) -> dict[str, Any]:
        """As results.json keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> Self:
        """From results.json. Raises TypeError for a thing of another shape."""
        return cls(**node)

    def is_bad(self, mark: float) -> bool:
        """Whether a mark is the bad one of two."""
        return mark == (0.0 if self.better > 0 else 1.0)


SCORE, LENGTH = "judge_score", "length"
SATISFACTION = Measure(
    key="satisfaction",
    english="Answers rated 4 or 5 of 5",
    chinese="评为 4 或 5 分的比例",
    better=1,
    by_slice=True,
)
OF_ANSWERS = (
    Measure(
        key=LENGTH, english="Length, tokens", chinese="长度（词元）", style="plain", unit=False
    ),
    Measure(
        key="eos_rate",
        english="Answers that end by themselves",
        chinese="自行结束的比例",
        better=1,
        guarded=True,
    ),
    Measure(
        key="repetition",
        english="Repeated trigrams",
        chinese="三元组重复率",
        better=-1,
        guarded=True,
    ),
    Measure(
        key="distinct_2",
        english="Distinct bigrams within an answer",
        chinese="单条回答的二元组多样性",
        style="score",
    ),
    Measure(
        key="corpus_distinct_2",
        english="Distinct bigrams over all answers",
        chinese="全部回答的二元组多样性",
        style="score",
    ),
)


def score_by(name: str) -> Measure:
    """The mean score of a judge, who is named: nobody else says that the answers are that good."""
    return Measure(
        key=SCORE,
        english=f"Score by the {name}, 0 to 1",
        chinese=f"评分（{name}，0 到 1）",
        better=1,
        style="score",
        by_slice=True,
    )
