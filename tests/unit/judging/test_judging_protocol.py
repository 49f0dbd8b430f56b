"""One protocol for all judges: batches, comparisons, names."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.judging.judges import FunctionJudge
from alignloop.judging.protocol import Answer, Rater, in_both_orders, preference
from alignloop.judging.registry import KINDS, Making, kind_of, make_judge
from alignloop.judging.reward_models import RewardModel
from alignloop.records import Preference, Prompt, Verdict
from alignloop.worlds import refuse_gold, world_of

CONFIG = ModelConfig(path="unused")


class ByLength(Rater):
    """The longer the better; each answer costs its length."""

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        return [Verdict(reward=len(a.text), cost=len(a.text)) for a in answers]


def test_comparisons_follow_from_verdicts(prompts: list[Prompt]) -> None:
    """3 > 1, 2 = 2, 1 < 4; both answers are paid for."""
    first = [Answer(text=text) for text in ("aaa", "bb", "c")]
    second = [Answer(text=text) for text in ("d", "ee", "ffff")]
    found = ByLength().compare(prompts[:3], first, second)
    assert [(one.first, one.cost) for one in found] == [(1.0, 4.0), (0.5, 4.0), (0.0, 5.0)]


def test_scores_decide_where_both_have_one() -> None:
    """The reward is in another unit, and an empty answer scores 0 whatever its reward."""
    good, empty = Verdict(reward=-5.0, score=0.4), Verdict(reward=9.0, score=0.0)
    assert preference(good, empty).first == 1.0
    assert preference(good, Verdict(reward=9.0)).first == 0.0


def test_both_orders_take_away_the_taste_for_the_first(prompts: list[Prompt]) -> None:
    """0.9 for the better one shown first, 0.3 shown second: (0.9 + 1 - 0.3) / 2 = 0.8."""

    class Partial(ByLength):
        def compare(
            self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
        ) -> list[Preference]:
            return [Preference(first=0.9 if a.text == "good" else 0.3, cost=1.0) for a in first]

    sides = [[Answer(text=text)] for text in ("good", "bad")]
    judge: object = Partial()
    (found,) = in_both_orders(judge, prompts[:1], *sides)  # type: ignore[arg-type]
    assert (found.first, found.cost) == (pytest.approx(0.8), 2.0)


def test_a_batch_is_judged_as_its_answers_one_by_one(
    reward_dirs: dict[str, Path], prompts: list[Prompt]
) -> None:
    """And an empty answer scores nothing, whatever the model says of it."""
    answers = [Answer(text=t) for t in ("very good tea", "no", "the rain is cold very", "")]
    judge = make_judge(str(reward_dirs["llama"]), Making(model_config=CONFIG))
    together = judge.rate(prompts[:4], answers)
    alone = [judge.rate([p], [a])[0] for p, a in zip(prompts[:4], answers, strict=True)]
    assert [v.reward for v in together] == pytest.approx([v.reward for v in alone], abs=1e-5)
    assert together[3].score == 0.0 and together[3].reasons == ("it is empty",)
    assert all(0 < (v.score or 0) < 1 for v in together[:3])
    assert len({round(v.reward, 3) for v in together}) == 4


def test_names_say_what_kind_of_judge_is_meant(
    reward_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_judge.py").write_text("def far(p, r): return [3.0 for _ in r]\n")
    monkeypatch.syspath_prepend(tmp_path)
    making = Making(model_config=CONFIG, own={"held_out_reward_model": reward_dirs["gpt2"]})
    own = make_judge("held_out_reward_model", making)
    assert isinstance(own, RewardModel) and own.facts.name == "held-out reward model"
    assert own.facts.source == str(reward_dirs["gpt2"])
    other = make_judge(str(reward_dirs["llama"]), making)
    assert other.facts.name == f"reward model {reward_dirs['llama']}"
    function = make_judge("named_judge:far", making)
    assert isinstance(function, FunctionJudge) and function.facts.kind == "function"
    assert [kind.learnt for kind in map(kind_of, ("models/x", "named_judge:far"))] == [True, False]
    assert KINDS[-1].fits("anything")  # a name without another meaning is a directory


def test_a_function_beyond_0_and_1_has_a_reward_and_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[Prompt]
) -> None:
    (tmp_path / "beyond_judge.py").write_text("def by(p, r): return [len(t) / 4 for t in r]\n")
    monkeypatch.syspath_prepend(tmp_path)
    judge = make_judge("beyond_judge:by", Making(model_config=CONFIG))
    said = judge.rate(prompts[:2], [Answer(text="ab", finished=False), Answer(text="abcdefgh")])
    assert [(v.reward, v.score) for v in said] == [(0.5, 0.5), (2.0, None)]
    assert said[0].reasons == ("it was cut off",)


OWN_WORLD = """\
class Made:
    base_model = "nowhere"

WORLD = Made()
"""


def test_a_world_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_world.py").write_text(OWN_WORLD)
    monkeypatch.syspath_prepend(tmp_path)
    own = world_of("world:my_own_world:WORLD")
    assert own is not None and own.base_model == "nowhere"
    assert world_of("playground") is world_of("playground") is not None
    for source in ("data.jsonl", "models/x", "", None, "mine:length"):
        assert world_of(source) is None
    with pytest.raises(UserError, match="no such world"):
        world_of("world:not_there_at_all:WORLD")


@pytest.mark.parametrize("names", [["playground"], ["reward_model", "playground"]])
def test_training_is_refused_the_gold_judge(names: list[str]) -> None:
    with pytest.raises(UserError, match="must not use a world's gold judge"):
        refuse_gold(names)
    refuse_gold(["reward_model", "mine:length"])
