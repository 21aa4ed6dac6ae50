import json
import shlex

from llmproxy_site.start import Ready
from llmproxy_site.startup_text import startup_lines
from llmproxy_site.store import StoreAddress
from routing.config.schema import Configuration


def lines(*groups: str, host: str = "127.0.0.1", password: str | None = None, bold=str) -> list[str]:
    params = {"base_url": "https://secret-host.example/v1", "api_key": "sk-canary"}
    configuration = Configuration.model_validate(
        {
            "model_groups": [
                {"model_group": group, "models": [{"name": f"e{n}", "model": "m", "params": params}]}
                for n, group in enumerate(groups)
            ]
        }
    )
    ready = Ready(7, configuration, StoreAddress("given", "redis://:hunter2@store"), password)
    return list(startup_lines(ready, host, 4243, 2, bold=bold))


def curl(model: str, host: str = "127.0.0.1") -> list[str]:
    [line] = [line for line in lines(model, host=host) if line.startswith("curl")]
    return shlex.split(line)


def test_the_curl_line_asks_the_first_group():
    arguments = curl("gpt-4o")
    assert "http://127.0.0.1:4243/v1/chat/completions" in arguments
    assert json.loads(arguments[-1])["model"] == "gpt-4o"


def test_the_curl_line_survives_odd_names():
    assert json.loads(curl('it\'s [bold]a/b \\ "c"')[-1])["model"] == 'it\'s [bold]a/b \\ "c"'


def test_all_addresses_are_shown_as_this_machine():
    assert "http://127.0.0.1:4243/v1/chat/completions" in curl("m", host="0.0.0.0")
    assert "http://[::1]:4243/v1/chat/completions" in curl("m", host="::")


def test_the_python_snippet_compiles():
    text = lines("m")
    start = text.index("from openai import OpenAI")
    compile("\n".join(text[start : start + 3]), "snippet", "exec")


def test_a_made_password_is_shown_and_nothing_else_that_is_secret():
    text = "\n".join(lines("m", password="made-[bold]once"))
    assert "made-[bold]once" in text
    assert not any(secret in text for secret in ("sk-canary", "hunter2", "secret-host"))


def test_a_made_password_stands_out():
    assert "password *made-once*" in "\n".join(lines("m", password="made-once", bold="*{}*".format))


def test_without_groups_it_says_where_to_add_them():
    text = "\n".join(lines())
    assert "none yet" in text
    assert "curl" not in text
