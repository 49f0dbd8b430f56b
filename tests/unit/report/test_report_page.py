"""The page: complete, harmless, honest, and there for every state of a run."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from alignloop.config import Recipe, to_toml
from alignloop.errors import UserError
from alignloop.report import write_report
from alignloop.report.page import headline, phase_seconds, read_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Every element, id and visible text of a page; raises where elements do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        assert last == tag, f"</{tag}> closes <{last}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def page_of(run_path: Path) -> Page:
    return Page(write_report(run_path).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_finished_run_fills_every_section(finished_html: str) -> None:
    page = Page(finished_html)
    assert "Not there yet" not in page.text
    assert "RLHF made the answers better, by the made-up judge." in page.text
    assert (
        "Judge: judge reward model, trained on 3600 of 5400 pairs (1800"
        " also trained the model RL optimised), right on 76.4 % [74–78 %] of 1800 unseen pairs."
        in page.text
    )
    assert "On 300 prompts (new wordings of known requests; 3 of 300 are in training files)" in (
        page.text
    )
    assert "On 300 prompts (requests never seen in training) the RLHF answer wins" in page.text
    assert "Helpfulness, 0 to 1: from 0.42 to 0.78." in page.text
    assert "Harmful requests complied with: from 41.0 % to 6.0 %." in page.text
    judged = "81.0 % of the comparisons by the judge reward model (95 % interval 77–85 %)"
    assert f"wins {judged}" in page.text
    assert "81.0 % wins over SFT [77–85 %], by the judge reward model" in page.text  # its box
    assert "Score by the judge reward model, 0 to 1" in page.text
    assert "Score by the gold rubric" in page.text and "Gold score" not in page.text
    assert "the checkpoint of step 120 was kept, 19.2 nats from the SFT model" in page.text
    assert "ECE 3.1 %" in page.text
    assert "14 min 58 s" in page.text  # 95.2 + 141 + 603.4 + 58 = 897.6 s
    articles = [a for tag, a in page.elements if tag == "article"]
    assert len(articles) == 20
    assert {a["lang"] for a in articles} == {"en", "zh"}


def test_the_page_loads_and_runs_nothing(finished_html: str) -> None:
    page = Page(finished_html)
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert "script" not in policy
    assert page.tags().isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base"})
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), attributes
    assert re.search(r"https?://|@import|url\((?!#)", finished_html) is None


def test_what_a_model_says_is_text(finished_html: str) -> None:
    assert '<script>alert("x")' not in finished_html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in finished_html


@pytest.mark.slow
def test_hostile_names_and_prompts_are_text_too(run_path: Path) -> None:
    evil = "<script>1</script>"
    path = run_path / "evaluate" / "answers.jsonl"
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    row["prompt"] |= {"category": evil, "language": f'"{evil}'}
    row["prompt"]["messages"] = [{"role": "system", "content": evil}, *row["prompt"]["messages"]]
    row["policy"]["reasons"] = [evil]
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    lineage = {"sft": {"recorded_at": evil, "inputs": {evil: evil}, "note": evil}}
    (run_path / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    page = page_of(run_path)
    assert "script" not in page.tags()
    assert page.text.count(evil) >= 7


def test_ids_are_unique_and_links_lead_somewhere(finished_html: str) -> None:
    page = Page(finished_html)
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for _, a in page.elements if (a.get("href") or "")[:1] == "#"}
    assert targets <= set(ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gone", "commands"),
    [
        (("evaluate",), {"evaluate"}),
        (("evaluate", "rl"), {"evaluate", "rl"}),
        (("evaluate", "rl", "reward"), {"evaluate", "rl", "reward"}),
        (("sft", "reward", "rl", "evaluate"), {"sft", "evaluate", "rl", "reward"}),
    ],
)
def test_an_unfinished_run_says_what_is_missing(
    run_path: Path, gone: tuple[str, ...], commands: set[str]
) -> None:
    for stage in gone:
        shutil.rmtree(run_path / stage)
    for name in ("metrics.jsonl", "samples.jsonl"):
        lines = (run_path / name).read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not json.loads(line)["stage"].startswith(gone)]
        (run_path / name).write_text("".join(kept), encoding="utf-8")
    page = page_of(run_path)
    assert set(re.findall(r"alignloop (\w+) makes this section", page.text)) == commands
    assert set(re.findall(r"not run yet: alignloop (\w+)", page.text)) == commands


def test_a_stage_that_the_run_does_not_have_is_not_waited_for(run_path: Path) -> None:
    for stage in ("sft", "reward"):
        shutil.rmtree(run_path / stage)
    rewarded = {"rl": {"rewards": ["verifiable:numeric_answer"]}, "sft": {"demonstrations": None}}
    config = to_toml(Recipe.model_validate({**rewarded, "model": {"path": "mine"}}))
    (run_path / "config.toml").write_text(config, encoding="utf-8")
    page = page_of(run_path)
    assert "not run yet" not in page.text and "Not there yet" not in page.text
    assert "none: rewarded by verifiable:numeric_answer" in page.text
    assert "none: the run starts from mine" in page.text


@pytest.mark.slow
def test_a_run_without_critic_and_reference_is_complete(run_path: Path) -> None:
    """GRPO by its name, no KL anywhere, and no section that claims to be missing."""
    config = to_toml(Recipe.model_validate({"rl": {"algorithm": {"name": "grpo"}}}))
    (run_path / "config.toml").write_text(config, encoding="utf-8")
    unknown = ("kl", "validation_kl", "value_loss", "explained_variance")
    lines = (run_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k not in unknown} for line in lines]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    done = json.loads((run_path / "rl" / "done.json").read_text(encoding="utf-8"))
    done["facts"]["kl"] = None
    (run_path / "rl" / "done.json").write_text(json.dumps(done), encoding="utf-8")
    page = page_of(run_path)
    assert "Not there yet" not in page.text
    assert "GRPO ran 200 steps" in page.text and "PPO ran" not in page.text
    assert "checkpoint of step 120 was kept." in page.text
    assert "The KL to the SFT model was not measured" in page.text
    assert "Value loss" not in page.text and "Reward score" in page.text


@pytest.mark.slow
def test_dpo_has_its_curves_where_it_ran(run_path: Path, finished_html: str) -> None:
    row = {"stage": "dpo", "time": 0.0, "loss": 0.69, "accuracy": 0.5, "held_out_loss": 0.7}
    with (run_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({**row, "step": step}) + "\n" for step in (1, 2))
    text = page_of(run_path).text
    assert "DPO loss" in text and "DPO accuracy" in text
    assert "DPO" not in Page(finished_html).text.replace("dpo", "")


def test_the_times_are_those_of_all_parts(run_path: Path) -> None:
    """Held-out model 10 s and comparisons 20 s count to the reward stage: 141 + 30."""
    for part, seconds in (("reward_held_out", 10.0), ("comparisons", 20.0), ("dpo", 3.0)):
        (run_path / part).mkdir(exist_ok=True)
        done = json.dumps({"facts": {"seconds": seconds}})
        (run_path / part / "done.json").write_text(done, encoding="utf-8")
    assert read_run(run_path).seconds == pytest.approx(
        {"sft": 95.2, "reward": 171.0, "rl": 603.4, "dpo": 3.0, "evaluate": 58.0}
    )


def test_a_run_that_has_only_settings_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('name = "young"\n', encoding="utf-8")
    page = page_of(tmp_path)
    assert "young" in page.text
    assert "The models have not been compared yet." in page.text


@pytest.mark.slow
def test_what_cannot_be_trusted_is_called_neither_better_nor_worse(run_path: Path) -> None:
    path = run_path / "evaluate" / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    assert "better-text" in write_report(run_path).read_text(encoding="utf-8").split("<main>")[1]
    results["verdict"]["findings"][0]["weight"] = "untrusted"
    path.write_text(json.dumps(results), encoding="utf-8")
    body = write_report(run_path).read_text(encoding="utf-8").split("<main>")[1]
    table = body[body.index('id="before-after"') : body.index('id="answers"')]
    assert "better-text" not in table and 'class="badge better"' not in table
    assert "Nothing is called better or worse" in table


@pytest.mark.slow
def test_answers_without_a_judge_are_shown(run_path: Path) -> None:
    path = run_path / "evaluate" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for model in ("sft", "policy"):
            keep = ("response", "num_tokens", "finish_reason")
            row[model] = {k: v if k in keep else None for k, v in row[model].items()}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = page_of(run_path)
    assert "score 0" not in page.text
    assert "重力让物体相互吸引。" in page.text


@pytest.mark.slow
def test_a_model_from_before_sft_has_a_column_of_its_own(run_path: Path) -> None:
    assert "Base" not in page_of(run_path).text
    path = run_path / "evaluate" / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    first = next(iter(results["sets"].values()))
    first["overall"]["base"] = first["overall"]["sft"] | {
        "helpfulness": {"value": 0.1234, "low": 0.1, "high": 0.2, "n": 300}
    }
    path.write_text(json.dumps(results), encoding="utf-8")
    path = run_path / "evaluate" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["base"] = row["sft"] | {"response": "what it said before"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = page_of(run_path)
    assert "Base is the model that SFT started from" in page.text
    assert "0.12" in page.text
    assert "what it said before" in page.text


@pytest.mark.slow
def test_the_settings_wanted_decide_how_many_answers_are_shown(run_path: Path) -> None:
    config = (run_path / "config.toml").read_text(encoding="utf-8")
    (run_path / "config.toml").write_text(
        config.replace("num_samples_shown = 20", "num_samples_shown = 3"), encoding="utf-8"
    )
    assert [tag for tag, _ in page_of(run_path).elements].count("article") == 3


@pytest.mark.slow
def test_the_same_files_give_the_same_page_and_nothing_else(run_path: Path) -> None:
    before = set(run_path.iterdir())
    first = write_report(run_path).read_bytes()
    assert write_report(run_path).read_bytes() == first
    assert set(run_path.iterdir()) - before == {run_path / "report.html"}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluate/results.json", "{", "not JSON"),
        ("config.toml", "= 3", "not TOML"),
        ("evaluate/answers.jsonl", '{"set": "wordings"}\n', "not an evaluated prompt"),
        ("evaluate/answers.jsonl", '{"prompt": {"prompt_id": 3}}\n', "not an evaluated prompt"),
    ],
)
def test_a_broken_file_is_named(run_path: Path, name: str, content: str, message: str) -> None:
    (run_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        write_report(run_path)
    assert caught.value.where == str(run_path / name)


def test_the_report_repeats_the_verdict_and_makes_none_of_its_own() -> None:
    assert headline({}).mood == "unknown"
    old = {"judge": "an old one", "win_rate": {}}
    assert headline(old).mood == "unknown" and "without a verdict" in headline(old).english
    doubt = {"mood": "untrusted", "english": "No.", "chinese": "否。", "findings": []}
    assert headline({**old, "verdict": doubt}).mood == "untrusted"


def test_phase_seconds_are_means_over_the_steps_that_have_them() -> None:
    lines = [
        {"stage": "rl", "step": 0},
        {"stage": "rl", "rollout_seconds": 1.0, "scoring_seconds": 1.0, "update_seconds": 2.0},
        {"stage": "rl", "rollout_seconds": 3.0, "scoring_seconds": 1.0, "update_seconds": None},
    ]
    assert phase_seconds(lines) == [
        ("rollout", 2.0, 0.4),
        ("scoring", 1.0, 0.2),
        ("update", 2.0, 0.4),
    ]


@pytest.mark.slow
def test_the_report_needs_no_torch() -> None:
    code = (
        "import sys, alignloop.report; print('torch' in sys.modules, 'pyplot' in str(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.split() == ["False", "False"]
