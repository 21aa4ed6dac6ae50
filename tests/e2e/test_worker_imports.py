"""What a worker holds in memory before anybody asked for more than answers."""

import json
import subprocess
import sys

import pytest

from tests.e2e.processes import PROJECT, environment, manage

_WORKER = """
import json, socket, sys
import django
import llmproxy_site.worker
django.setup()
import llmproxy_site.asgi
llmproxy_site.asgi.load_last_good()
from llmproxy_site.server import serve_on
with socket.create_server(("127.0.0.1", 0)) as listening:
    serve_on(listening).config.load()
print(json.dumps(sorted(sys.modules)))
"""
_CONFIG = """
model_groups:
  - model_group: g
    models: [{model: m, params: {base_url: "http://127.0.0.1:9/v1", api_key: %s}}]
"""


def imported_by_a_worker(directory, key: str) -> set[str]:
    (directory / "config.yaml").write_text(_CONFIG % key)
    for command in (("migrate", "--verbosity", "0"), ("import_config", "config.yaml")):
        done = manage(directory, *command, SOME_KEY="k")
        assert done.returncode == 0, done.stdout + done.stderr
    variables = environment(
        directory, PYTHONPATH=str(PROJECT), DJANGO_SETTINGS_MODULE="llmproxy_site.settings", SOME_KEY="k"
    )
    done = subprocess.run(
        [sys.executable, "-c", _WORKER], cwd=directory, env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules of a worker whose keys are references."""
    return imported_by_a_worker(tmp_path_factory.mktemp("worker"), "os.environ/SOME_KEY")


FEW_NEED = (
    "channels.auth",
    "cryptography.fernet",
    "daphne",
    "fakeredis",
    "greenlet",
    "httpx",
    "opentelemetry",
    "prometheus_client",
    "pygments",
    "rich",
    "ruamel.yaml",
    "twisted",
    "watchfiles",
    "websockets",
)


@pytest.mark.parametrize("module", FEW_NEED)
def test_a_worker_does_not_hold_what_few_need(imported, module):
    assert module not in imported


def test_a_worker_that_must_decrypt_a_key_does(tmp_path):
    assert "cryptography.fernet" in imported_by_a_worker(tmp_path, "sk-typed-in")
