"""What `manage.py serve` writes to standard error: a line per request, and never a key."""

import http.client
import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from tests.e2e.processes import Process, serve

KEY = "key/of+the-upstream=="
CONFIG = """
model_groups:
  - model_group: g
    models: [{name: away, model: m, params: {base_url: "http://127.0.0.1:9/v1", api_key: os.environ/SOME_KEY}}]
general_settings: {num_retries: 0}
"""


def ask(process: Process, model: str, request_id: str) -> int:
    body = json.dumps({"model": model, "messages": []}).encode()
    headers = {"content-type": "application/json", "x-request-id": request_id, "authorization": f"Bearer {KEY}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{process.url}/chat/completions", body, headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def open_websocket(process: Process, cookie: str) -> int:
    """Of the dashboard, by nobody who may."""
    connection = http.client.HTTPConnection(urlsplit(process.url).netloc, timeout=20)
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "cookie": cookie,
               "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    try:
        connection.request("GET", "/admin/live/", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of two workers, as loud as they can be, that were asked and ended."""
    with serve(tmp_path_factory.mktemp("log"), CONFIG, SOME_KEY=KEY, LOG_LEVEL="DEBUG") as process:
        process.wait_ready()
        assert {ask(process, "g", f"failed-{number}") for number in range(5)} <= {502, 503}
        assert [ask(process, "unknown", f"refused-{number}") for number in range(5)] == [404] * 5
        assert process.get("/v1/models?api-key=in-a-query")[0] == 200
        assert open_websocket(process, "llmproxy_session=of-somebody-signed-in") == 403
        assert process.terminate() == 0
        return process.output()


def test_every_request_has_one_line_also_the_last_ones(output):
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"timestamp"')]
    told = {line["request_id"]: (line["level"], line["outcome"], line["model_group"]) for line in lines}
    assert len(lines) == 10
    assert told == {f"failed-{number}": ("warning", "failure", "g") for number in range(5)} | {
        f"refused-{number}": ("info", "rejected", "") for number in range(5)
    }


def test_no_line_shows_a_key_a_query_or_a_cookie(output):
    assert "refused-4" in output
    for secret in (KEY, "in-a-query", "Bearer", "of-somebody-signed-in"):
        assert secret not in output
