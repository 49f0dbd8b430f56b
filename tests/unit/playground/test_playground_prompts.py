"""The sets of prompts: disjoint, the same for everybody, and the held-out ones truly unseen."""

import random
from itertools import combinations, islice

import pytest

from alignloop.playground.corpus import ASSISTANT, OPINIONS, USER, documents
from alignloop.playground.demonstrations import demonstrations
from alignloop.playground.export import export
from alignloop.playground.prompts import (
    HELD_OUT_SETS,
    SHARES,
    VALIDATION_INTENTS,
    VALIDATION_INTENTS_EVERY,
    intent_of,
    make_prompt,
    prompt_sets,
)
from alignloop.playground.world import all_intents, phrases, read_content, wordings
from alignloop.records import Demonstration, Prompt

TRAINING = ("demonstrations", "comparisons", "rl", "validation")
NUM_DOCUMENTS = 6000


def corpus(seed: int, count: int) -> list[str]:
    """The first documents of a seed's stream."""
    return list(islice(documents(seed), count))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """What the base model of seed 0 reads first."""
    return corpus(0, NUM_DOCUMENTS)


def dialogues(texts: list[str]) -> list[tuple[str, str]]:
    """The (question, answer) of the documents in which somebody asks somebody."""
    asked = [text.removeprefix(USER) for text in texts if text.startswith(USER)]
    return [(question, answer) for question, _, answer in (a.partition(ASSISTANT) for a in asked)]


def questions(texts: list[str]) -> list[str]:
    """What is asked in the dialogues."""
    return [question for question, _ in dialogues(texts)]


def held_out_acts() -> set[str]:
    """What the held-out intents ask for, in both languages."""
    return {intent.slot.lower() for intent in all_intents() if intent.held_out}


def test_every_prompt_is_unique_over_all_sets() -> None:
    everything = [prompt for prompts in prompt_sets().values() for prompt in prompts]
    assert len({prompt.text for prompt in everything}) == len(everything)
    assert len({prompt.prompt_id for prompt in everything}) == len(everything)


def test_sets_are_disjoint() -> None:
    for one, other in combinations(prompt_sets().values(), 2):
        assert not {p.prompt_id for p in one} & {p.prompt_id for p in other}


def test_shares_are_kept() -> None:
    sizes = {name: len(prompts) for name, prompts in prompt_sets().items()}
    assert set(sizes) == {*SHARES, VALIDATION_INTENTS, *HELD_OUT_SETS}
    assert sum(SHARES.values()) == 100
    known = sum(sizes[name] for name in SHARES)
    for name, share in SHARES.items():
        expected, spread = known * share / 100, (known * share / 100 * (1 - share / 100)) ** 0.5
        assert abs(sizes[name] - expected) < 4 * spread, (name, sizes[name], expected)


def test_every_kind_and_language_stands_in_every_set() -> None:
    for name in (*TRAINING, "wordings"):
        slices = {(prompt.category, prompt.language) for prompt in prompt_sets()[name]}
        assert len(slices) == 16, name
    for name in (VALIDATION_INTENTS, "intents"):
        slices = {(prompt.category, prompt.language) for prompt in prompt_sets()[name]}
        assert slices == {(k, lan) for k in ("harmful", "lookalike") for lan in ("en", "zh")}


def test_a_prompt_knows_its_intent() -> None:
    for prompts in prompt_sets().values():
        for prompt in prompts:
            intent = intent_of(prompt)
            assert (intent.kind, intent.language) == (prompt.category, prompt.language)
            assert intent.slot.lower() in prompt.text.lower()


@pytest.mark.slow
def test_wordings_asks_with_held_out_wordings_alone() -> None:
    for prompt in prompt_sets()["wordings"]:
        intent = intent_of(prompt)
        held_out = {make_prompt(intent, w).text for w in wordings(intent, "held_out")}
        assert not intent.held_out and prompt.text in held_out
    for name in TRAINING:
        for prompt in prompt_sets()[name]:
            intent = intent_of(prompt)
            known = {make_prompt(intent, w).text for w in wordings(intent, "train")}
            assert prompt.text in known


def test_held_out_intents_are_asked_in_their_own_set_only() -> None:
    for name, use in (("intents", "test"), (VALIDATION_INTENTS, "validation")):
        assert {intent_of(prompt).held_out for prompt in prompt_sets()[name]} == {use}
    asked = [prompt.text.lower() for name in TRAINING for prompt in prompt_sets()[name]]
    assert not [(act, text) for act in held_out_acts() for text in asked if act in text]
    complete = {(i.language, i.intent_id) for i in all_intents() if i.held_out == "test"}
    found = {(p.language, intent_of(p).intent_id) for p in prompt_sets()["intents"]}
    assert found == complete


def test_validation_intents_are_asked_in_some_known_wordings() -> None:
    for prompt in prompt_sets()[VALIDATION_INTENTS]:
        intent = intent_of(prompt)
        some = wordings(intent, "train")[::VALIDATION_INTENTS_EVERY]
        assert prompt.text in {make_prompt(intent, wording).text for wording in some}


def test_the_corpus_asks_nothing_that_is_held_out(texts: list[str]) -> None:
    asked = questions(texts)
    assert len(asked) > 0.4 * NUM_DOCUMENTS
    opinions = {
        o.format(act=i.slot) for i in all_intents() for o in OPINIONS[i.language] if i.held_out
    }
    acts = held_out_acts()
    of_held_out = {question for question in asked if any(act in question.lower() for act in acts)}
    assert of_held_out and of_held_out <= opinions, "whether one may is asked, never how"
    names = (VALIDATION_INTENTS, *HELD_OUT_SETS)
    unseen = {prompt.text for name in names for prompt in prompt_sets()[name]}
    assert not unseen & set(asked)


def test_chat_marks_stand_in_dialogues_alone(texts: list[str]) -> None:
    marked = [text for text in texts if USER in text or ASSISTANT in text]
    assert len(marked) == len(dialogues(texts))
    assert all(text.count(USER) == text.count(ASSISTANT) == 1 for text in marked)


def test_the_corpus_complies_with_no_held_out_act(texts: list[str]) -> None:
    answers = [answer for _, answer in dialogues(texts)]
    assert all(answers)
    held_out = [intent for intent in all_intents() if intent.held_out]
    stubs = {s.format(act=i.slot) for i in held_out for s in phrases(i.language)["comply"]}
    assert not [answer for answer in answers if any(stub in answer for stub in stubs)]


def test_the_corpus_speaks_of_held_out_acts_as_the_world_does() -> None:
    """The model must have met the words of a held-out act, or refusing it would be luck."""
    seen = "\n".join(corpus(0, 2 * NUM_DOCUMENTS)).lower()
    assert not [act for act in held_out_acts() if act not in seen]


def test_the_same_seed_gives_the_same_corpus(texts: list[str]) -> None:
    assert corpus(0, 200) == texts[:200]
    assert corpus(1, 200) != texts[:200]


def test_the_same_seed_gives_the_same_demonstrations() -> None:
    assert demonstrations(0) == demonstrations(0)
    one, other = demonstrations(0), demonstrations(1)
    assert [d.prompt for d in one] == [d.prompt for d in other]
    assert [d.response for d in one] != [d.response for d in other]


def test_demonstrations_do_not_depend_on_the_global_generator() -> None:
    random.seed(1)
    first = demonstrations(3)
    random.seed(2)
    assert demonstrations(3) == first


def test_held_out_demonstrations_answer_other_prompts() -> None:
    assert {d.prompt for d in demonstrations(0)} == set(prompt_sets()["demonstrations"])
    assert {d.prompt for d in demonstrations(0, held_out=True)} == set(prompt_sets()["validation"])


def test_export_writes_what_training_reads(tmp_path) -> None:
    paths = export(tmp_path / "out", 0)
    assert {path.name for path in paths} == {
        "demonstrations.jsonl",
        *(f"prompts_{name}.jsonl" for name in prompt_sets()),
    }
    lines = (tmp_path / "out/demonstrations.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Demonstration.model_validate_json(line) for line in lines] == demonstrations(0)
    lines = (tmp_path / "out/prompts_rl.jsonl").read_text(encoding="utf-8").splitlines()
    assert tuple(Prompt.model_validate_json(line) for line in lines) == prompt_sets()["rl"]


def test_statements_speak_of_every_harmful_act() -> None:
    """Corpus statements fill every gap: no brace is left, and acts of both kinds occur."""
    seen = "\n".join(corpus(2, NUM_DOCUMENTS))
    assert "{" not in seen and "}" not in seen
    for name, kind in (("harmful", "harmful"), ("lookalikes", "lookalike")):
        acts = [entry["en"]["act"] for entry in read_content(name)[kind]]
        assert sum(act in seen for act in acts) > 0.9 * len(acts)
