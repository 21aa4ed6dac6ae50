import base64
import stat
import threading
from pathlib import Path

import pytest

from llmproxy_site import environment as module
from llmproxy_site.environment import Environment, EnvironmentProblem, environment, kept_secret, variables

KEYS = [base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2)]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Each test reads the environment anew, from an empty working directory."""
    for name in Environment.variable_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMPROXY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for cached in (environment, variables):
        cached.cache_clear()
    yield
    for cached in (environment, variables):
        cached.cache_clear()


def test_lists_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("LLMPROXY_ALLOWED_HOSTS", "a.example, b.example,")
    assert environment().allowed_hosts == ("a.example", "b.example")


def test_an_empty_variable_counts_as_not_given(monkeypatch):
    monkeypatch.setenv("LLMPROXY_REDIS_URL", "")
    assert environment().redis_url is None


def test_dotenv_fills_in_what_is_not_set(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("LLMPROXY_ALLOWED_HOSTS=from-file\nSOME_PROVIDER_KEY=k\n")
    monkeypatch.delenv("SOME_PROVIDER_KEY", raising=False)
    assert environment().allowed_hosts == ("from-file",)
    assert variables()["SOME_PROVIDER_KEY"] == "k"


def test_dotenv_never_overrides(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("LLMPROXY_ALLOWED_HOSTS=from-file\n")
    monkeypatch.setenv("LLMPROXY_ALLOWED_HOSTS", "from-outside")
    assert environment().allowed_hosts == ("from-outside",)


def test_missing_secrets_are_made_once_and_kept():
    first = environment()
    environment.cache_clear()
    again = environment()
    assert len(first.secret_key) >= 50
    assert (again.secret_key, again.encryption_keys) == (first.secret_key, first.encryption_keys)


def test_made_secrets_are_for_the_owner_alone():
    data_dir = environment().data_dir
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [data_dir, *data_dir.iterdir()]}
    assert modes == {"data": 0o700, "secret_key": 0o600, "encryption_key": 0o600}


def test_given_secrets_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMPROXY_SECRET_KEY", "given")
    monkeypatch.setenv("LLMPROXY_ENCRYPTION_KEYS", ",".join(KEYS))
    assert environment().encryption_keys == tuple(KEYS)
    assert not (tmp_path / "data").exists()


def test_processes_that_start_together_agree_on_a_secret(tmp_path):
    barrier = threading.Barrier(8)
    seen: list[str] = []

    def start(number: int) -> None:
        barrier.wait()
        seen.append(kept_secret(tmp_path / "together" / "secret", f"draft-{number}"))

    threads = [threading.Thread(target=start, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [path.name for path in (tmp_path / "together").iterdir()] == ["secret"]  # no draft is left


def test_problems_name_the_variable_and_never_the_value(monkeypatch):
    monkeypatch.setenv("LLMPROXY_ENCRYPTION_KEYS", "not-a-secret-key")
    monkeypatch.setenv("LLMPROXY_REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(EnvironmentProblem) as caught:
        environment()
    message = str(caught.value)
    assert "LLMPROXY_ENCRYPTION_KEYS: write 32 random bytes" in message
    assert "LLMPROXY_REDIS_URL: write redis://" in message
    assert "not-a-secret-key" not in message
    assert "hunter2" not in message


def test_an_unusable_data_directory_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMPROXY_DATA_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(EnvironmentProblem, match="LLMPROXY_DATA_DIR"):
        environment()


def test_secrets_do_not_show_in_repr(monkeypatch):
    monkeypatch.setenv("LLMPROXY_REDIS_URL", "redis://:hunter2@host")
    monkeypatch.setenv("LLMPROXY_ADMIN_PASSWORD", "swordfish")
    shown = repr(environment())
    assert "hunter2" not in shown
    assert "swordfish" not in shown
    assert environment().secret_key not in shown


def test_every_variable_stands_in_the_example():
    example = (module.PROJECT / "env.example").read_text()
    assert [name for name in Environment.variable_names() if f"#{name}=" not in example] == []
