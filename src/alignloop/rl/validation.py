"""Validation: the policy's answers to fixed prompts, and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from alignloop.data.tokenise import decode
from alignloop.records import Prompt, Sample
from alignloop.rl.experience import Scorer, WithBoth
from alignloop.rl.rewards import Rewards
from alignloop.rollout import Sampler
from alignloop.rollout.batch import RolloutBatch
from alignloop.run import row_seeds
from alignloop.shapes import PerToken, TokenMask
from alignloop.stats.overoptimisation import USUAL

# Gets the samples of each evaluation; may add metrics, which are shown but decide nothing.
Observer = Callable[[Sequence[Sample]], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Answer the same prompts with the same random numbers at every evaluation.

    `scorer` has the reward model that RL optimises, `held_out` is one that RL never sees; if there
    is none, the first serves for both.
    """

    prompts: Sequence[Prompt]
    token_ids: Sequence[list[int]]
    sampler: Sampler
    tokenizer: Any
    scorer: Scorer
    held_out: Rewards | None
    observer: Observer | None
    seed: int
    num_printed: int
    learnt: bool  # whether a reward model's score chooses the checkpoint

    def evaluate(
        self, step: int, usual: float | None = None
    ) -> tuple[dict[str, float], list[Sample]]:
        """Metrics named validation_*, and the first few samples; a KL only with a reference.

        surprise = -log p_reference(answer) / tokens, in nats per token. `validation_surprise_95` is
        its 95 % quantile; `validation_outside` is the share of answers beyond `usual`, that
        quantile at step 0. At step 0 `missing_eos_penalty` is included if the setting's value
        would reward being cut off.
        """
        encoded = [(p.prompt_id, ids) for p, ids in zip(self.prompts, self.token_ids, strict=True)]
        rollouts = self.sampler.generate(encoded, row_seeds(len(encoded), self.seed, "validation"))
        scored = self.scorer.score(rollouts)
        held_out, ending = scored.raw_scores, self.scorer.rewarder  # chosen without the penalty
        # the initial policy's scores decide whether the penalty of the settings would pay
        if step == 0:
            ending = ending.checked(scored.raw_scores, scored.finished)
            scored = replace(scored, scores=ending.ended(scored.raw_scores, scored.finished))
        if self.held_out is not None:
            pad_id, budget = self.scorer.pad_id, self.scorer.micro_batch_tokens
            answers = RolloutBatch.of(rollouts, pad_id, budget)
            held_out = self.held_out.scores(answers)
        mask = scored.response_mask
        samples = [
            Sample(
                prompt=prompt,
                response=decode(self.tokenizer, rollout.response_ids),
                finish_reason=rollout.finish_reason,
                num_tokens=len(rollout.response_ids),
                stage="rl",
                step=step,
                score=float(score),
            )
            for prompt, rollout, score in zip(self.prompts, rollouts, scored.scores, strict=True)
        ]
        metrics = {
            "validation_score": float(scored.scores.mean()),
            "validation_held_out_score": float(held_out.mean()),
            "validation_held_out_std": float(held_out.std(unbiased=False)),
            "validation_length": float(mask.sum(dim=1).float().mean()),
            "validation_eos_rate": float(scored.finished.float().mean()),
        }
        if isinstance(scored, WithBoth):
            kl = torch.where(mask, scored.old_logprobs - scored.ref_logprobs, 0.0).sum(dim=1)
            metrics["validation_kl"] = float(kl.mean())
            metrics |= _surprise(scored.ref_logprobs, mask, usual)
        if self.observer is not None:
            metrics |= {f"validation_{k}": v for k, v in self.observer(samples).items()}
        if ending.penalty != self.scorer.rewarder.penalty:
            metrics["missing_eos_penalty"] = ending.penalty
        return metrics, samples[: self.num_printed]


def _surprise(ref_logprobs: PerToken, mask: TokenMask, usual: float | None) -> dict[str, float]:
    per_token = -torch.where(mask, ref_logprobs, 0.0).sum(dim=1) / mask.sum(dim=1)
    limit = float(per_token.quantile(USUAL))
    outside = (per_token > (limit if usual is None else usual)).float().mean()
    return {"validation_surprise_95": limit, "validation_outside": float(outside)}
