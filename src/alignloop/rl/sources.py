"""From settings to a rewarder: which models are loaded, which functions are imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignloop.config import ModelConfig, RlConfig
from alignloop.config.stages import STAGE_REWARD, RewardPart, names_function
from alignloop.models import load_tokenizer, read_reward_scale
from alignloop.models.kinds import is_ours
from alignloop.models.starting import reward_model_beside
from alignloop.records import Prompt
from alignloop.rl.rewards import (
    EndRewarder,
    ModelRewarder,
    Rewarder,
    TextRewarder,
    WeightedRewarder,
)
from alignloop.scoring import RewardModel, load_function


@dataclass(frozen=True, kw_only=True)
class RewardSources:
    """Makes rewarders; `tokenizer` is the policy's, `prompts` are those that may be asked.

    A reward model that is an adapter of the policy's own base shares its trunk.
    """

    config: RlConfig
    model_config: ModelConfig
    policy: Any
    tokenizer: Any
    prompts: Mapping[str, Prompt]

    def wanted(self, reward_dir: str | Path | None) -> Rewarder:
        """What the settings ask for; `reward_dir` is the model where they name none."""
        if self.config.reward_function is not None:
            return self._function(self.config.reward_function)
        if not self.config.rewards:
            assert reward_dir is not None, "the settings ask for a reward model"
            return self.model(reward_dir)
        parts: list[tuple[float, Rewarder]] = []
        for part in map(RewardPart.parse, self.config.rewards):
            if names_function(part.source):
                parts.append((part.weight, self._function(part.source)))
                continue
            folder = reward_dir if part.source == STAGE_REWARD else part.source
            assert folder is not None, "the settings ask for the reward stage's model"
            parts.append((part.weight, self.model(folder)))
        return WeightedRewarder(parts=parts)

    def model(self, folder: str | Path) -> Rewarder:
        """A reward model: one of ours reads the tokens that were drawn, any other reads texts."""
        if self._reads_our_tokens(Path(folder)):
            model = reward_model_beside(self.policy, folder, self.tokenizer, self.model_config)
            return ModelRewarder(model=model, scale=read_reward_scale(folder))
        scorer = RewardModel.load(
            folder,
            self.model_config,
            micro_batch_tokens=self.config.micro_batch_tokens,
            beside=self.policy,
        )
        start = None
        if scorer.reads_ids_of(self.tokenizer):
            start = ModelRewarder(model=scorer.model, scale=scorer.scale)
        return TextRewarder(
            scorer=scorer, tokenizer=self.tokenizer, prompts=self.prompts, same_words=start
        )

    def ended(self, rewarder: Rewarder) -> EndRewarder:
        """The same, with the penalty for responses that were cut off."""
        return EndRewarder(
            rewarder=rewarder,
            missing_eos=self.config.missing_eos,
            penalty=self.config.missing_eos_penalty,
        )

    def _function(self, name: str) -> Rewarder:
        function = load_function(name, self.config.reward_time_limit)
        function.check(self.prompts.values())
        return TextRewarder(scorer=function, tokenizer=self.tokenizer, prompts=self.prompts)

    def _reads_our_tokens(self, folder: Path) -> bool:
        """One of ours, with the same vocabulary and no other way to write a conversation.

        Another library's reads what its template writes behind the end of a turn too.
        """
        if not is_ours(folder):
            return False
        own = load_tokenizer(folder, self.model_config)
        same_words = own.get_vocab() == self.tokenizer.get_vocab()
        return same_words and own.chat_template in (None, self.tokenizer.chat_template)
