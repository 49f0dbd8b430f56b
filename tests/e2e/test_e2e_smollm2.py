"""recipes/smollm2: what prepare.py makes of the published files, and what it says without them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import load_recipe
from alignloop.data.formats import read_pairs
from alignloop.judging.of_run import trained
from alignloop.reward.labels import share_out

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/smollm2"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def prepare() -> Any:
    spec = importlib.util.spec_from_file_location("prepare", RECIPE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_files_it_says_where_they_are(
    prepare: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = tmp_path / "helpful" / "koala_test_set.jsonl"
    there.parent.mkdir()
    there.write_text("", encoding="utf-8")
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["prepare.py", "--data", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        prepare.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "5 files are missing" in message
    assert "pref_en/hh_harmless_base_test.jsonl.gz" in message
    assert "github.com/anthropics/hh-rlhf, harmless-base/test.jsonl.gz at 354e5c3cb896" in message
    assert "koala" not in message
    assert not out.exists()


@pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not on this machine")
def test_no_prompt_stands_in_two_files(prepare: Any, tmp_path: Path) -> None:
    sets = prepare.record_sets(DATA)
    assert set(sets) == {"demonstrations", "pairs", "prompts", "held_out"}

    def asked(record: Any) -> str:
        return repr([(m.role, m.content) for m in getattr(record, "prompt", record).messages])

    prompts = {name: {asked(record) for record in records} for name, records in sets.items()}
    names = sorted(prompts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not prompts[one] & prompts[other], (one, other)
    assert len(sets["pairs"]) == prepare.NUM_PAIRS
    assert {p.category for p in sets["held_out"]} == {"harmful", "everyday"}
    # the run's own splits find pairs for every use in what is left
    path = prepare.write(tmp_path / "pairs.jsonl", sets["pairs"])
    recipe = load_recipe(RECIPE)
    splits = recipe.data.split_seed
    models = share_out(read_pairs(str(path)), recipe.reward, splits, trained(recipe))
    assert len(models) == 3
    for labels in models.values():
        assert min(len(labels.train), len(labels.test)) >= 0.25 * len(sets["pairs"])


def test_the_recipe_names_what_prepare_makes(prepare: Any) -> None:
    recipe = load_recipe(RECIPE)
    files = (recipe.sft.demonstrations, recipe.reward.pairs, recipe.rl.prompts)
    for path in (*files, recipe.evaluate.prompts, recipe.model.path):
        assert path.startswith("runs/smollm2-inputs/")
