"""Write the figures of finished runs into the READMEs: the first in full, each as one row.

python docs/update_results.py runs/playground [runs/playground-seed1 ...]
"""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignloop.measures import Measure
from alignloop.report import save_curves_png
from alignloop.report.tables import measures_of

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
CURVES = "docs/images/curves.png"
PAGES = {
    "README.md": 0,
    "README.zh-CN.md": 1,
    "src/alignloop/recipes/playground/README.md": 0,
}  # language
ABOUT_A_RUN = (
    ("Seed", "种子"),
    ("Seconds, all stages", "全部阶段用时（秒）"),
    ("Reward model's accuracy [95 %]", "奖励模型准确率 [95%]"),
    ("Ceiling by agreement", "一致性给出的上限"),
    ("'The longer wins'", "“长者胜”"),
    ("Calibration error", "校准误差"),
    ("KL of the last step, nats", "末步 KL（奈特）"),
    ("Kept step", "保留的步"),
)
SIDES = ("sft", "policy")
Summary = dict[str, Any]


def read_summary(folder: Path) -> Summary:
    """summary.json with the run's name and seed; raises SystemExit where it is not finished."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is missing: run `alignloop run` first") from None
    if missing := {"reward", "rl", "evaluate"} - set(summary):
        raise SystemExit(f"{folder} is not finished: it lacks {', '.join(sorted(missing))}")
    return {**summary, "name": folder.resolve().name, "seed": config["seed"]}


def render(runs: Sequence[Summary], image: str, language: int) -> str:
    """What stands between the markers: source, table, plot, and the table by seed."""
    command = " ".join(["python docs/update_results.py", *(f"runs/{run['name']}" for run in runs)])
    source = (f"Written by `{command}`.", f"由 `{command}` 写入。")[language]
    plot = f"![{('Curves of the first run', '第一个运行的曲线')[language]}]({image})"
    return "\n\n".join([source, before_after(runs[0], language), plot, by_seed(runs, language)])


def before_after(run: Summary, language: int) -> str:
    """One row per measure; for each held-out set a column before and a column after."""
    sets = run["evaluate"]
    heads = [f"{name}: {who}" for name in sets for who in ("SFT", "RLHF")]
    rows = [
        [name_of(measure, language)]
        + [number(one[who].get(measure.key), measure) for one in sets.values() for who in SIDES]
        for measure in measures_of(run)
    ]
    wins = ("Win rate against SFT [95 %]", "对 SFT 的胜率 [95%]")[language]
    cells = [cell for one in sets.values() for cell in ("", with_interval(one, "win_rate"))]
    return table([("Figure", "指标")[language], *heads], [*rows, [wins, *cells]])


def by_seed(runs: Sequence[Summary], language: int) -> str:
    """One column per run: reward model, distance from SFT, and before → after by held-out set."""
    labels = [pair[language] for pair in ABOUT_A_RUN]
    wins = ("win rate", "胜率")[language]
    for name in runs[0]["evaluate"]:
        labels += [f"{name}: {name_of(one, language)}" for one in of_judge(runs[0])]
        labels.append(f"{name}: {wins} [95 %]")
    columns = [column_of(run) for run in runs]
    heads = [("Figure", "指标")[language], *(run["name"] for run in runs)]
    return table(heads, [list(row) for row in zip(labels, *columns, strict=True)])


def column_of(run: Summary) -> list[str]:
    """The cells of one run, in the order of the labels."""
    card, rl = run["reward"], run["rl"]
    cells = [str(run["seed"]), f"{run['seconds']['total']:.0f}", with_interval(card, "accuracy")]
    cells += [number(card[key]) for key in ("ceiling", "longer_wins", "ece")]
    cells += ["–" if rl["kl"] is None else f"{rl['kl']:.1f}", str(rl["best_step"])]
    for one in run["evaluate"].values():
        keys = [measure.key for measure in of_judge(run)]
        cells += [" → ".join(number(one[who].get(key)) for who in SIDES) for key in keys]
        cells.append(with_interval(one, "win_rate"))
    return cells


def with_interval(values: Summary, key: str) -> str:
    return f"{number(values[key])} [{', '.join(number(end) for end in values[f'{key}_ci'])}]"


def number(value: float | None, measure: Measure | None = None) -> str:
    plain = measure is not None and measure.style == "plain"
    return "–" if value is None else format(value, ".1f" if plain else ".3f")


def name_of(measure: Measure, language: int) -> str:
    return (measure.english, measure.chinese)[language]


def of_judge(run: Summary) -> list[Measure]:
    """What the judge measures of some prompts each, which is looked at for every seed."""
    return [one for one in measures_of(run) if one.by_slice]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (heads, ["---", *["---:"] * (len(heads) - 1)], *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def replace_between(text: str, content: str) -> str:
    """The text with `content` between the markers, which stay; SystemExit without markers."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"the markers {BEGIN} and {END} are missing")
    return f"{text.split(BEGIN)[0]}{BEGIN}\n{content}\n{END}{text.split(END)[-1]}"


def main(folders: Sequence[str], root: Path) -> None:
    """Rewrite all pages below `root` and draw the plot of the first run."""
    runs = [read_summary(Path(folder)) for folder in folders]
    for page, language in PAGES.items():
        content = render(runs, "../" * page.count("/") + CURVES, language)
        text = (root / page).read_text(encoding="utf-8")
        (root / page).write_text(replace_between(text, content), encoding="utf-8")
    save_curves_png(folders[0], root / CURVES)


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__), Path(__file__).parents[1])
