"""The admin in a real browser: who looks, with which password, and whatever goes wrong in a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # slow to import, for the tests that need no browser
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECRET = "sk-planted-secret-0123456789"
PASSWORD = "a-password-for-the-browser"


@dataclass
class Browsed:
    """A page and everything that went wrong in it."""

    page: "Page"
    root: str
    wrong: list[str] = field(default_factory=list)

    def open(self, path: str) -> "Page":
        self.page.goto(f"{self.root}/admin{path}")
        return self.page


@contextmanager
def logged_in(browser: "Browser", root: str, **context: Any) -> Iterator[Browsed]:
    """Whatever a page does wrong fails the test at its end."""
    opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    opened.set_default_timeout(20_000)
    browsed = Browsed(opened.new_page(), root)
    page = browsed.page
    page.on("console", lambda line: browsed.wrong.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: browsed.wrong.append(str(error)))
    page.on("request", lambda asked: browsed.wrong.append(asked.url) if _elsewhere(asked.url, root) else None)
    page.on("dialog", lambda dialog: browsed.wrong.append(f"dialog {dialog.message}"))
    browsed.open("/login/?next=/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{root}/admin/")
    yield browsed
    assert SECRET not in page.content()
    opened.close()
    assert browsed.wrong == []


def _elsewhere(url: str, root: str) -> bool:
    return not url.startswith((root + "/", "data:", "blob:"))
