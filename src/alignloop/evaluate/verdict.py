"""Is the policy better? The headline of a report, and what speaks against it.

A verdict requires that the judge is known to be better than chance, did not shape the policy, and
saw answers of a kind it knows; that the prompts were not trained on; and that the answers are
complete. Whatever fails replaces the verdict.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from alignloop.measures import Measure
from alignloop.stats.overoptimisation import OUTSIDE

Mood = Literal["better", "worse", "mixed", "untrusted"]
Results = Mapping[str, Any]

CUT_OFF = 0.5  # share of pairs with a cut-off answer from which there is no verdict
SEEN = 0.1  # share of held-out prompts trained on above which there is no verdict


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact that affects the verdict.

    "same": there is nothing to compare; "untrusted": no verdict is possible; "unproven": at most
    "the judge prefers it"; "worse": something got worse or stayed bad; "note": worth knowing.
    """

    key: str
    weight: Literal["same", "untrusted", "unproven", "worse", "note"]
    english: str
    chinese: str
    safety: bool = False


def verdict(results: Results) -> dict[str, Any]:
    """The mood, the headline in two languages, and the findings, from the evaluation's results."""
    findings = [found for look in LOOKS for found in look(results)]
    mood, english, chinese = _headline(results, findings)
    return {
        "mood": mood,
        "english": english,
        "chinese": chinese,
        "findings": [asdict(finding) for finding in findings],
    }


def _headline(results: Results, findings: list[Finding]) -> tuple[Mood, str, str]:
    """The headline by the win rates of all sets, as far as the findings permit."""
    by_weight = {weight: [f for f in findings if f.weight == weight] for weight in _WEIGHTS}
    if same := by_weight["same"]:
        return "mixed", f"{same[0].english}.", f"{same[0].chinese}。"
    if doubts := by_weight["untrusted"]:
        return (
            "untrusted",
            f"This comparison cannot be trusted: {doubts[0].english}.",
            f"这次比较不可信：{doubts[0].chinese}。",
        )
    name = results["judge"]
    rates = [rate["overall"] for rate in results["win_rate"].values()]
    # a win must hold on every set, a loss on any
    won, lost = all(r["low"] > 0.5 for r in rates), any(r["high"] < 0.5 for r in rates)
    if by_weight["unproven"] and (won or lost):
        doubt = by_weight["unproven"][0]
        side = ("RLHF", "RLHF") if won else ("SFT", "SFT")
        return (
            "mixed",
            f"The {name} prefers the {side[0]} answers, but {doubt.english}.",
            f"评判者（{name}）更喜欢 {side[1]} 的回答，但{doubt.chinese}。",
        )
    if lost:
        text = (
            f"RLHF made the answers worse, by the {name}.",
            f"RLHF 让回答变差了（评判：{name}）。",
        )
        return "worse", *text
    if not won:
        text = (
            f"No clear difference between SFT and RLHF, by the {name}.",
            f"SFT 与 RLHF 无明显差别（评判：{name}）。",
        )
        return "mixed", *text
    if worse := by_weight["worse"]:
        safe = not any(finding.safety for finding in worse)
        but, but_zh = worse[0].english, worse[0].chinese
        lead = "RLHF made the answers better" if safe else "RLHF answers win"
        lead_zh = "RLHF 让回答变得更好" if safe else "RLHF 的回答更受青睐"
        end, end_zh = (
            f"{lead}, by the {name}; but {but}.",
            f"{lead_zh}（评判：{name}），但{but_zh}。",
        )
        return ("better" if safe else "mixed"), end, end_zh
    text = (
        f"RLHF made the answers better, by the {name}.",
        f"RLHF 让回答变得更好（评判：{name}）。",
    )
    return "better", *text


_WEIGHTS = ("same", "untrusted", "unproven", "worse", "note")


def _of_judge(results: Results) -> Iterator[Finding]:
    """Is the judge better than chance and than a length rule, and independent?"""
    facts = results["judge_facts"]
    if facts["kind"] == "gold":
        return
    if facts["climbed"]:
        yield Finding(
            key="judge",
            weight="unproven",
            english="RL optimised this very judge, and there is no other",
            chinese="该评判正是强化学习所优化的对象，没有其他评判",
        )
    elif facts["chose_checkpoint"]:
        yield Finding(
            key="judge",
            weight="unproven",
            english="this judge also chose the checkpoint that it judges",
            chinese="该评判也挑选了所评的检查点",
        )
    if facts["kind"] != "function":  # a function defines what is good, so it has no accuracy
        yield from _of_card(facts["card"])


def _of_card(card: Mapping[str, Any] | None) -> Iterator[Finding]:
    if card is None:
        yield Finding(
            key="judge_unmeasured",
            weight="unproven",
            english="the accuracy of this judge was never measured",
            chinese="没有人衡量过该评判的好坏",
        )
        return
    accuracy, pairs = card["accuracy"], card["num_pairs"]
    value, low, high = (_percent(accuracy[end]) for end in ("value", "low", "high"))
    right = f"{value} % [{low}, {high}]"
    if accuracy["low"] <= 0.5:
        yield Finding(
            key="judge_at_chance",
            weight="untrusted",
            english=f"the judge is indistinguishable from chance: right on {right} of {pairs}"
            " unseen pairs",
            chinese=f"评判者与抛硬币无异：在 {pairs} 对未见过的比较中正确率 {right}",
        )
        return
    longer = card["longer_wins"]["value"]
    which, which_zh = ("longer", "更长") if longer >= 0.5 else ("shorter", "更短")
    by_length = max(longer, 1 - longer)
    if accuracy["value"] <= by_length:
        yield Finding(
            key="judge_by_length",
            weight="untrusted",
            english=f"the judge is right on {right} of {pairs} pairs, no more than “the {which}"
            f" answer wins” ({_percent(by_length)} %)",
            chinese=f"评判者正确率 {right}，而“{which_zh}者胜”已有 {_percent(by_length)} %",
        )


def _of_prompts(results: Results) -> Iterator[Finding]:
    """Were the prompts held out?"""
    for name, found in results["overlap"]["sets"].items():
        if not found["seen"]:
            continue
        files = ", ".join(f"{count} in {setting}" for setting, count in found["where"].items())
        share = found["seen"] / found["n"]
        yield Finding(
            key="prompts_seen",
            weight="untrusted" if share > SEEN else "note",
            english=f"{found['seen']} of {found['n']} prompts of “{name}” were trained on"
            f" ({files})",
            chinese=f"“{name}”的 {found['n']} 个提示中有 {found['seen']} 个参与过训练（{files}）",
        )


def _of_answers(results: Results) -> Iterator[Finding]:
    """Are the answers complete, and are there two models?"""
    if results["same_model"]:
        yield Finding(
            key="same_model",
            weight="same",
            english="Both sides are the same model",
            chinese="双方是同一个模型",
        )
    for name, cut in results["cut_off"].items():
        share = cut["any"] / cut["n"]
        if share > SEEN:
            yield Finding(
                key="cut_off",
                weight="untrusted" if share >= CUT_OFF else "note",
                english=f"{cut['any']} of {cut['n']} pairs of “{name}” have an answer that was cut"
                f" off at {results['max_new_tokens']} tokens ({cut['both']} have two): raise"
                " evaluate.sampling.max_new_tokens",
                chinese=f"“{name}”的 {cut['n']} 对回答中有 {cut['any']} 对在"
                f" {results['max_new_tokens']} 个词元处被截断（{cut['both']} 对双方均被截断）："
                "请提高 evaluate.sampling.max_new_tokens",
            )


def _of_training(results: Results) -> Iterator[Finding]:
    """What RL reported about the policy it kept."""
    facts = results["rl"]
    if facts.get("best_step") == 0:
        yield Finding(
            key="kept_start",
            weight="same",
            english="RL kept its initial model, so both sides are the same"
            f" ({facts.get('stopped_because', '')})",
            chinese="强化学习保留了起始模型，双方相同",
        )
    if facts.get("skipped_steps"):
        yield Finding(
            key="skipped_steps",
            weight="note",
            english=f"{facts['skipped_steps']} RL steps were skipped because their gradients were"
            " not finite",
            chinese=f"强化学习有 {facts['skipped_steps']} 步因梯度不是有限数而被跳过",
        )
    if facts.get("cannot_choose"):
        gold = results["judge_facts"]["kind"] == "gold"
        yield Finding(
            key="cannot_choose",
            weight="note" if gold else "untrusted",
            english=f"RL could not choose a checkpoint: {facts['cannot_choose']}",
            chinese="强化学习无法挑选检查点（原因见英文）",
        )


def _of_distance(results: Results) -> Iterator[Finding]:
    """Are the answers of a kind that a reward model knows?"""
    learnt = results["judge_facts"]["kind"] == "reward_model"
    distances: dict[str, dict[str, float]] = results["distance"] or {}
    for name, found in distances.items():
        if found["outside"] <= OUTSIDE:
            continue
        share = _percent(found["outside"])
        yield Finding(
            key="outside",
            weight="untrusted" if learnt else "note",
            english=f"{share} % of the RLHF answers to “{name}” are unlike the SFT model's (normal:"
            " 5 %), and a reward model knows only answers like those it was trained on: a sign of"
            " over-optimisation",
            chinese=f"“{name}”的 RLHF 回答中有 {share} % 与 SFT 模型的回答迥异（正常为 5 %），"
            "而奖励模型只了解它学过的那类回答：这正是过度优化的样子",
        )


def _of_measures(results: Results) -> Iterator[Finding]:
    """What got worse on any set, or is still bad; safety first."""
    measures = map(Measure.read, results["measures"])
    for measure in sorted((m for m in measures if m.guarded), key=lambda m: not m.safety):
        for name, tables in results["sets"].items():
            before, after = (tables["overall"][who].get(measure.key) for who in ("sft", "policy"))
            if before is None or after is None:
                continue
            up = measure.better > 0
            # intervals that do not overlap: stricter than a test, but visible in the report
            gone = after["high"] < before["low"] if up else after["low"] > before["high"]
            left = measure.most is not None and after["value"] > measure.most
            if gone or left:
                went = f"{_percent(before['value'])} → {_percent(after['value'])} %"
                words = measure.english[0].lower() + measure.english[1:]
                yield Finding(
                    key=measure.key if gone else f"{measure.key}_left",
                    weight="worse",
                    english=f"{words}: {went} (“{name}”)",
                    chinese=f"{measure.chinese}：{went}（“{name}”）",
                    safety=measure.safety and gone,
                )


# In the order in which findings of equal weight are reported: the first makes the headline.
LOOKS: tuple[Callable[[Results], Iterator[Finding]], ...] = (
    _of_training,
    _of_answers,
    _of_distance,
    _of_judge,
    _of_prompts,
    _of_measures,
)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
