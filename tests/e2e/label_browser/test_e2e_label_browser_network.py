"""When something fails between the page and the server, no judgement is lost and none doubled."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import delete, update

from alignloop.label.store.tables import Assignment, ItemRow, SignedIn

pytestmark = [pytest.mark.slow, pytest.mark.alone]
JUDGEMENT = "**/api/v1/assignments/*/judgement"


@pytest.fixture
def site(make_site: Any, make_item: Any) -> Any:
    return make_site([make_item(n, f"Q{n}?", f"one {n}", f"two {n}") for n in range(2)], overlap=1)


def decide(page: Page) -> str:
    """Choose the first answer; its text."""
    expect(page.locator(".task")).to_be_visible()
    page.keyboard.press("a")
    page.keyboard.press("9")
    return page.locator(".answer .formatted").first.inner_text().strip()


def done(page: Page) -> None:
    expect(page.locator('[data-pace="left"]')).to_have_text("about 1 left")


def test_a_judgement_survives_the_network_going_away(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    chosen = decide(page)
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    notice = page.locator("#notice")
    expect(notice).to_contain_text("No connection. Your work is kept here")
    page.keyboard.press("b")  # what is on its way does not change
    expect(page.locator(".answer.chosen")).to_contain_text(chosen)
    page.context.set_offline(False)
    done(page)
    expect(notice).to_be_hidden()
    (said,) = site.judgements()
    assert site.text_of(said.choice) == chosen


def test_an_answer_that_gets_lost_on_its_way_back_counts_once(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.post_data_json["key"])
        route.fetch()  # the server has it
        route.abort() if len(keys) == 1 else route.continue_()

    page.route(JUDGEMENT, lose)
    page.keyboard.press("Enter")
    done(page)
    assert len(keys) == 2 and len(set(keys)) == 1
    assert len(site.judgements()) == 1


def test_a_server_that_is_unwell_is_asked_again(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    answers = [503, 500]

    def fail(route: Route) -> None:
        route.fulfill(status=answers.pop(), body="{}") if answers else route.continue_()

    page.route(JUDGEMENT, fail)
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("The server is busy.")
    page.locator("#notice button").click()
    done(page)
    assert len(site.judgements()) == 1


def test_a_closed_page_sends_what_it_could_not(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    chosen = decide(page)
    page.route(JUDGEMENT, lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    page.unroute(JUDGEMENT)
    page.goto(f"{site.url}/login")
    page.goto(f"{site.url}/p/talk")
    done(page)
    (said,) = site.judgements()
    assert site.text_of(said.choice) == chosen


def test_a_session_that_ended_loses_nothing(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    with site.database.transaction() as session:
        session.execute(delete(SignedIn))
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("Your session has ended.")
    link = page.locator("#notice a")
    assert link.get_attribute("href") == "/login?after=/p/talk"
    assert site.judgements() == []
    cookie = {"name": "alignloop", "value": site.cookie("ann"), "url": site.url}
    page.context.add_cookies([cookie])
    page.goto(f"{site.url}/p/talk")
    done(page)
    assert len(site.judgements()) == 1


def test_an_item_that_went_to_somebody_else_is_told(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    lost = page.locator(".task").get_attribute("data-assignment")
    with site.database.transaction() as session:
        mine = session.get_one(Assignment, int(lost))
        session.execute(update(ItemRow).where(ItemRow.id == mine.item_id).values(taken=1))
        mine.state = "released"
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("given to another annotator")
    expect(page.locator(f'.task[data-assignment="{lost}"]')).to_have_count(0)
    assert site.judgements() == []
    assert page.evaluate("(id) => localStorage[`alignloop:draft:ann:${id}`]", lost)


def test_a_draft_outlives_the_page(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    chosen = decide(page)
    page.keyboard.press("c")
    page.keyboard.type("half a thought")
    page.reload()
    expect(page.locator("#comment")).to_have_value("half a thought")
    expect(page.locator(".answer.chosen")).to_contain_text(chosen)
    expect(page.locator(".state")).to_have_text("A is significantly better")


def test_somebody_else_at_this_computer_does_not_send_it(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    page.route(JUDGEMENT, lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    page.unroute(JUDGEMENT)
    cookie = {"name": "alignloop", "value": site.cookie("bob"), "url": site.url}
    page.context.add_cookies([cookie])
    page.goto(f"{site.url}/p/talk")
    expect(page.locator(".state")).to_have_text("Which is better?")
    assert site.judgements() == []


def test_a_page_that_was_open_for_days_can_still_submit(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    page.goto(f"{site.url}/login")  # the page itself keeps its clock when it is left
    open_for_days = "(key) => localStorage[key] = localStorage[key].replace(/[.\\d]+}$/, '3e8}')"
    page.evaluate(open_for_days, page.evaluate("Object.keys(localStorage)[0]"))
    page.goto(f"{site.url}/p/talk")
    expect(page.locator(".answer.chosen")).to_be_visible()
    page.keyboard.press("Enter")
    done(page)
    (said,) = site.judgements()
    assert said.client_ms == 24 * 3600 * 1000
    assert said.visible_ms == said.server_ms < 600_000  # so much time has not passed


def test_two_judgements_that_wait_are_both_sent(site: Any, open_page: Any) -> None:
    page = open_page(site, "/p/talk")
    decide(page)
    first = page.locator(".task").get_attribute("data-assignment")
    page.route(JUDGEMENT, lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    # What another tab could not send, of an item that is gone since.
    page.evaluate(
        "() => localStorage['alignloop:outbox:ann:999'] = JSON.stringify({assignment: 999, "
        "body: {key: 'of-another-tab', verdict: 'tie'}})"
    )
    assert page.evaluate("(id) => localStorage[`alignloop:outbox:ann:${id}`]", first)
    page.unroute(JUDGEMENT)
    page.goto(f"{site.url}/login")
    page.goto(f"{site.url}/p/talk")
    done(page)
    left = page.evaluate("Object.keys(localStorage).filter((key) => key.includes('outbox'))")
    assert (left, len(site.judgements())) == ([], 1)
