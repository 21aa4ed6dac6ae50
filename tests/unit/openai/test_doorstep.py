"""Before the body: whose request it is, whether it is JSON, and which of its headers go upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import Forbidden, NotJson
from routing.openai.doorstep import Neighbourhood, for_upstream, is_loopback, request_id, require_json
from routing.upstream.fields import field_lines


@pytest.mark.parametrize("given_id", [b"a", b"x" * 128, b"req-1_2.3:4/5", b"!~"])
def test_the_clients_request_id_is_kept(given_id):
    assert request_id({b"x-request-id": given_id}) == given_id


@pytest.mark.parametrize("given_id", [b"", b"x" * 129, b"a b", b"a\tb", b"a\r\nb", "é".encode(), b"\x7f", b"a\0"])
def test_other_request_ids_are_replaced(given_id):
    made = request_id({b"x-request-id": given_id})
    assert made not in (given_id, request_id({}))
    assert made.isascii()


@pytest.mark.parametrize(
    "kind", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON", b"application/vnd.x+json"]
)
def test_json_bodies(kind):
    require_json({b"content-type": kind})


@pytest.mark.parametrize(
    "headers",
    [{}, {b"content-type": b""}, {b"content-type": b"text/plain"}, {b"content-type": b"text/plain; x=application/json"},
     {b"content-type": b"multipart/form-data; boundary=application/json"}, {b"content-type": b"text/json"},
     {b"content-type": b"application/x-www-form-urlencoded"}],
)  # fmt: skip
def test_what_a_foreign_page_can_send_unasked_is_refused(headers):
    with pytest.raises(NotJson) as refused:
        require_json(headers)
    assert refused.value.status == 415


PASSED = [b"openai-beta", b"x-client-request-id", b"traceparent", b"tracestate", b"accept"]
OTHERS = [b"authorization", b"api-key", b"cookie", b"host", b"openai-organization", b"openai-project", b"user-agent",
          b"x-forwarded-for", b"accept-encoding", b"content-type", b"connection", b"transfer-encoding", b"x-request-id"]  # fmt: skip


def test_only_named_headers_go_upstream():
    kept = for_upstream(dict.fromkeys([*PASSED, *OTHERS], b"value"))
    assert sorted(name for name, _ in kept) == sorted(PASSED)


def test_without_any_of_them_there_is_nothing_to_pass():
    assert for_upstream(dict.fromkeys(OTHERS, b"value")) is None


@given(st.sampled_from(PASSED), st.binary(max_size=40) | st.just(b"x" * 5000))
def test_no_value_can_break_the_head(name, value):
    lines = field_lines(for_upstream({name: value}) or [])
    assert lines in (b"", b"%b: %b\r\n" % (name, value))
    assert lines.count(b"\r\n") <= 1


NEAR = [
    b"localhost",
    b"localhost:4243",
    b"127.0.0.1:80",
    b"[::1]:4243",
    b"LOCALHOST",
    b"app.localhost:1",
    b"mine.example",
]
FAR = [b"", b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"evil.example:4243", b"10.0.0.1",
       b"xlocalhost", b"[::2]", b"[", b"\xff\xfe", b"0.0.0.0", b"not-mine.example", b"mine.example.evil"]  # fmt: skip


@pytest.mark.parametrize("host", NEAR)
def test_near_hosts_and_origins_are_answered(host):
    here = Neighbourhood(["mine.example"])
    for _ in range(2):
        here.check({b"host": host})
        here.check({b"host": b"localhost", b"origin": b"http://" + host})


@pytest.mark.parametrize("host", FAR)
def test_far_hosts_are_refused_every_time(host):
    here = Neighbourhood(["mine.example"])
    for _ in range(2):
        with pytest.raises(Forbidden) as refused:
            here.check({b"host": host})
    assert (refused.value.status, refused.value.code) == (403, "forbidden_origin")


@pytest.mark.parametrize("origin", [*(b"https://" + host for host in FAR), b"null", b"file://", b"", b"//"])
def test_far_origins_are_refused(origin):
    with pytest.raises(Forbidden):
        Neighbourhood(["mine.example"]).check({b"host": b"localhost", b"origin": origin})


def test_a_host_that_was_judged_near_is_no_near_origin_by_its_text():
    here = Neighbourhood([])
    here.check({b"host": b"localhost"})
    with pytest.raises(Forbidden):
        here.check({b"host": b"localhost", b"origin": b"http://evil.example"})


def test_a_star_allows_everything():
    Neighbourhood(["*"]).check({b"host": b"evil.example", b"origin": b"https://evil.example"})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_addresses(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.1", "::", "128.0.0.1", "::2", "example.com"])
def test_other_addresses(address):
    assert not is_loopback(address)
