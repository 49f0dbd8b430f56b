"""A labelling campaign with bad annotators, on the real store: who is named, and how soon.

Twelve annotators judge 2,000 pairs with overlap 3 under the default rules: two toss a coin, one
mostly takes the left answer, nine are right about 85 % of the time on ordinary pairs. A pair has a
difference d ~ Normal(0, SPREAD); a good annotator chooses the better answer with probability
sigmoid(|d| / noise), noise = exp(Normal(0, 0.15)) of each. Gold questions are pairs of the upper
half of |d|: a lead chooses clear ones (`--any-gold` takes them as they come).

    python benchmarks/campaign.py --seeds 20 --out build/campaign   # figures, and records of labels
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alignloop.label.store import judging, projects, queue
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.engine import writing
from alignloop.label.store.importing import NewItem, import_items
from alignloop.label.store.refusals import Paused
from alignloop.label.store.seats import people_in
from alignloop.label.store.tables import User
from alignloop.label.store.tasks import JudgementIn, LabelSchema, Task
from alignloop.records import Comparison, Message, Prompt, Response

SLUG, ITEMS, GOLD, OVERLAP = "campaign", 2000, 100, 3
SPREAD = 3.3  # of the differences; gives good annotators 85 %
NOISE = 0.15  # of the annotators' noises, in logs
BLIND = 0.7  # share of pairs of which the biased annotator takes the left one unread
KINDS = ("coin", "coin", "left", *["good"] * 9)
BEGAN = datetime(2026, 1, 5, 9, tzinfo=UTC)
LIMIT = 60  # items within which a bad annotator should be named


@dataclass(frozen=True, kw_only=True)
class Person:
    """An annotator: "coin", "left" or "good", with the noise of their judgement."""

    user_id: int
    name: str
    kind: str
    noise: float


def pairs(draw: random.Random, count: int, start: int, *, clear: bool) -> Iterator[tuple[Any, int]]:
    """Pairs with the index of their better answer; the texts hold the difference."""
    number = start
    while number < start + count:
        gap = draw.gauss(0, SPREAD)
        if clear and abs(gap) < 0.6745 * SPREAD:  # the median of |Normal|
            continue
        values = (gap / 2, -gap / 2)
        names = [f"p{number}#{place}" for place in (0, 1)]
        texts = [f"answer {place} worth {values[place]:.6f}" for place in (0, 1)]
        prompt = Prompt(
            prompt_id=f"p{number}", messages=(Message(role="user", content=f"question {number}"),)
        )
        made = Comparison(
            comparison_id=f"c{number}",
            prompt=prompt,
            responses=tuple(
                Response(response_id=name, text=text)
                for name, text in zip(names, texts, strict=True)
            ),
        )
        yield made, int(gap < 0)
        number += 1


def fill(database: Database, draw: random.Random, *, clear: bool) -> list[Person]:
    """The project with its items and people."""
    with database.transaction() as session:
        project = projects.create_project(session, SLUG, "Campaign", LabelSchema(strength=False))
        batch = projects.create_batch(session, project.id, "first", overlap=OVERLAP)
        users = [
            User(name=f"{kind}{n}", role="annotator", active=True, created_at=BEGAN)
            for n, kind in enumerate(KINDS)
        ]
        session.add_all(users)
        session.flush()
        people = [
            Person(user_id=user.id, name=user.name, kind=kind, noise=math.exp(draw.gauss(0, NOISE)))
            for user, kind in zip(users, KINDS, strict=True)
        ]
    items = [NewItem(comparison=made) for made, _ in pairs(draw, ITEMS, 0, clear=False)]
    items += [
        NewItem(comparison=made, gold=made.responses[best].response_id)
        for made, best in pairs(draw, GOLD, ITEMS, clear=clear)
    ]
    import_items(database, project.id, batch.id, items)
    return people


def said(person: Person, task: Task, draw: random.Random) -> JudgementIn:
    """What somebody says to a task: they see two texts, and all take the same time."""
    first, second = (float(answer.text.rsplit(" ", 1)[1]) for answer in task.answers)
    chance = 1 / (1 + math.exp(-(first - second) / person.noise))
    left = draw.random() < chance
    if person.kind == "coin":
        left = draw.random() < 0.5
    if person.kind == "left" and draw.random() < BLIND:
        left = True
    key = f"{person.user_id}-{task.assignment_id:08d}"
    seconds = draw.lognormvariate(3.0, 0.5)
    choice = task.answers[0 if left else 1].id
    return JudgementIn(
        key=key, verdict="choice", choice=choice, visible_ms=max(1600, round(1000 * seconds))
    )


def campaign(seed: int, *, clear: bool, out: Path | None) -> dict[str, Any]:
    """One campaign to its end; gives by annotator the item at which an alarm named them, if any."""
    draw = random.Random(f"campaign/{seed}")
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(folder)
        database.writer = writing(database.engine, durably=False)
        people = fill(database, draw, clear=clear)
        records = work(database, people, draw)
        with database.reading() as session:
            project = projects.get_project(session, SLUG)
            seats = dict(people_in(session, project.id))
        named = named_at(database)
        database.close()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (out / f"labels-{seed}.jsonl").write_text(lines, encoding="utf-8")
    return {
        "seed": seed,
        "judgements": len(records),
        "people": {
            one.name: {
                "kind": one.kind,
                "items": seats[one.name].turn,
                "named_at": named.get(one.name, (None, ""))[0],
                "by": named.get(one.name, (None, ""))[1],
                "gold": seats[one.name].gold,
            }
            for one in people
        },
    }


def work(database: Database, people: list[Person], draw: random.Random) -> list[dict[str, Any]]:
    """Everybody judges in turn until nothing is left for them or they are paused.

    Gives the labels as records: who said what of which pair, and whether it was right.
    """
    at, working = BEGAN, list(people)
    records: list[dict[str, Any]] = []
    while working:
        draw.shuffle(working)
        for person in list(working):
            with database.transaction() as session:
                try:
                    task = queue.claim(session, SLUG, person.user_id, at=at)
                except Paused:
                    task = None
                if task is None:
                    working.remove(person)
                    continue
                sent = said(person, task, draw)
                later = at + timedelta(milliseconds=sent.visible_ms)
                judging.submit(session, task.assignment_id, person.user_id, sent, at=later)
            records.append(record_of(person, task, sent, later))
        at += timedelta(minutes=1)
    return records


def record_of(person: Person, task: Task, sent: JudgementIn, at: datetime) -> dict[str, Any]:
    """A label as a line of JSON: chosen and rejected texts, by whom, and whether it was right."""
    chosen, rejected = sorted(task.answers, key=lambda answer: answer.id != sent.choice)
    values = [float(one.text.rsplit(" ", 1)[1]) for one in (chosen, rejected)]
    return {
        "prompt": task.prompt[-1].text,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "annotator": person.name,
        "kind": person.kind,
        "left": chosen.label == "A",
        "right": values[0] > values[1],
        "at": at.isoformat(),
    }


def named_at(database: Database) -> dict[str, tuple[int, str]]:
    """The item and the check of each annotator's first alarm."""
    from alignloop.label.store.events import events_after

    found: dict[str, tuple[int, str]] = {}
    with database.reading() as session:
        for event in events_after(session, 0, limit=10_000):
            if event.kind == "annotator flagged":
                found.setdefault(event.data["annotator"], (event.data["turn"], event.data["check"]))
    return found


def summary(results: list[dict[str, Any]]) -> str:
    """A table: by seed when the bad ones were named, and how many good ones were."""
    lines = ["seed  coin, coin, left: item at the first alarm (check)        good named"]
    late = false = bad = 0
    for result in results:
        people = result["people"].values()
        shown = [f"{one['named_at']} ({one['by']})" for one in people if one["kind"] != "good"]
        good = [name for name, one in result["people"].items() if is_false(one)]
        late += sum(one["kind"] != "good" and (one["named_at"] or 999) > LIMIT for one in people)
        bad += sum(one["kind"] != "good" for one in people)
        false += len(good)
        lines.append(f"{result['seed']:>4}  {', '.join(shown):<58} {', '.join(good) or 'none'}")
    items = sorted(
        one["named_at"] or 999
        for result in results
        for one in result["people"].values()
        if one["kind"] != "good"
    )
    middle, most = items[len(items) // 2], items[-1]
    lines.append(
        f"bad annotators: {bad}, median {middle} items, most {most}, later than {LIMIT}: {late};"
        f" good annotators named: {false} of {9 * len(results)}"
    )
    return "\n".join(lines)


def is_false(one: dict[str, Any]) -> bool:
    """Whether an alarm named somebody good."""
    return one["kind"] == "good" and one["named_at"] is not None


def main() -> None:
    """Run the campaigns and print the table; results and labels go to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--any-gold", action="store_true", help="gold as hard as other pairs")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes) as pool:
        jobs = [
            pool.submit(campaign, seed, clear=not options.any_gold, out=options.out)
            for seed in seeds
        ]
        for job in jobs:
            results.append(job.result())
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(summary(results))
    if options.out is not None:
        (options.out / "campaign.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
