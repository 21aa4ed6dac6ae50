from routing.carriers import Carriers
from routing.upstream.fast import FastUpstream
from routing.upstream.httpx_transport import HttpxUpstream
from tests.unit.tables import group_of, model

EAST, WEST, ASKED = group_of(model("east"), model("west"), model("asked", params={"transport": "httpx"})).endpoints


def test_endpoints_that_are_reached_directly_share_the_fast_client():
    carriers = Carriers({})
    assert isinstance(carriers.of(EAST), FastUpstream)
    assert carriers.of(EAST) is carriers.of(WEST)


def test_behind_a_proxy_httpx_carries():
    carriers = Carriers({"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "west.example"})
    assert isinstance(carriers.of(EAST), HttpxUpstream)
    assert isinstance(carriers.of(WEST), FastUpstream)


def test_an_endpoint_may_ask_for_httpx():
    assert isinstance(Carriers({}).of(ASKED), HttpxUpstream)


def test_what_is_forgotten_is_chosen_anew_and_keeps_its_connections():
    carriers = Carriers({})
    before = carriers.of(EAST)
    carriers.forget()
    assert carriers.of(EAST) is before
