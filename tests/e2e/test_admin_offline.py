"""The admin's and the OpenAPI page's files come from the server itself, without collectstatic."""

import http.cookiejar
import re
import urllib.parse
import urllib.request

import pytest

from tests.e2e.processes import Process


def page(server: Process, path: str) -> str:
    with urllib.request.urlopen(server.root + path, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("path", ["/admin/login/", "/docs"])
def test_every_file_of_the_page_is_served_here(server: Process, path: str):
    html = page(server, path)
    files = re.findall(r'<(?:link|script)[^>]+(?:href|src)="([^"]+\.(?:css|js))(?:\?[^"]*)?"', html)
    assert files
    for file in files:
        assert not file.startswith(("http:", "https:", "//")), file
        with urllib.request.urlopen(server.root + file, timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
            assert len(answer.read()) > 100


def test_the_admin_is_reached_with_the_password_that_the_start_showed(server: Process):
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with browser.open(server.root + "/admin/login/?next=/admin/", timeout=10) as answer:
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())
    assert token is not None
    password = re.search(r"password (\S+) \(shown this once\)", server.output())
    assert password is not None
    form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": password[1], "next": "/admin/"}
    with browser.open(server.root + "/admin/login/?next=/admin/", urllib.parse.urlencode(form).encode()) as answer:
        assert answer.geturl() == server.root + "/admin/"
    cookies = {cookie.name: cookie for cookie in jar}
    assert cookies["llmproxy_session"].has_nonstandard_attr("HttpOnly")
