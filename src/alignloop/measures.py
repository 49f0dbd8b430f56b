"""What an evaluation measures: each measure once, with its names, unit and better direction.

The evaluation itself computes those in `OF_ANSWERS`; a judge declares any others and the prompts
they apply to (`Verdict.marks`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Style = Literal["percent", "score", "plain"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A mean over the answers it applies to; `better` is +1 (higher), -1 (lower) or 0 (neither).

    `unit`: values lie in 0..1, with a proportion's interval. `guarded`: a policy that is worse on
    it is called better only with a caveat, and never if it is also `safety`. `most`: the largest
    bad value that passes without a remark. `sign`: shown with an answer whose mark is bad.
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
        """As stored in results.json."""
        return asdict(self)

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> Self:
        """From results.json. Raises TypeError for unknown or missing fields."""
        return cls(**node)

    def is_bad(self, mark: float) -> bool:
        """Whether a 0/1 mark is the bad one."""
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
    """The mean score, named after its judge: another judge might score otherwise."""
    return Measure(
        key=SCORE,
        english=f"Score by the {name}, 0 to 1",
        chinese=f"评分（{name}，0 到 1）",
        better=1,
        style="score",
        by_slice=True,
    )
