"""What a worker remembers of requests that it has answered from memory: only the very same one, and not without end."""

from types import SimpleNamespace

from cache_app.store import Place
from routing.openai.routes import CHAT, COMPLETIONS
from routing.recall import Recall, Recalled

KNOWN = Recalled(SimpleNamespace(), SimpleNamespace(), Place("g", b"k", b"d"))
BODY = b'{"model":"m"}'


def test_the_same_request_is_found():
    recall = Recall()
    recall.keep(CHAT, "", BODY, KNOWN)
    assert recall.find(CHAT, "", bytes(bytearray(BODY))) is KNOWN


def test_another_route_client_or_body_is_not():
    recall = Recall()
    recall.keep(CHAT, "", BODY, KNOWN)
    assert recall.find(COMPLETIONS, "", BODY) is None
    assert recall.find(CHAT, "other key", BODY) is None
    assert recall.find(CHAT, "", BODY + b" ") is None


def test_the_first_ones_make_room():
    recall = Recall(most_bytes=10_000)
    bodies = [b"%01000d" % number for number in range(20)]
    for body in bodies:
        recall.keep(CHAT, "", body, KNOWN)
    assert 0 < len(recall) < 10
    assert recall.find(CHAT, "", bodies[0]) is None
    assert recall.find(CHAT, "", bodies[-1]) is KNOWN


def test_what_is_kept_again_counts_once():
    recall = Recall(most_bytes=10_000)
    for _ in range(100):
        recall.keep(CHAT, "", b"a" * 1000, KNOWN)
        recall.keep(CHAT, "", b"b" * 1000, KNOWN)
    assert len(recall) == 2


def test_large_bodies_are_not_held():
    recall = Recall()
    recall.keep(CHAT, "", b"a" * 100_000, KNOWN)
    assert len(recall) == 0


def test_cleared_it_has_all_its_room_again():
    recall = Recall(most_bytes=3_000)
    for number in range(10):
        recall.keep(CHAT, "", b"%01000d" % number, KNOWN)
    recall.clear()
    assert len(recall) == 0
    recall.keep(CHAT, "", b"a" * 1000, KNOWN)
    assert len(recall) == 1
