"""PPO with a learned critic: KL-shaped rewards, GAE, clipped policy and value losses."""

import torch

from alignloop.config import PpoConfig
from alignloop.losses import TokenLosses, gae, ppo_policy_loss, shaped_rewards, value_loss, whiten
from alignloop.rl.algorithms.base import Algorithm, Credit, CriticPlan
from alignloop.rl.experience import Experience, ScoredRollouts
from alignloop.shapes import PerToken


def ppo(config: PpoConfig) -> Algorithm:
    """Schulman et al. 2017 (arXiv:1707.06347), as for language models in Ziegler et al. 2019."""

    def credit(scored: ScoredRollouts, kl_coef: float) -> Credit:
        assert scored.old_logprobs is not None and scored.ref_logprobs is not None
        assert scored.values is not None and scored.final_values is not None
        scores = scored.scores
        if config.clip_score is not None:
            scores = scores.clamp(-config.clip_score, config.clip_score)
        mask = scored.response_mask
        rewards = shaped_rewards(
            scores,
            scored.old_logprobs,
            scored.ref_logprobs,
            mask,
            kl_coef=kl_coef,
            estimator=config.kl_estimator,
        )
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        cut_off = torch.where(scored.finished, 0.0, scored.final_values)
        advantages, returns = gae(
            rewards,
            scored.values,
            mask,
            gamma=config.gamma,
            lam=config.lam,
            bootstrap=cut_off if config.bootstrap_cut_off else None,
        )
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        return Credit(rewards=rewards, advantages=advantages, returns=returns)

    def policy_loss(logprobs: PerToken, experience: Experience) -> TokenLosses:
        assert experience.old_logprobs is not None
        losses = ppo_policy_loss(
            logprobs,
            experience.old_logprobs,
            experience.advantages,
            clip_range=config.clip_range,
        )
        return TokenLosses(loss=losses.loss * experience.token_weights, metrics=losses.metrics)

    def critic_loss(values: PerToken, experience: Experience) -> TokenLosses:
        assert experience.old_values is not None and experience.returns is not None
        return value_loss(
            values,
            experience.old_values,
            experience.returns,
            clip_range=config.clip_range_value,
        )

    return Algorithm(
        name="ppo",
        credit=credit,
        policy_loss=policy_loss,
        critic=CriticPlan(
            starts_from=config.critic_init,
            warmup_steps=config.critic_warmup_steps,
            loss=critic_loss,
        ),
        loss_over="tokens",
        rollouts_per_prompt=1,
        needs_reference=True,
        needs_old_logprobs=True,
        charged_kl=config.kl_estimator,
        adaptive_kl=config.adaptive_kl,
    )
