"""Sampling: from the right distribution, repeatable, and independent of what shares the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from rollout_support import answers
from scipy.stats import chisquare
from transformers import GenerationConfig
from transformers.generation import TopPLogitsWarper

from alignloop.config import EvaluateConfig, ModelConfig, PlaygroundConfig, RlConfig, SamplingConfig
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import encode_prompt
from alignloop.errors import UserError
from alignloop.models import load_policy, token_logprobs
from alignloop.records import Prompt
from alignloop.rollout import Rollout, Sampler
from alignloop.rollout import make_sampler as sampler_for
from alignloop.rollout.decode import cache_argument
from alignloop.rollout.drawing import draw
from alignloop.run import generator

Asked = list[tuple[str, list[int]]]
FAMILIES = ("qwen2", "llama", "gpt2")
EOS = 1


@pytest.fixture(scope="module")
def asked(prompts: list[Prompt], tokenizer: Any) -> Asked:
    return [(p.prompt_id, encode_prompt(tokenizer, p, 32)) for p in prompts]


@pytest.fixture
def make_sampler(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> Callable[..., Any]:
    def make(family: str = "llama", **sampling: Any) -> Sampler:
        settings: dict[str, Any] = {"max_new_tokens": 12, "batch_size": 4, **sampling}
        policy = load_policy(lm_dirs[family], tokenizer, model_config)
        return sampler_for(policy, tokenizer, SamplingConfig.model_validate(settings))

    return make


def test_draw_inverts_the_cumulative_distribution_by_hand() -> None:
    """p = (1/2, 1/4, 1/8, 1/8): the steps lie at 0.5, 0.75 and 0.875."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 1 - 2**-24])
    tokens, logprobs = draw(p.log().expand(8, 4), uniform, 1.0)
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    torch.testing.assert_close(logprobs, p[tokens].log())


def test_draw_s_frequencies_are_the_softmax_at_the_temperature() -> None:
    """Lines 11 and 12: chi-squared over 20,000 draws with a fixed seed."""
    logits = torch.tensor([1.0, -0.5, 2.0, 0.0, -3.0])
    uniform = torch.rand(20_000, generator=generator(0, "draw"))
    tokens, logprobs = draw(logits.expand(20_000, 5), uniform, 0.7)
    expected = torch.softmax(logits.double() / 0.7, -1)
    counts = torch.bincount(tokens, minlength=5)
    assert chisquare(counts.numpy(), (expected * 20_000).numpy()).pvalue > 0.01
    wrong = torch.softmax(logits.double(), -1)
    assert chisquare(counts.numpy(), (wrong * 20_000).numpy()).pvalue < 1e-9
    torch.testing.assert_close(logprobs, expected[tokens].log().float())


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_draw_never_takes_a_token_of_probability_zero(uniform: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.3, -torch.inf, 0.1, -torch.inf]])
    token, logprob = draw(logits, torch.tensor([uniform]), 1.0)
    assert token.item() in (1, 3)
    assert bool(torch.isfinite(logprob).all())


def test_draw_reaches_rare_tokens_of_a_large_vocabulary() -> None:
    logits = torch.zeros(1, 50_000)
    first, _ = draw(logits, torch.tensor([0.0]), 1.0)
    last, _ = draw(logits, torch.tensor([1 - 2**-24]), 1.0)
    assert (first.item(), last.item()) == (0, 49_999)


@pytest.mark.parametrize("vocabulary", [4096, 4097, 8192, 10_001])
def test_draw_inverts_the_cumulative_distribution_of_any_vocabulary(vocabulary: int) -> None:
    """F(token - 1) <= uniform < F(token) to float32's rounding, whether summed in blocks or not."""
    logits = torch.randn(500, vocabulary, generator=generator(0, "logits")) * 3
    logits[:, ::3] = -torch.inf
    uniform = torch.rand(500, generator=generator(0, "uniform"))
    uniform[0], uniform[1] = 0, 1 - 2**-24
    tokens, logprobs = draw(logits, uniform, 1.0)
    p = torch.softmax(logits.double(), -1)
    own = p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    up_to = p.cumsum(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    assert bool((own > 0).all())
    assert bool(((up_to - own - 1e-6 <= uniform) & (uniform < up_to + 1e-6)).all())
    torch.testing.assert_close(logprobs, own.log().float())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_response_does_not_depend_on_its_batch(
    family: str, make_sampler: Callable[..., Any], asked: Asked
) -> None:
    """Line 12: all together, in pairs, and one by one; the numbers of a prompt are its own."""
    together = answers(make_sampler(family, batch_size=100), asked, 3, "rollout")
    pairs = answers(make_sampler(family, batch_size=2), asked, 3, "rollout")
    alone = answers(make_sampler(family, batch_size=1), asked, 3, "rollout")
    assert [r.prompt_id for r in together] == [prompt_id for prompt_id, _ in asked]
    ids = [rollout.input_ids for rollout in together]
    assert ids == [rollout.input_ids for rollout in pairs]
    assert ids == [rollout.input_ids for rollout in alone]
    assert len({rollout.finish_reason for rollout in together}) == 2, "both ends must occur"


def test_the_first_prompts_do_not_depend_on_how_many_follow(
    make_sampler: Callable[..., Any], asked: Asked
) -> None:
    sampler = make_sampler()
    many = answers(sampler, asked, 3, "rollout")
    few = answers(sampler, asked[:3], 3, "rollout")
    assert [r.input_ids for r in few] == [r.input_ids for r in many[:3]]


def test_another_seed_gives_other_responses(make_sampler: Callable[..., Any], asked: Asked) -> None:
    sampler = make_sampler()
    one = answers(sampler, asked, 3, "rollout", 1)
    other = answers(sampler, asked, 3, "rollout", 2)
    assert [r.input_ids for r in one] != [r.input_ids for r in other]


def test_one_prompt_many_times_gives_many_responses(
    make_sampler: Callable[..., Any], asked: Asked
) -> None:
    """Real sampling: the first tokens follow the model's own distribution."""
    sampler = make_sampler(max_new_tokens=1, batch_size=500)
    prompt = asked[0]
    rollouts = answers(sampler, [prompt] * 2000, 0, "many")
    tokens = torch.tensor([rollout.response_ids[0] for rollout in rollouts])
    with torch.no_grad():
        logits = sampler.model(torch.tensor([prompt[1]])).logits[0, -1]
    expected = torch.softmax(logits.double(), -1) * 2000
    assert float(expected.min()) > 5, "chi-squared needs five expected in each cell"
    counts = torch.bincount(tokens, minlength=len(expected))
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_sampler_s_logprobs_are_the_trainer_s(
    family: str,
    side: Literal["right", "left"],
    temperature: float,
    make_sampler: Callable[..., Any],
    asked: Asked,
) -> None:
    """Lines 11 and 22: to 1e-5, though one used a cache and left padding."""
    sampler = make_sampler(family, temperature=temperature)
    rollouts = answers(sampler, asked, 1, "rollout")
    batch = pad_batch(rollouts, 0, side)
    trainer = token_logprobs(sampler.model, **batch, temperature=temperature).logprobs
    own = torch.tensor([value for rollout in rollouts for value in rollout.rollout_logprobs])
    torch.testing.assert_close(trainer[batch["response_mask"]], own, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_nearly_greedy_is_transformers_greedy(
    family: str, make_sampler: Callable[..., Any], asked: Asked
) -> None:
    """At temperature 1e-4 every token is generate(do_sample=False)'s."""
    sampler = make_sampler(family, temperature=1e-4)
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=0, bos_token_id=None
    )
    for rollout, (_, prompt) in zip(answers(sampler, asked, 0, "greedy"), asked, strict=True):
        ids = torch.tensor([prompt])
        expected = sampler.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=greedy
        )
        assert list(rollout.input_ids) == expected[0].tolist()


def test_a_response_ends_at_its_first_eos(make_sampler: Callable[..., Any], asked: Asked) -> None:
    """Line 3: EOS comes last or not at all, and `finish_reason` says which."""
    rollouts = answers(make_sampler(max_new_tokens=20), asked * 3, 2, "ends")
    for rollout in rollouts:
        response = list(rollout.response_ids)
        assert len(response) == len(rollout.rollout_logprobs)
        if rollout.finish_reason == "eos":
            assert response.index(EOS) == len(response) - 1
        else:
            assert EOS not in response and len(response) == 20
    assert {rollout.finish_reason for rollout in rollouts} == {"eos", "length"}


def test_an_eos_as_the_very_last_allowed_token_is_an_end(
    make_sampler: Callable[..., Any], asked: Asked
) -> None:
    long = answers(make_sampler(max_new_tokens=20), asked * 3, 2, "ends")
    ended = next(r for r in long if r.finish_reason == "eos" and len(r.response_ids) > 1)
    limit = 2
    short = answers(make_sampler(max_new_tokens=limit), asked * 30, 2, "short")
    at_limit = [r for r in short if len(r.response_ids) == limit]
    assert ended.response_ids[-1] == EOS
    assert {r.finish_reason for r in at_limit if r.response_ids[-1] == EOS} == {"eos"}
    assert {r.finish_reason for r in at_limit if r.response_ids[-1] != EOS} == {"length"}


def test_pad_and_eos_inside_a_prompt_are_ordinary_tokens(
    make_sampler: Callable[..., Any],
) -> None:
    """Line 1: masks come from lengths; a prompt that begins with PAD is read whole."""
    prompt, other = [0, 0, 3, EOS, 9, 4], [3, 9, 4, 5, 6, 7, 8, 9, 10]
    sampler = make_sampler(batch_size=2)
    mixed = answers(sampler, [("a", prompt), ("b", other)], 0, "pad")
    batch = pad_batch(mixed, 0)
    trainer = token_logprobs(sampler.model, **batch).logprobs
    own = torch.tensor(mixed[0].rollout_logprobs)
    torch.testing.assert_close(trainer[0][batch["response_mask"][0]], own, rtol=0, atol=1e-5)


def test_rollout_tells_its_response_and_mask() -> None:
    rollout = Rollout(
        prompt_id="p",
        input_ids=(3, 9, 4, 5, 1),
        response_start=3,
        rollout_logprobs=(-0.5, -0.1),
        finish_reason="eos",
    )
    assert rollout.response_ids == (5, 1)
    assert rollout.response_mask == (False, False, False, True, True)


@pytest.mark.parametrize("name", ["top_k", "do_sample", "repetition_penalty"])
def test_other_ways_to_draw_are_no_settings(name: str) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        SamplingConfig.model_validate({name: 1})


@pytest.mark.parametrize("changes", [{"temperature": 0}, {"top_p": 0.9}])
def test_settings_whose_logprobs_would_not_match_are_refused_in_rl(changes: Any) -> None:
    """Line 12: an update weighs tokens by the whole distribution; evaluate may draw as it likes."""
    assert EvaluateConfig.model_validate({"sampling": changes})
    with pytest.raises(ValueError, match="RL draws from the whole distribution"):
        RlConfig.model_validate({"sampling": changes})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"temperature": -0.1}, "greater than or equal to 0"),
        ({"top_p": 0}, "greater than 0"),
        ({"top_p": 1.1}, "less than or equal to 1"),
        ({"temperature": 0, "top_p": 0.9}, "changes nothing without a temperature above 0"),
    ],
)
def test_sampling_that_means_nothing_is_refused(changes: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SamplingConfig.model_validate(changes)
    with pytest.raises(ValueError, match="equal answers"):
        PlaygroundConfig.model_validate({"sampling": {"temperature": 0}})


def test_the_nucleus_by_hand() -> None:
    """p = (1/8, 1/2, 1/8, 1/4), top_p 0.7: 1/2 + 1/4 reach it, and become 2/3 and 1/3."""
    p = torch.tensor([0.125, 0.5, 0.125, 0.25])
    uniform = torch.tensor([0.0, 0.66, 0.67, 1 - 2**-24])
    tokens, logprobs = draw(p.log().expand(4, 4), uniform, 1.0, top_p=0.7)
    assert tokens.tolist() == [1, 1, 3, 3]
    expected = torch.tensor([2 / 3, 2 / 3, 1 / 3, 1 / 3]).log()
    torch.testing.assert_close(logprobs, expected)
    only, sure = draw(p.log().expand(4, 4), uniform, 1.0, top_p=0.4)
    assert only.tolist() == [1, 1, 1, 1] and sure.tolist() == [0.0] * 4


@pytest.mark.parametrize("vocabulary", [50, 10_001])
def test_the_nucleus_is_transformers(vocabulary: int) -> None:
    """Whatever is drawn is in TopPLogitsWarper's nucleus, with the logprob that it has there."""
    logits = torch.randn(400, vocabulary, generator=generator(0, "nucleus")) * 3
    warped = TopPLogitsWarper(0.8)(torch.zeros(400, 1, dtype=torch.long), logits / 0.7)
    expected = torch.log_softmax(warped, -1)
    uniform = torch.rand(400, generator=generator(0, "uniform"))
    tokens, logprobs = draw(logits, uniform, 0.7, top_p=0.8)
    theirs = expected.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(logprobs, theirs, rtol=0, atol=2e-5)
    assert len(set(tokens.tolist())) > 20


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_temperature_zero_is_transformers_greedy(
    family: str, make_sampler: Callable[..., Any], asked: Asked
) -> None:
    sampler = make_sampler(family, temperature=0)
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=0, bos_token_id=None
    )
    found = answers(sampler, asked, 0, "greedy")
    for rollout, (_, prompt) in zip(found, asked, strict=True):
        ids = torch.tensor([prompt])
        expected = sampler.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=greedy
        )
        assert list(rollout.input_ids) == expected[0].tolist()
        assert set(rollout.rollout_logprobs) == {0.0}


@pytest.mark.parametrize("vocabulary", [8, 10_001])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_without_a_distribution_has_no_logprob(
    bad: float, temperature: float, vocabulary: int
) -> None:
    """And no token outside the vocabulary; its neighbours are what they would be without it."""
    logits = torch.randn(3, vocabulary, generator=generator(0, "logits"))
    uniform = torch.tensor([0.3, 0.9, 1 - 2**-24])
    tokens, logprobs = draw(logits, uniform, temperature)
    logits[1, vocabulary // 2] = bad
    found, said = draw(logits, uniform, temperature)
    assert said.isnan().tolist() == [False, True, False]
    assert int(found.min()) >= 0 and int(found.max()) < vocabulary
    assert found[[0, 2]].tolist() == tokens[[0, 2]].tolist()
    assert torch.equal(said[[0, 2]], logprobs[[0, 2]])
    logits[1] = -torch.inf
    assert draw(logits, uniform, temperature)[1].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_logits_that_are_no_numbers_are_told_at_once(
    family: str,
    temperature: float,
    lm_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
    asked: Asked,
) -> None:
    """In both samplers, and naming the model's directory."""
    policy = load_policy(lm_dirs[family], tokenizer, model_config)
    with torch.no_grad():
        policy.get_output_embeddings().weight[3] = torch.nan
    sampler = sampler_for(policy, tokenizer, SamplingConfig(temperature=temperature))
    with pytest.raises(UserError, match="not finite") as caught:
        answers(sampler, asked, 0, "nan")
    assert caught.value.where == str(lm_dirs[family])
    assert "model.dtype" in caught.value.fix


def test_a_prompt_that_is_too_long_is_told(prompts: list[Prompt], tokenizer: Any) -> None:
    with pytest.raises(UserError, match="max_prompt_tokens allows 3"):
        encode_prompt(tokenizer, prompts[0], 3)


def test_the_cache_has_the_name_that_the_family_knows() -> None:
    """transformers 5.24 renames the argument, family by family."""

    class New:
        def forward(self, input_ids: Any, cache: Any = None) -> None: ...

    class Old:
        def forward(self, input_ids: Any, past_key_values: Any = None) -> None: ...

    assert cache_argument(New()) == "cache"
    assert cache_argument(Old()) == "past_key_values"
