"""The demo: what is in it, that it is the same for everybody, and that nobody's account is open."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from alignloop.errors import UserError
from alignloop.label.demo import make_demo, run_demo
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.quality.report import QualityReport, quality_report
from alignloop.label.store.database import open_labels
from alignloop.label.store.projects import get_project
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import User
from alignloop.playground import DEMO
from alignloop.playground.annotators import PEOPLE
from alignloop.playground.at_work import work

NOW = datetime(2026, 3, 9, 17, 0, tzinfo=UTC)
WORKERS = {person.annotator_id: partial(work, person=person, seed=0) for person in PEOPLE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo") / "project"
    make_demo(made, DEMO, WORKERS, at=NOW)
    return made


@pytest.fixture(scope="module")
def labels(folder: Path) -> ProjectLabels:
    return labels_of(folder, "demo")


@pytest.fixture(scope="module")
def report(labels: ProjectLabels) -> QualityReport:
    return quality_report(labels, NOW)


def labels_of(folder: Path, slug: str) -> ProjectLabels:
    database, _ = open_labels(str(folder))
    with database.reading() as session:
        found = load_labels(session, get_project(session, slug).id)
    database.close()
    return found


def test_the_package_data_are_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 300_000


@pytest.mark.slow
def test_both_languages_gold_repeats_and_rankings_are_there(
    folder: Path, labels: ProjectLabels
) -> None:
    languages = {item.prompt.language for item in labels.items.values()}
    assert languages == {"en", "zh"}
    assert {"gold", "repeat", "import"} <= {item.why for item in labels.items.values()}
    assert {a.model for i in labels.about_answers.items.values() for a in i.answers} == {
        "sft",
        "rl",
    }
    rankings = labels_of(folder, "demo-ranking")
    assert {len(item.answers) for item in rankings.items.values()} == {4}
    assert any(judged.ranking for judged in rankings.judgements)


def test_the_leads_screens_have_something_to_show(report: QualityReport) -> None:
    assert report.overall.units > 20 and report.overall.alpha is not None
    assert {one.annotator for one in report.annotators} == set(WORKERS)
    # who meets which gold question hangs on the project's secret, and one may meet none
    gold = [one.gold for one in report.annotators if one.gold is not None]
    assert len(gold) >= 3 and sum(g.value * g.n for g in gold) / sum(g.n for g in gold) > 0.6
    assert len(report.by_category) >= 5 and report.confusions
    assert report.models[0].ability is not None
    # there is work left for whoever tries it, and a pace
    assert report.forecast.left > 0 and report.forecast.done_on is not None


def test_the_work_lies_in_the_days_before(labels: ProjectLabels) -> None:
    days = {(NOW - judged.created_at).days for judged in labels.judgements}
    assert len(days) >= 4
    assert all(timedelta() < NOW - one.created_at < timedelta(days=7) for one in labels.judgements)


def test_nobody_can_sign_in_as_a_simulated_person(folder: Path) -> None:
    database, _ = open_labels(str(folder))
    with database.reading() as session:
        users = list(session.scalars(select(User)))
    database.close()
    assert len(users) == len(PEOPLE)
    assert all(user.password_hash is None and user.role == "annotator" for user in users)


def test_a_demo_is_served_and_what_is_there_stays(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is a project here already"):
        make_demo(folder, DEMO, WORKERS)
    served: list[str] = []
    run_demo(DEMO, {}, str(tmp_path / "new"), 0, serve=lambda o: served.append(o.project))
    run_demo(DEMO, {}, None, 0, serve=lambda o: served.append(o.project))
    assert served[0] == str(tmp_path / "new")
    assert labels_of(tmp_path / "new", "demo").items
    assert not Path(served[1]).exists()  # a temporary one is gone with the server
