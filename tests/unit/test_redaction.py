"""No known secret is left in a text, in any encoding in which an upstream may quote it."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.redaction import STRUCK_OUT, password_in, secrets_of, strike_out
from tests.unit.tables import model, table_of

SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60).filter(
    lambda text: not text.startswith(("os.environ/", "file:", "stored:"))
)
ENCODINGS = {
    "raw": lambda secret: secret,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON with escaped slashes": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)[1:-1])[1:-1],
    "URL": lambda secret: quote(secret, safe=""),
    "URL path": lambda secret: quote(secret),
    "URL in lower case": lambda secret: lower_hex(quote(secret, safe="")),
    "form": quote_plus,
    "HTML": html.escape,
    "Python": lambda secret: repr(secret)[1:-1],
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 of a header": lambda secret: base64.b64encode(f"Bearer {secret}".encode()).decode(),
    "base64 of a user": lambda secret: base64.b64encode(f"user:{secret}".encode()).decode(),
    "base64 of a header line": lambda secret: base64.b64encode(f"api-key: {secret}\r\nx: y".encode()).decode(),
}


def lower_hex(text: str) -> str:
    parts = text.split("%")
    return parts[0] + "".join("%" + part[:2].lower() + part[2:] for part in parts[1:])


def table(*secrets: str):
    models = [model("abcd"[i], params={"api_key": secret}) for i, secret in enumerate(secrets)]
    return table_of({"model_group": "m", "models": models})


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@given(secret=SECRETS)
def test_no_secret_is_left_in_any_encoding(encode, secret):
    struck = strike_out(f'{{"error":"before {encode(secret)} after"}}'.encode(), table(secret)).decode()
    assert STRUCK_OUT.decode() in struck
    assert secret not in struck
    assert encode(secret) not in struck
    for word in struck.replace('"', " ").split():
        for decode in (base64.b64decode, base64.urlsafe_b64decode):
            try:
                assert secret.encode() not in decode(word + "=" * (-len(word) % 4))
            except ValueError:
                continue


def test_a_secret_inside_another_is_struck_out_with_it():
    struck = strike_out(b"sk-abcdefgh-and-more sk-abcdefgh", table("sk-abcdefgh", "sk-abcdefgh-and-more"))
    assert b"and-more" not in struck
    assert b"sk-abcdefgh" not in struck


def test_other_text_stays():
    text = b'{"error":{"message":"The model is overloaded","code":null}}\xff\x00'
    assert strike_out(text, table("sk-not-in-there")) == text


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer sk-own-header-1234"}, {"X-Api-Key": "sk-own-header-1234"}]
)
def test_keys_in_headers_of_an_endpoint_are_struck_out(headers):
    settings = table_of({"model_group": "m", "models": [model("a", params={"default_headers": headers})]})
    assert b"sk-own-header-1234" not in strike_out(b"your key sk-own-header-1234 is bad", settings)


def test_short_words_are_not_taken_for_secrets():
    assert strike_out(b"the models", table("model")) == b"the models"


def test_passwords_of_stores_are_secrets():
    general = {"redis_password": "pass-of-redis", "cache_params": {"type": "redis", "password": "pass-of-cache"}}
    assert secrets_of(table_of({"model_group": "m", "models": [model("a")]}, **general)) >= {
        "pass-of-redis",
        "pass-of-cache",
    }


@pytest.mark.parametrize(
    ("url", "password"),
    [("redis://:p%40ss@host:1/0", "p@ss"), ("postgres://u:w@h/d", "w"), ("redis://host", ""), ("http://[", "")],
)
def test_the_password_of_a_url(url, password):
    assert password_in(url) == password
