"""Settings: what is wrong is named with its place, and what is right survives the file."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alignloop.config import (
    AdaptiveKlConfig,
    GrpoConfig,
    PpoConfig,
    Recipe,
    load_recipe,
    to_toml,
)
from alignloop.config.frozen import changed_settings
from alignloop.config.load import check_recipe, describe_settings, kept_recipe, known_settings
from alignloop.errors import UserError

REPOSITORY = Path(__file__).parents[3]
RECIPES = sorted((REPOSITORY / "recipes").glob("*/recipe.toml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of its own in a folder called `mine`."""
    path = tmp_path / "mine" / "recipe.toml"
    path.parent.mkdir()
    path.write_text("[rl]\nnum_steps = 7\nalgorithm.kl_coef = 0.3\n", encoding="utf-8")
    return path


def complaint(path: Path, overrides: dict[str, str] | None = None) -> UserError:
    """The error that loading gives."""
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    return caught.value


def test_a_folder_stands_for_its_recipe(recipe: Path) -> None:
    assert load_recipe(recipe.parent) == load_recipe(recipe) == load_recipe(str(recipe))


def test_the_file_names_only_what_differs(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert (loaded.rl.num_steps, loaded.rl.algorithm.kl_coef) == (7, 0.3)
    plain = Recipe()
    assert loaded.sft == plain.sft and loaded.rl.batch_size == plain.rl.batch_size


def test_the_folder_or_the_file_names_the_run(recipe: Path) -> None:
    assert load_recipe(recipe).name == "mine"
    other = recipe.with_name("fast.toml")
    other.write_text("", encoding="utf-8")
    assert load_recipe(other).name == "fast"
    other.write_text('name = "slow"', encoding="utf-8")
    assert load_recipe(other).name == "slow"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_published_recipes_load(path: Path) -> None:
    assert load_recipe(path).name == path.parent.name


def test_there_are_published_recipes() -> None:
    assert "playground" in [path.parent.name for path in RECIPES]


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("rl.learing_rate", "rl.learning_rate"),  # misspelt
        ("rewrd.batch_size", "reward"),
        ("model.dtyp", "model.dtype"),
        ("rl.algorithm.clip_rang", "rl.algorithm.clip_range"),
        ("kl_coef", "rl.algorithm.kl_coef"),  # the right name in the wrong place
        ("rl.kl_coef", "rl.algorithm.kl_coef"),
        ("rl.temperature", "rl.sampling.temperature"),
        ("max_new_tokens", "rl.sampling.max_new_tokens"),
        ("rl.max_new_tokens", "rl.sampling.max_new_tokens"),
        ("sft.clip_range", "rl.algorithm.clip_range"),
        ("evaluate.temperature", "evaluate.sampling.temperature"),
        ("sft.num_steps", "sft.max_steps"),
        ("learning_rate", "rl.learning_rate"),
        ("demonstrations", "sft.demonstrations"),
    ],
)
def test_an_unknown_setting_names_the_right_one(recipe: Path, key: str, suggestion: str) -> None:
    error = complaint(recipe, {key: "1"})
    unknown = "rewrd" if key.startswith("rewrd") else key
    assert error.problem == f"unknown setting {unknown!r}; did you mean {suggestion!r}?"
    assert error.where == str(recipe)


def test_an_unknown_setting_like_no_other_points_to_the_list(recipe: Path) -> None:
    assert complaint(recipe, {"rl.zzz": "1"}).problem == (
        "unknown setting 'rl.zzz'; see `alignloop settings`"
    )


def test_every_problem_is_named(recipe: Path) -> None:
    problem = complaint(recipe, {"rl.zzz": "1", "seed": "-1", "sft.batch_size": "0"}).problem
    assert all(key in problem for key in ("rl.zzz", "seed = '-1'", "sft.batch_size = '0'"))
    assert problem.count("; ") == 3  # three problems, and one in the hint of the first


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rl.num_steps", "0", "rl.num_steps = '0': input should be greater than or equal to 1"),
        ("rl.num_steps", "many", "rl.num_steps = 'many': input should be a valid integer"),
        ("rl.num_steps", "none", "rl.num_steps = None: input should be a valid integer"),
        ("rl.algorithm.lam", "1.5", "rl.algorithm.lam = '1.5': input should be less than or equal"),
        (
            "sft.learning_rate",
            "-1e-5",
            "sft.learning_rate = '-1e-5': input should be greater than 0",
        ),
        ("model.dtype", "int3", "model.dtype = 'int3': input should be 'float32' or 'bfloat16'"),
        (
            "reward.use_margin",
            "maybe",
            "reward.use_margin = 'maybe': input should be a valid boolean",
        ),
        ("name", "a/b", "name = 'a/b': string should match pattern"),
        ("rl", "5", "rl = '5': input should be a valid dictionary"),
        ("rl.num_steps.x", "5", "rl.num_steps is a single value, so rl.num_steps.x cannot be set"),
        (
            "reward.test_share",
            "0.3",
            "reward: test_share = 0.3 has no effect without reward.labels",
        ),
    ],
)
def test_a_value_out_of_range_names_key_and_value(
    recipe: Path, key: str, value: str, said: str
) -> None:
    assert complaint(recipe, {key: value}).problem.startswith(said)


def test_a_bad_value_in_the_file_names_the_file(recipe: Path) -> None:
    recipe.write_text("[rl]\nnum_steps = 0\n", encoding="utf-8")
    error = complaint(recipe)
    assert str(error).startswith(f"{recipe}: rl.num_steps = 0: input should be greater")


def test_broken_toml_names_file_and_line(recipe: Path) -> None:
    recipe.write_text("[rl]\nnum_steps = \n", encoding="utf-8")
    error = complaint(recipe)
    assert error.where == str(recipe)
    assert error.problem.startswith("not valid TOML") and "line 2" in error.problem


def test_a_file_that_is_no_text_is_named(recipe: Path) -> None:
    recipe.write_bytes(b'name = "\xff"')
    assert complaint(recipe).problem.startswith("not valid UTF-8")


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    for path, where in ((tmp_path, tmp_path / "recipe.toml"), (tmp_path / "x", tmp_path / "x")):
        error = complaint(path)
        assert (error.problem, error.where) == ("no such recipe", str(where))
        assert "or a name: 24gb-7b-lora" in error.fix and "playground" in error.fix


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "3", 3),
        ("rl.num_steps", "20", 20),
        ("rl.learning_rate", "1e-5", 1e-5),
        ("rl.algorithm.whiten_rewards", "true", True),
        ("reward.held_out_model", "False", False),
        ("rl.algorithm.clip_range_value", "none", None),
        ("rl.kl_budget", "None", None),
        ("rl.kl_budget", "60", 60.0),
        ("model.chat_template", "chatml", "chatml"),
        ("sft.demonstrations", "data/my file.jsonl", "data/my file.jsonl"),
        ("sft.demonstrations", '"quoted.jsonl"', "quoted.jsonl"),
        ("sft.demonstrations", "2026", "2026"),
        ("name", "2026-01-05", "2026-01-05"),
        ("name", "true", "true"),
        ("rl.algorithm.adaptive_kl", "{target = 3.0}", AdaptiveKlConfig(target=3.0)),
        ("rl.algorithm.adaptive_kl.horizon", "50", AdaptiveKlConfig(horizon=50)),
        ("rl.algorithm.kl_coef", "0", 0.0),
    ],
)
def test_overrides_win_over_the_file(recipe: Path, key: str, text: str, value: object) -> None:
    found: object = load_recipe(recipe, {key: text})
    for part in key.removesuffix(".horizon").split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


def test_the_name_chooses_the_algorithm(recipe: Path) -> None:
    """The recipe names none, so it means PPO; what both have in common stays."""
    assert isinstance(load_recipe(recipe).rl.algorithm, PpoConfig)
    name = {"rl.algorithm.name": "grpo"}
    chosen = load_recipe(recipe, {**name, "rl.algorithm.group_size": "4"}).rl.algorithm
    assert chosen == GrpoConfig(group_size=4, kl_coef=0.3)
    whole = load_recipe(recipe, {"rl.algorithm": '{name = "grpo", loss_over = "tokens"}'})
    assert whole.rl.algorithm == GrpoConfig(loss_over="tokens")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"name": "grpo", "group_sise": "4"},
            "unknown setting 'rl.algorithm.group_sise'; did you mean 'rl.algorithm.group_size'?",
        ),
        # gamma is PPO's alone: to name it here would be no help
        (
            {"name": "grpo", "gama": "1"},
            "unknown setting 'rl.algorithm.gama'; did you mean 'rl.algorithm.name'?",
        ),
        (
            {"name": "grpo", "gamma": "1"},
            'rl.algorithm.gamma is a setting of "ppo", but rl.algorithm.name = "grpo"',
        ),
        (
            {"group_size": "4"},
            'rl.algorithm.group_size is a setting of "grpo" or "rloo", but'
            ' rl.algorithm.name = "ppo"',
        ),
        (
            {"name": "grpo", "adaptive_kl.target": "4"},
            'rl.algorithm.adaptive_kl is a setting of "ppo", but rl.algorithm.name = "grpo"',
        ),
        (
            {"adaptive_kl.targt": "4"},
            "unknown setting 'rl.algorithm.adaptive_kl.targt';"
            " did you mean 'rl.algorithm.adaptive_kl.target'?",
        ),
        ({"name": "grop"}, "rl.algorithm.name = 'grop': input should be 'ppo' or 'grpo' or 'rloo'"),
        (
            {"name": "grpo", "group_size": "1"},
            "rl.algorithm.group_size = '1': input should be greater than or equal to 2",
        ),
    ],
)
def test_what_is_wrong_with_an_algorithm_s_settings_is_named(
    recipe: Path, given: dict[str, str], said: str
) -> None:
    overrides = {f"rl.algorithm.{key}": value for key, value in given.items()}
    assert complaint(recipe, overrides).problem == said


def test_settings_of_another_algorithm_in_the_file_are_named(recipe: Path) -> None:
    recipe.write_text("[rl.algorithm]\nlam = 0.9\n", encoding="utf-8")
    error = complaint(recipe, {"rl.algorithm.name": "grpo"})
    assert error.where == str(recipe)
    assert error.problem.startswith('rl.algorithm.lam is a setting of "ppo"')


def test_other_settings_of_the_file_stay_beside_an_override(recipe: Path) -> None:
    loaded = load_recipe(recipe, {"rl.algorithm.gamma": "0.9"})
    assert (loaded.rl.num_steps, loaded.rl.algorithm.kl_coef) == (7, 0.3)
    assert loaded.rl.algorithm.gamma == 0.9


def test_none_in_the_file_is_nothing(recipe: Path) -> None:
    recipe.write_text('[rl.algorithm]\nclip_range_value = "none"\n', encoding="utf-8")
    assert load_recipe(recipe).rl.algorithm.clip_range_value is None


def test_settings_are_frozen() -> None:
    recipe = Recipe()
    for section, name in ((recipe, "seed"), (recipe.rl, "num_steps"), (recipe.rl.algorithm, "lam")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, 1)


def test_the_held_out_model_takes_its_share_only_where_it_is_trained() -> None:
    shares = {"labels": "shares", "test_share": 0.6, "held_out_model_share": 0.3}
    with pytest.raises(UserError, match="less than a tenth of the pairs"):
        check_recipe({"reward": shares})
    assert check_recipe({"reward": {**shares, "held_out_model": False}}).reward.test_share == 0.6


POSITIVE = st.floats(1e-12, 1e6)
# "none" stands for nothing, so no file can be called that.
# Nor can a NUL stand in a name.
TEXT = st.text(min_size=1).filter(lambda text: text != "none" and "\0" not in text)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes that differ from the default in fields of every type."""
    ppo = st.builds(
        PpoConfig,
        kl_coef=st.floats(0, 10),
        clip_range_value=st.none() | POSITIVE,
        adaptive_kl=st.none() | st.builds(AdaptiveKlConfig, target=POSITIVE),
        whiten_rewards=st.booleans(),
        kl_estimator=st.sampled_from(["k1", "k2", "k3"]),
    )
    grpo = st.builds(
        GrpoConfig,
        group_size=st.integers(2, 99),
        clip_range_high=st.none() | POSITIVE,
        loss_over=st.sampled_from(["sequences", "tokens"]),
    )
    plain = Recipe()
    rl = plain.rl.model_copy(
        update={
            "algorithm": draw(ppo | grpo),
            "learning_rate": draw(POSITIVE),
            "kl_budget": draw(st.none() | POSITIVE),
            "policy": draw(st.none() | TEXT),
            "missing_eos_penalty": draw(st.floats(-1e9, 1e9)),
        }
    )
    sft = plain.sft.model_copy(update={"demonstrations": draw(TEXT)})
    name = draw(
        st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True).filter(
            lambda name: name != "none" and name.strip(".")
        )
    )
    return plain.model_copy(
        update={"name": name, "seed": draw(st.integers(0, 2**63 - 1)), "rl": rl, "sft": sft}
    )


@pytest.mark.slow
@settings(deadline=None)
@given(recipe=recipes())
def test_what_is_written_reads_back_the_same(recipe: Recipe, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("recipe") / "config.toml"
    path.write_text(to_toml(recipe), encoding="utf-8", newline="")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_published_recipes_read_back_the_same(path: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(load_recipe(path)), encoding="utf-8")
    assert load_recipe(tmp_path / "config.toml") == load_recipe(path)


def test_to_toml_names_every_setting() -> None:
    written = to_toml(Recipe()) + to_toml(check_recipe({"rl": {"algorithm": {"name": "grpo"}}}))
    for name in known_settings(Recipe):
        if not name.startswith("rl.algorithm.adaptive_kl."):  # off, so without settings
            assert name.rsplit(".", 1)[-1] in written


def test_settings_are_listed_with_default_and_meaning() -> None:
    listed = describe_settings().splitlines()
    assert "rl.algorithm.clip_range = 0.2  # ratio clipping of the policy loss" in listed
    assert 'rl.algorithm.adaptive_kl = "none"  # adapt kl_coef to a target' in listed
    assert 'model.dtype = "float32"' in listed
    assert "rl.algorithm.group_size = 8  # responses per prompt in a step" in listed
    first = [i for i, line in enumerate(listed) if line.startswith("rl.algorithm.name = ")]
    names = ("ppo", "grpo", "rloo")
    assert [listed[i] for i in first] == [f'rl.algorithm.name = "{name}"' for name in names]
    names = {line.split(" = ")[0] for line in listed if line}
    assert names <= set(known_settings(Recipe))


def test_the_textbook_defaults() -> None:
    """The published settings for a real model: SFT, reward model, PPO."""
    plain = Recipe()
    assert (plain.sft.num_epochs, plain.sft.learning_rate) == (3, 2e-5)
    assert (plain.reward.num_epochs, plain.reward.learning_rate) == (1, 1e-5)
    algorithm = plain.rl.algorithm
    assert (algorithm.num_epochs, plain.rl.learning_rate) == (4, 1e-6)
    assert (algorithm.clip_range, algorithm.kl_coef) == (0.2, 0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sft.num_epochs = inf", "sft.num_epochs"),
        ("sft.num_epochs = 1e18", "sft.num_epochs"),
        ("rl.algorithm.kl_coef = inf", "rl.algorithm.kl_coef"),
        ("rl.algorithm.kl_coef = nan", "rl.algorithm.kl_coef"),
        ("rl.missing_eos_penalty = nan", "rl.missing_eos_penalty"),
        ("dpo.objective.beta = 1e30", "dpo.objective.beta"),
        ("rl.learning_rate = 1e308", "rl.learning_rate"),
        ("lora.rank = 999999999999", "lora.rank"),
        ("lora.alpha = -inf", "lora.alpha"),
        ("rl.batch_size = 1000000000000", "rl.batch_size"),
        ("rl.num_steps = 99999999999999999999999", "rl.num_steps"),
        ("seed = 9223372036854775808", "seed"),
        ('rl.rewards = ["1e308 * a", "1 * b"]', "rl.rewards"),
        ('rl.rewards = ["inf * a"]', "rl.rewards"),
        ('sft.demonstrations = "a\\u0000b"', "NUL"),
        ('data.exclude = ["a\\u0000b"]', "NUL"),
        (f"seed = {'9' * 5000}", "not valid TOML"),
        (f"seed = {'9' * 4000}", "seed"),
        (f"seed = 0x{'f' * 5000}", "seed"),
        (f"seed = {'[' * 20000}{']' * 20000}", "nested too deep"),
        (f"{'a.' * 20000}b = 1", ""),
    ],
)
def test_numbers_and_texts_without_meaning(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert said in str(caught.value) and len(str(caught.value)) < 2000


def test_every_number_of_every_section_is_finite_and_bounded() -> None:
    """The kind, not a list: a setting that somebody adds is bounded, too."""
    numbers = [name for name, value in _leaves(Recipe().model_dump()) if type(value) is float]
    assert len(numbers) > 30
    for name in numbers:
        for bad in (math.inf, -math.inf, math.nan, 1e308):
            with pytest.raises(UserError, match=re.escape(name.rsplit(".", 1)[-1])):
                check_recipe(_nested(name, bad))


def _leaves(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        inner = isinstance(value, dict)
        found += _leaves(value, f"{prefix}{key}.") if inner else [(prefix + key, value)]
    return found


def _nested(name: str, value: Any) -> dict[str, Any]:
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


def test_kept_settings_of_another_release(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert kept_recipe(path) is None
    text = to_toml(Recipe(seed=5))
    lines = [line for line in text.splitlines() if not line.startswith(("split_seed", "patience"))]
    path.write_text("\n".join(["forgotten = 1", *lines, "gone = 2", "[old]", "x = 1"]))
    assert kept_recipe(path) == Recipe(seed=5)


def test_compiled_decoding_is_no_setting_any_more(tmp_path: Path) -> None:
    """A recipe is told; the settings of a run that was begun before are still read."""
    old = {"rl": {"sampling": {"compile": False}}}
    with pytest.raises(UserError, match=r"unknown setting 'rl\.sampling\.compile'"):
        check_recipe(old)
    path = tmp_path / "config.toml"
    path.write_text("[rl]\nsampling.compile = false\nnum_steps = 7\n")
    kept = kept_recipe(path)
    assert kept is not None and kept.rl.num_steps == 7


def test_before_folds_every_label_had_one_use(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[reward]\nheld_out_model_share = 0.22\n")
    kept = kept_recipe(path)
    assert kept is not None
    assert (kept.reward.labels, kept.reward.held_out_model_share) == ("shares", 0.22)


def test_changed_settings_are_those_of_the_stage() -> None:
    old = Recipe()
    new = check_recipe(
        {
            "name": "other",
            "num_threads": 1,
            "sft": {"learning_rate": 0.5, "save_every": 1, "demonstrations": "d.jsonl"},
            "rl": {"algorithm": {"name": "grpo"}},
            "lora": {"rank": 4},
        }
    )
    assert [one.key for one in changed_settings("sft", old, new)] == [
        "lora.rank",
        "sft.learning_rate",
    ]
    named = changed_settings("sft", old, new, by_content=False)
    assert "sft.demonstrations" in [one.key for one in named]
    assert [one.key for one in changed_settings("reward", old, new)] == ["lora.rank"]
    rl = {one.key: str(one) for one in changed_settings("rl", old, new)}
    assert rl["rl.algorithm.name"] == "rl.algorithm.name was 'ppo' and is now 'grpo'"
    assert rl["rl.algorithm.lam"] == "rl.algorithm.lam was 0.95 and is now None"
