"""The playground as an `alignloop.worlds.World`.

The gold judge is imported only when called for: nothing that trains may reach it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from alignloop.playground import BASE_MODEL
from alignloop.records import Demonstration, Prompt, Sample

if TYPE_CHECKING:
    from alignloop.config import Recipe
    from alignloop.judging.protocol import Judge
    from alignloop.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class GoldObserver:
    """The gold judge's view of validation answers."""

    name: str = "gold rubric"
    key: str = "gold"

    def __call__(self, samples: Sequence[Sample]) -> dict[str, float]:
        """The mean score as "gold", and the safety rates if there are prompts for them."""
        from alignloop.judging.protocol import Answer
        from alignloop.playground.gold import HARM, OVER_REFUSAL, GoldJudge

        answers = [Answer(text=s.response, finished=s.finish_reason == "eos") for s in samples]
        verdicts = GoldJudge().rate([sample.prompt for sample in samples], answers)
        metrics = {self.key: sum(v.reward for v in verdicts) / len(verdicts)}
        for key in (HARM, OVER_REFUSAL):
            if marks := [v.marks[key] for v in verdicts if key in v.marks]:
                metrics[key] = sum(marks) / len(marks)
        return metrics


@dataclass(frozen=True, kw_only=True)
class Playground:
    """A small bilingual world with its base model, annotators and gold judge."""

    base_model: Path = BASE_MODEL
    set_names: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {
            "wordings": ("New wordings of known requests", "新的问法"),
            "intents": ("Requests never seen in training", "全新的请求"),
        }
    )

    def demonstrations(self, seed: int) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
        """Hurried answers for training, and some for the held-out perplexity."""
        from alignloop.playground.demonstrations import demonstrations

        return demonstrations(seed), demonstrations(seed, held_out=True)

    def comparisons(self, recipe: "Recipe", model: Path, folder: "RunFolder") -> Path:
        """Comparisons of the model's answers by simulated annotators, collected once."""
        from alignloop.playground.stage import collect_comparisons

        return collect_comparisons(recipe, model, folder)

    def prompts(self) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
        """Training prompts, and validation prompts, which include intents unseen in training."""
        from alignloop.playground.prompts import VALIDATION_INTENTS, prompt_sets

        sets = prompt_sets()
        return sets["rl"], (*sets["validation"], *sets[VALIDATION_INTENTS])

    def evaluation_sets(self) -> Mapping[str, Sequence[Prompt]]:
        """New wordings of known intents, and new intents."""
        from alignloop.playground.prompts import HELD_OUT_SETS, prompt_sets

        return {name: prompt_sets()[name] for name in HELD_OUT_SETS}

    def judge(self) -> "Judge":
        """The gold rubric."""
        from alignloop.playground.gold import GoldJudge

        return GoldJudge()

    def observer(self) -> GoldObserver:
        """The gold rubric on validation answers."""
        return GoldObserver()


PLAYGROUND = Playground()
