"""All of PPO for language models in one file, with only torch and transformers.

    python examples/ppo_one_file.py                       # a toy that learns in a minute
    python examples/ppo_one_file.py --policy DIR --reward-model DIR --prompts FILE

One step: sample answers, score them with a reward model, charge each token for leaving the
reference (KL), turn that into credit per token (GAE), and improve policy and critic on clipped
losses. PPO-n names a row of the checklist in docs/algorithms.md. All [batch, seq] tensors share
one alignment: entry t of `logprobs` is log p(token t | before t), entry t of `values` is the
critic just before token t. Masks are True for tokens that count and come from lengths, never from
comparing tokens with PAD (PPO-1).
"""

import argparse
import copy
import hashlib
import json
import math
import random
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path

import torch
import transformers as hf
from torch import nn
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Published settings for a real model (arXiv:2403.17031); the toy overrides some."""

    num_steps: int = 200
    batch_size: int = 64
    max_new_tokens: int = 256
    temperature: float = 1.0
    learning_rate: float = 1e-6
    critic_learning_rate: float = 1e-6  # a separate critic with its own rate (PPO-17)
    adam_eps: float = 1e-5  # PPO-20: as in the 2019 code
    max_grad_norm: float = 1.0  # PPO-21
    num_epochs: int = 4  # PPO-18
    clip_range: float = 0.2
    clip_range_value: float = 0.2  # PPO-16
    kl_coef: float = 0.1  # PPO-9: price per nat of KL, summed over the sequence
    gamma: float = 1.0  # PPO-13
    lam: float = 0.95
    missing_eos_score: float = -1.0  # PPO-2
    seed: int = 0


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one purpose and step: 63 bits of blake2b of the JSON list [seed, *names]."""
    text = json.dumps([seed, *names], separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniform(seed: int, t: int) -> float:
    """Number t in [0, 1) of a seed's stream: SplitMix64 (doi:10.1145/2660193.2660195), 24 bits."""
    z = seed + (t + 1) * 0x9E3779B97F4A7C15
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z = ((z % 2**64) ^ (z % 2**64 >> shift)) * factor
    return (z >> 40) / 2**24


def prompts_of_step(prompts: list[list[int]], step: int, settings: Settings) -> list[list[int]]:
    """An endless shuffle: every epoch shows each prompt once, in its own order."""
    chosen = []
    for place in range((step - 1) * settings.batch_size, step * settings.batch_size):
        epoch, index = divmod(place, len(prompts))
        order = list(range(len(prompts)))
        random.Random(f"prompts/{settings.seed}/{epoch}").shuffle(order)
        chosen.append(prompts[order[index]])
    return chosen


# --- rollouts


@torch.no_grad()
def rollout(policy, prompts: list[list[int]], tokenizer, settings: Settings, step: int):
    """Sample one answer to each prompt; lists of token ids, EOS included if drawn.

    No top-k and no top-p: otherwise the log-probabilities below would belong to another
    distribution (PPO-12). Each token inverts the cumulative distribution at a number of its row.
    """
    seeds = [derive_seed(settings.seed, "rollout", step, row) for row in range(len(prompts))]
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    answers: list[list[int]] = [[] for _ in prompts]
    cache, new_ids, known = hf.DynamicCache(config=policy.config), ids, signature(policy.forward)
    name = "cache" if "cache" in known.parameters else "past_key_values"  # 5.24 on; before
    for t in range(settings.max_new_tokens):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new_ids.shape[1] :]  # PPO-5
        output = policy(
            input_ids=new_ids, attention_mask=mask, position_ids=positions,
            use_cache=True, logits_to_keep=1, **{name: cache},
        )  # fmt: skip
        # PPO-11: the temperature is part of the policy, in sampling and in training.
        logprobs = torch.log_softmax(output.logits[:, -1].float() / settings.temperature, dim=-1)
        cumulative = logprobs.exp().cumsum(-1)
        threshold = torch.tensor([[uniform(seed, t)] for seed in seeds]) * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, threshold, right=True)
        new_ids = drawn.clamp(max=logprobs.shape[-1] - 1)
        for answer, token in zip(answers, new_ids.squeeze(-1).tolist(), strict=True):
            if not answer or answer[-1] != tokenizer.eos_token_id:  # PPO-3: the first EOS ends it
                answer.append(token)
        if all(answer[-1] == tokenizer.eos_token_id for answer in answers):
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return answers


def pad_right(prompts: list[list[int]], answers: list[list[int]], pad: int):
    """Right-padded (input_ids, attention, response): masks by counting, not by `ids != pad`."""
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(prompts), width), pad)
    attention, response = torch.zeros(ids.shape).bool(), torch.zeros(ids.shape).bool()
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        attention[row, :end] = True
        response[row, len(prompt) : end] = True
    return ids, attention, response


# --- model outputs


def token_logprobs(model, ids, attention, response, temperature: float):
    """log p(token t | before t), [batch, seq], 0 outside the response."""
    logits = model(input_ids=ids, attention_mask=attention.long(), use_cache=False).logits
    logprobs = torch.log_softmax(logits[:, :-1].float() / temperature, dim=-1)
    chosen = logprobs.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    chosen = torch.cat([torch.zeros(len(ids), 1), chosen], dim=1)  # the shift by one
    return torch.where(response, chosen, 0.0)


def head_readings(model, ids, attention):
    """The scalar head's output after each token, [batch, seq]."""
    output = model.base_model(input_ids=ids, attention_mask=attention.long(), use_cache=False)
    return model.score(output.last_hidden_state).squeeze(-1).float()


def sequence_scores(reward_model, ids, attention):
    """The raw score, [batch]: at the last unmasked token (PPO-4)."""
    return head_readings(reward_model, ids, attention)[torch.arange(len(ids)), attention.sum(1) - 1]


def token_values(critic, ids, attention, response):
    """The critic just before each token of the response, [batch, seq]."""
    readings = head_readings(critic, ids, attention)
    before = torch.cat([torch.zeros(len(ids), 1), readings[:, :-1]], dim=1)
    return torch.where(response, before, 0.0)


def new_critic(reward_model, bias: float, scale: float):
    """The critic starts as the reward model (PPO-7), in units of the normalised score."""
    critic = copy.deepcopy(reward_model).requires_grad_(True)
    weight = critic.score.weight
    critic.score = nn.Linear(weight.shape[1], 1)
    with torch.no_grad():
        critic.score.weight.copy_(weight / scale)
        critic.score.bias.fill_(-bias / scale)
    return critic


# --- credit and losses


def shaped_rewards(scores, logprobs, ref_logprobs, response, kl_coef: float):
    """-kl_coef * (logp - ref_logp) at each token, and the score at the last one (PPO-9)."""
    rewards = torch.where(response, -kl_coef * (logprobs - ref_logprobs), 0.0)
    last = response.shape[1] - 1 - response.flip(1).int().argmax(dim=1)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def gae(rewards, values, response, gamma: float, lam: float):
    """Generalised advantage estimation (arXiv:1506.02438): (advantages, returns), [batch, seq]."""
    advantages = torch.zeros_like(rewards)
    running, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))  # 0 after the end
    for t in reversed(range(rewards.shape[1])):
        inside = response[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(inside, delta + gamma * lam * running, running)
        next_value = torch.where(inside, values[:, t], next_value)
        advantages[:, t] = torch.where(inside, running, 0.0)
    return advantages, torch.where(response, advantages + values, 0.0)


def whiten(values, mask):
    """Mean 0 and variance 1 over the response tokens of the whole batch (PPO-14)."""
    found = values[mask]
    white = (values - found.mean()) * torch.rsqrt(found.var(unbiased=False) + 1e-8)
    return torch.where(mask, white, 0.0)


def policy_loss(logprobs, old_logprobs, advantages, mask, clip_range: float):
    """Clipped surrogate (arXiv:1707.06347, eq. 7), mean over all response tokens (PPO-23)."""
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(-ratio * advantages, -clipped * advantages)
    return losses[mask].mean(), ratio[mask].mean().item()


def value_loss(values, old_values, returns, mask, clip_range: float):
    """Half the squared error, the larger of clipped and unclipped (PPO-16)."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    losses = 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())
    return losses[mask].mean()


def descend(loss, model, optimizer, learning_rate: float, max_grad_norm: float) -> None:
    """One optimiser step along the gradient, clipped to a norm (PPO-21)."""
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


# --- the loop


def train(settings: Settings, policy, reward_model, tokenizer, prompts, bias=0.0, scale=1.0):
    """PPO on tokenised prompts; yields the metrics of each step, and trains `policy` in place.

    `bias` and `scale` normalise the score: demonstrations have mean 0 (PPO-8).
    """
    assert tokenizer.pad_token_id != tokenizer.eos_token_id, "PAD must not be EOS (PPO-1)"
    reference = copy.deepcopy(policy).requires_grad_(False)
    critic = new_critic(reward_model.requires_grad_(False), bias, scale)
    for model in (policy, reference, reward_model, critic):
        model.eval()  # PPO-19: no dropout, so a text has one log-probability
    optimizers = [
        torch.optim.AdamW(m.parameters(), lr=r, eps=settings.adam_eps, weight_decay=0.0)
        for m, r in ((policy, settings.learning_rate), (critic, settings.critic_learning_rate))
    ]
    for step in range(1, settings.num_steps + 1):
        asked = prompts_of_step(prompts, step, settings)
        answers = rollout(policy, asked, tokenizer, settings, step)
        batch = pad_right(asked, answers, tokenizer.pad_token_id)
        with torch.no_grad():
            # PPO-22: the trainer's own log-probabilities, by the same computation as the update.
            old_logprobs = token_logprobs(policy, *batch, settings.temperature)
            ref_logprobs = token_logprobs(reference, *batch, settings.temperature)
            old_values = token_values(critic, *batch)
            scores = (sequence_scores(reward_model, *batch[:2]) - bias) / scale
        finished = torch.tensor([answer[-1] == tokenizer.eos_token_id for answer in answers])
        scores = torch.where(finished, scores, settings.missing_eos_score)  # PPO-2
        mask = batch[2]
        rewards = shaped_rewards(scores, old_logprobs, ref_logprobs, mask, settings.kl_coef)
        advantages, returns = gae(rewards, old_values, mask, settings.gamma, settings.lam)
        advantages = whiten(advantages, mask)
        rate = 1 - (step - 1) / settings.num_steps  # PPO-21: linear to 0
        history = []
        for _ in range(settings.num_epochs):
            logprobs = token_logprobs(policy, *batch, settings.temperature)
            loss, ratio = policy_loss(logprobs, old_logprobs, advantages, mask, settings.clip_range)
            values = token_values(critic, *batch)
            error = value_loss(values, old_values, returns, mask, settings.clip_range_value)
            norm = settings.max_grad_norm
            descend(error, critic, optimizers[1], settings.critic_learning_rate * rate, norm)
            descend(loss, policy, optimizers[0], settings.learning_rate * rate, norm)
            history.append((loss.item(), error.item(), ratio))
        losses, errors, ratios = zip(*history, strict=True)
        kl = (old_logprobs - ref_logprobs).sum().item() / len(scores)  # nats per sequence
        yield {
            "step": step, "scores": scores.tolist(), "score": scores.mean().item(), "kl": kl,
            "policy_loss": sum(losses) / len(losses), "value_loss": sum(errors) / len(errors),
            "first_ratio": ratios[0],  # PPO-26: exactly 1
            "eos_rate": finished.float().mean().item(), "answers": answers, "critic": critic,
        }  # fmt: skip


# --- the toy: say "good", and stop

WORDS = ("<pad>", "<eos>", "<user>", "<assistant>", "good", "bad", "tea", "rain", "sun", "moon")
PAD, EOS, USER, ASSISTANT, GOOD = range(5)
TOY = {"num_steps": 60, "max_new_tokens": 8, "learning_rate": 2e-3, "critic_learning_rate": 2e-3}


def toy_models(seed: int):
    """A random tiny policy, and a reward model fitted to pairs in which more "good" is better."""
    from tokenizers import Tokenizer, models

    torch.set_num_threads(1)  # a model this small is slower on many
    torch.manual_seed(seed)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    config = hf.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None, num_labels=1,
    )  # fmt: skip
    policy, reward_model = hf.LlamaForCausalLM(config), hf.LlamaForSequenceClassification(config)
    nn.init.normal_(reward_model.score.weight, std=1 / math.sqrt(config.hidden_size + 1))  # PPO-6
    optimizer = torch.optim.AdamW(reward_model.parameters(), lr=3e-3, eps=1e-5)
    for _ in range(150):
        lengths = torch.randint(1, 8, (64,)).tolist()
        texts = [[*torch.randint(GOOD, len(WORDS), (n,)).tolist(), EOS] for n in lengths]
        ids, attention, _ = pad_right([[USER, 6, ASSISTANT]] * 64, texts, PAD)
        scores, counts = sequence_scores(reward_model, ids, attention), (ids == GOOD).sum(1)
        better, worse = (counts[:, None] > counts[None, :]).nonzero(as_tuple=True)
        loss = -logsigmoid(scores[better] - scores[worse]).mean()  # never log(sigmoid(x)): PPO-28
        descend(loss, reward_model, optimizer, 3e-3, 1.0)
    return policy, reward_model, tokenizer, [[USER, w, ASSISTANT] for w in range(5, len(WORDS))]


def load(policy: Path, reward_model: Path, prompts: Path):
    """Both models, the tokenizer, the tokenised prompts, the reward model's bias and scale."""
    # Reads tokenizer.json as is; AutoTokenizer may substitute the family's own class.
    tokenizer = hf.PreTrainedTokenizerFast.from_pretrained(policy)
    turns = [json.loads(line)["messages"] for line in prompts.read_text("utf-8").splitlines()]
    options = {"add_generation_prompt": True, "return_dict": False}
    asked = [tokenizer.apply_chat_template(messages, **options) for messages in turns]
    kinds = (hf.AutoModelForCausalLM, policy), (hf.AutoModelForSequenceClassification, reward_model)
    models = [kind.from_pretrained(folder, dtype=torch.float32) for kind, folder in kinds]
    file = reward_model / "reward_scale.json"
    scale = json.loads(file.read_text("utf-8")) if file.exists() else {"bias": 0.0, "scale": 1.0}
    return *models, tokenizer, asked, scale["bias"], scale["scale"]


def main(arguments: list[str] | None = None) -> None:
    """Every field of Settings is an option, such as --num-steps 10."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", type=Path, help="directory of a causal language model")
    parser.add_argument("--reward-model", type=Path, help="directory of a one-label classifier")
    parser.add_argument("--prompts", type=Path, help='one {"messages": [...]} per line')
    parser.add_argument("--save", type=Path, help="folder for the trained policy")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default))
    args = parser.parse_args(arguments)
    if any(files := (args.policy, args.reward_model, args.prompts)) and not all(files):
        parser.error("give --policy, --reward-model and --prompts together, or none of them")
    wanted = {f.name: v for f in fields(Settings) if (v := getattr(args, f.name)) is not None}
    settings = Settings(**(wanted if all(files) else TOY | wanted))
    policy, *rest = load(*files) if all(files) else toy_models(settings.seed)
    for m in train(settings, policy, *rest):
        line = "step {step:4} score {score:7.3f} kl {kl:6.2f} eos {eos_rate:.2f}".format(**m)
        print(line, rest[1].decode(m["answers"][0]))
    for part in (policy, rest[1]) if args.save else ():
        part.save_pretrained(args.save)


if __name__ == "__main__":
    main()
