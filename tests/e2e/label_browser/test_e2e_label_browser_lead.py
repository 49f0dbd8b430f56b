"""What a lead does on the pages, from the first link to the export."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from alignloop.label.store import accounts

pytestmark = [pytest.mark.slow, pytest.mark.alone]
PASSWORD = "a calm and long sentence"


def fill(page: Page, form: str, **fields: str) -> None:
    """Fill in the fields of the form that posts to an address ending so, and send it."""
    place = page.locator(f'form[data-send$="{form}"]')
    for name, value in fields.items():
        field = place.locator(f'[name="{name}"]')
        if field.evaluate("(one) => one.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    place.locator("button.primary").click()


def test_invitation_sign_in_and_sign_out(make_site: Any, open_page: Any) -> None:
    site = make_site([])
    with site.database.transaction() as session:
        token = accounts.invite(session, "annotator")
    page = open_page(site, f"/invite/{token}", user=None)
    page.locator('[name="name"]').fill("zoe")
    page.locator('[name="password"]').fill(PASSWORD)
    page.locator("[data-same]").fill("something else")
    page.locator("button.primary").click()
    expect(page.locator(".answer")).to_have_text("The two passwords differ.")
    page.locator("[data-same]").fill(PASSWORD)
    page.locator("button.primary").click()
    expect(page.locator("h1")).to_have_text("Projects")
    page.wait_for_load_state()  # a person does not press in the moment before the script is there
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_have_text("Sign in")
    page.goto(f"{site.url}/p/talk")
    expect(page).to_have_url(f"{site.url}/login?after=/p/talk")
    fill(page, "/login", name="zoe", password="wrong")
    expect(page.locator(".answer")).to_have_text("This name and password do not fit together.")
    fill(page, "/login", name="zoe", password=PASSWORD)
    expect(page.locator("#nothing")).to_be_visible()
    page.goto(f"{site.url}/invite/{token}")
    expect(page.locator("h1")).to_have_text("This link no longer works")


def test_from_a_project_to_an_export(make_site: Any, open_page: Any, tmp_path: Path) -> None:
    site = make_site([], slug="other")
    page = open_page(site, "/", user="lea")
    page.locator("details.add summary").click()
    fill(page, "/projects", title="New one", slug="new-one")
    expect(page.locator("h2").filter(has_text="New one")).to_be_visible()

    page.goto(f"{site.url}/lead/new-one/batches")
    fill(page, "/batches", name="pilot", overlap="1", repeats="0")
    expect(page.locator("tbody th")).to_have_text("pilot")
    rows = [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(3)]
    upload = tmp_path / "pairs.jsonl"
    upload.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"nonsense": 1}]))
    page.locator('input[type="file"]').set_input_files(upload)
    fill(page, "/import", batch="pilot")
    expect(page.locator(".answer.message")).to_contain_text("Added 3, there already 0, refused 1.")

    page.goto(f"{site.url}/lead/new-one/guideline")
    page.locator('[name="text_en"]').fill("Prefer the **kind** answer.")
    page.locator("button.primary").click()
    expect(page.locator(".version").first).to_contain_text("Version 2")
    expect(page.locator(".version strong")).to_have_text("kind", use_inner_text=True)

    page.goto(f"{site.url}/p/new-one")
    for _ in range(3):
        expect(page.locator(".task")).to_be_visible()
        old = page.locator(".task").get_attribute("data-assignment")
        for key in ("a", "8", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(f'.task[data-assignment="{old}"]')).to_have_count(0)

    page.goto(f"{site.url}/lead/new-one/exports")
    fill(page, "/exports", kind="pairs", format="jsonl")
    with page.expect_download() as downloading:
        page.locator("tbody a").click()
    lines = Path(downloading.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and "provenance" in json.loads(lines[0])

    page.goto(f"{site.url}/lead/new-one/batches")
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".badge")).to_have_text("closed")


def test_deciding_a_disagreement(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site([make_item(1, "Which?", "good", "bad")])
    for user, wanted in (("ann", "good"), ("bob", "bad")):
        page = open_page(site, "/p/talk", user=user)
        expect(page.locator(".task")).to_be_visible()
        first = page.locator(".answer .formatted").first.inner_text().strip()
        for key in ("a" if first == wanted else "b", "9", "Enter"):
            page.keyboard.press(key)
        expect(page.locator("#nothing")).to_be_visible()
    page = open_page(site, "/lead/talk/disagreements", user="lea")
    page.get_by_role("link", name="Which?").click()
    expect(page.locator("h2").filter(has_text="Answer")).to_have_count(2)
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("tbody .badge")).to_have_text("decided")
    page.get_by_role("link", name="Which?").click()
    expect(page.locator(".message.good")).to_contain_text("lea decided: A is better.")


def test_people_and_tokens(make_site: Any, open_page: Any) -> None:
    site = make_site([])
    page = open_page(site, "/lead/users", user="lea")
    fill(page, "/users", name="zoe", role="annotator")
    link = page.locator(".secret").inner_text()
    assert link.startswith(f"{site.url}/invite/")
    row = page.locator("tr").filter(has_text="bob")
    row.get_by_role("button", name="Disable").click()
    expect(row.locator(".badge")).to_have_text("disabled")
    page.goto(f"{site.url}/lead/tokens")
    fill(page, "/tokens", name="nightly", user="lea")
    secret = page.locator(".secret").inner_text()
    assert len(secret) > 20
    page.goto(f"{site.url}/lead/tokens")
    expect(page.locator("tbody th")).to_have_text("nightly")
    assert secret not in page.content()
    page.goto(f"{site.url}/lead/audit")
    told = page.locator("tbody").inner_text()
    assert all(one in told for one in ("invited", "disabled", "token made"))
