"""What the clients of the demo ask."""

import random
from itertools import islice

from llmproxy_site.demo_traffic import requests


def asked(count=2000):
    return list(islice(requests(random.Random(4)), count))


def test_all_groups_are_asked():
    assert {one.body["model"] for one in asked()} == {"demo", "demo-weighted"}


def test_some_questions_are_asked_again_so_that_the_cache_has_hits():
    questions = [str(one.body) for one in asked()]

    assert len(questions) / 2 < len(set(questions)) < len(questions)


def test_some_stream_and_some_leave_in_the_middle():
    streams = [one for one in asked() if one.body.get("stream")]

    assert streams
    assert any(one.events for one in streams)
    assert not any(one.events for one in asked() if not one.body.get("stream"))
