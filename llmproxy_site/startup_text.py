"""What a person reads when the gateway has started: where it is, what it serves, and how to try it."""

import json
from collections.abc import Callable, Iterator

from llmproxy_site import __version__
from llmproxy_site.first_run import ADMIN
from llmproxy_site.start import Ready
from routing.config.schema import GroupConfig


def startup_lines(ready: Ready, host: str, port: int, workers: int, bold: Callable[[str], str]) -> Iterator[str]:
    """No key, no upstream's URL. bold: makes a word stand out."""
    base = f"http://{_reachable(host)}:{port}"
    groups = ready.configuration.model_groups
    yield ""
    yield f"{bold('LLMProxy ' + __version__)} serves {base}/v1"
    yield f"  admin     {base}/admin/"
    if ready.admin_password is not None:
        yield f"            user {bold(ADMIN)}, password {bold(ready.admin_password)} (shown this once)"
    yield f"  docs      {base}/docs   health {base}/health"
    yield f"  models    {_groups_line(groups)}"
    yield f"  store     {ready.store}"
    yield f"  revision  {ready.revision}   workers {workers}"
    if groups:
        yield ""
        yield from _try_it(base, groups[0].model_group)
    yield ""


def _groups_line(groups: list[GroupConfig]) -> str:
    if not groups:
        return "none yet: add them in the admin, or in llmproxy.yaml"
    shown = [f"{group.model_group} ({len(group.models)})" for group in groups[:8]]
    more = [f"and {len(groups) - 8} more"] if len(groups) > 8 else []
    return ", ".join([*shown, *more])


def _try_it(base: str, model: str) -> Iterator[str]:
    """One line of shell and a few lines of Python that work as they stand."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    yield f"curl -s {base}/v1/chat/completions -H 'content-type: application/json' -d '{quoted}'"
    yield ""
    yield "from openai import OpenAI"
    yield f'client = OpenAI(base_url="{base}/v1", api_key="unused")'
    question = f'model={json.dumps(model)}, messages=[{{"role": "user", "content": "Hello"}}]'
    yield f"print(client.chat.completions.create({question}).choices[0].message.content)"


def _reachable(host: str) -> str:
    """The host as it stands in a URL; for "all addresses" one that surely is this machine."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - only compared
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
