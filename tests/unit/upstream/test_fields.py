import pytest

from routing.upstream.errors import AnswerBroken
from routing.upstream.fields import field_lines, refuse_encodings
from routing.upstream.transport import Origin, Target


def test_fields_become_lines():
    assert field_lines([(b"x-a", b"b"), (b"X-C", b"\xc3\xa9 \t~")]) == b"x-a: b\r\nX-C: \xc3\xa9 \t~\r\n"


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b", b"\x7f", b"\x1b[0m", b"a\n"], ids=repr)
def test_value_that_would_break_the_head_is_refused(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        field_lines([(b"x-a", value)])


@pytest.mark.parametrize("name", [b"", b"x a", b"x:", b"x\r\ny", b"x\n", b"\xc3\xa9", b"(x)"], ids=repr)
def test_name_that_is_no_token_is_refused(name):
    with pytest.raises(ValueError, match="cannot be sent"):
        field_lines([(name, b"a")])


@pytest.mark.parametrize("name", [b"host", b"Content-Length", b"TRANSFER-ENCODING", b"connection"], ids=repr)
def test_framing_cannot_be_given(name):
    with pytest.raises(ValueError, match="cannot be sent"):
        field_lines([(name, b"1")])


def test_refused_value_is_not_in_the_message():
    with pytest.raises(ValueError) as refused:
        field_lines([(b"authorization", b"Bearer sk-secret\n")])

    assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"content-encoding", b"identity")],
        [(b"content-encoding", b"")],
        [(b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"CHUNKED")],
    ],
    ids=repr,
)
def test_plain_bodies_pass(fields):
    refuse_encodings([(b"x-a", b"b"), *fields])


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-encoding", b"gzip")],
        [(b"content-encoding", b"identity"), (b"content-encoding", b"zstd")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"")],
        [(b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    ],
    ids=repr,
)
def test_encoded_bodies_are_refused(fields):
    with pytest.raises(AnswerBroken):
        refuse_encodings(fields)


class TestTarget:
    def test_head_is_built_once_from_its_parts(self):
        target = Target("POST", Origin("https", "api.example.com", 443), "/v1/x?a=b", ((b"x-a", b"b"),))

        assert target.head == b"POST /v1/x?a=b HTTP/1.1\r\nhost: api.example.com\r\nx-a: b\r\n"

    @pytest.mark.parametrize(
        "origin, authority",
        [
            (Origin("http", "h", 80), "h"),
            (Origin("http", "h", 443), "h:443"),
            (Origin("https", "h", 443), "h"),
            (Origin("https", "::1", 8443), "[::1]:8443"),
        ],
    )
    def test_default_port_is_left_out_of_host(self, origin, authority):
        assert origin.authority == authority

    @pytest.mark.parametrize("path", ["", "x", "/a b", "/a\r\nx: y", "/é", "/a\n"], ids=repr)
    def test_unsafe_path_is_refused(self, path):
        with pytest.raises(ValueError, match="request line"):
            Target("GET", Origin("http", "h", 80), path, ())

    @pytest.mark.parametrize("host", ["", "h\r\nx: y", "h x"], ids=repr)
    def test_unsafe_host_is_refused(self, host):
        with pytest.raises(ValueError, match="request line"):
            Target("GET", Origin("http", host, 80), "/", ())

    def test_unsafe_header_is_refused(self):
        with pytest.raises(ValueError, match="cannot be sent"):
            Target("GET", Origin("http", "h", 80), "/", ((b"x-a", b"b\r\nc: d"),))
