"""The pages of requests: who may see them, what they show, and what leaves as CSV."""

import csv
import importlib
import io
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import AsyncClient
from django.urls import reverse

from routing.admin import record_csv
from routing.models import Endpoint, ModelGroup
from stats import record_search
from stats.models import RecordedRequest
from stats.pending import Pending
from stats.record import AttemptRecord, RequestRecord, attempts_from_json
from stats.record_search import RecordSearch, Search
from stats.record_tables import RecordTables
from tests.integration.records_database import NOW, record

pytestmark = pytest.mark.django_db

LIST = reverse("admin:stats_recordedrequest_changelist")
EXPORT = reverse("admin:stats_requests_export")
FAILED = AttemptRecord("east", "id-east", "failure", "status 503", 503, 0.5, 40.0)
RESCUED = AttemptRecord("west", "id-west", "success", "", 200, 41.0, 80.0)


def keep(*records: Any) -> None:
    pending = Pending()
    for one in records:
        pending.add(one)
    RecordTables("default").write("w", pending.take())


@pytest.fixture
def admin(client):
    importlib.import_module("routing.migrations.0003_roles").make_roles(apps, None)
    importlib.import_module("routing.migrations.0004_roles_see_requests").let_roles_see_requests(apps, None)
    client.force_login(user := User.objects.create_user("viewer", is_staff=True))
    user.groups.add(Group.objects.get(name="viewer"))
    return client


def listed(client, query: str = "") -> str:
    answer = client.get(LIST + query)
    assert answer.status_code == 200
    return answer.content.decode()


def page_of(client, **fields: Any) -> str:
    keep(record(**fields))
    answer = client.get(reverse("admin:stats_recordedrequest_change", args=[RecordedRequest.objects.get().pk]))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


# -- who


@pytest.mark.parametrize("role", ["viewer", "operator", "configurator"])
@pytest.mark.parametrize("url", [LIST, EXPORT])
def test_every_role_may_look(admin, role, url):
    admin.force_login(user := User.objects.create_user("somebody", is_staff=True))
    user.groups.add(Group.objects.get(name=role))
    assert admin.head(url).status_code == 200


@pytest.mark.parametrize("url", [LIST, EXPORT, LIST + "1/change/"])
def test_staff_without_a_role_may_not_look(admin, url):
    keep(record())
    admin.force_login(User.objects.create_user("nobody", is_staff=True))
    assert admin.get(url).status_code == 403


@pytest.mark.parametrize("url", [LIST, EXPORT, LIST + "1/change/"])
def test_nothing_is_shown_without_a_login(client, url):
    assert client.get(url).status_code == 302


@pytest.mark.parametrize("url", [LIST, EXPORT, LIST + "1/change/"])
def test_nothing_takes_a_post(admin, url):
    keep(record())
    assert admin.post(url, {"action": "delete_selected", "_selected_action": "1"}).status_code == 405
    assert RecordedRequest.objects.count() == 1


@pytest.mark.parametrize("page", ["add/", "1/delete/"])
def test_not_even_a_superuser_writes_what_happened(admin, page):
    keep(record())
    admin.force_login(User.objects.create_superuser("root"))
    assert admin.get(LIST + page).status_code == 403


def test_the_sidebar_leads_there(admin):
    assert f'href="{LIST}"' in admin.get(reverse("admin:index")).content.decode()


# -- the list


def test_a_request_is_listed(admin):
    keep(record(request_id="shown", attempts=[FAILED, RESCUED], endpoint="west", input_tokens=1234))
    text = listed(admin)
    assert all(word in text for word in ("shown", "west", "200", "121 ms", "1,234", "$0.0000015"))


def test_an_unknown_cost_is_said_to_be_unknown(admin):
    keep(record(cost_nano_usd=None, input_tokens=None))
    text = listed(admin)
    assert text.count("unknown") == 2
    assert "$0" not in text


def test_names_are_text_and_not_markup(admin):
    keep(record(request_id="<script>alert(1)</script>", model_group="<b>", endpoint='"><i>'))
    assert "<script>alert" not in listed(admin) and "&lt;script&gt;alert" in listed(admin)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?id=two", {"two"}),
        ("?group=n", {"two"}),
        ("?endpoint=west", {"two"}),
        ("?tried=east", {"one", "two"}),
        ("?outcome=troubled", {"two"}),
        ("?status=404", {"three"}),
        ("?status=4xx", {"three"}),
        ("?cache=hit", {"three"}),
        ("?stream=yes", {"two"}),
        ("?slower=0.2", {"two"}),
        ("?dearer=0.01", {"three"}),
        ("?key=anna", {"three"}),
        ("?since=2026-01-01T00:00&until=2026-01-02T00:00", {"old"}),
        ("?group=n&cache=hit", set()),
    ],
)
def test_a_filter_leaves_what_fits(admin, query, found):
    keep(
        record(request_id="old", at=1_767_268_800.0, attempts=[]),  # 2026-01-01T12:00Z
        record(request_id="one"),
        record(
            request_id="two",
            model_group="n",
            endpoint="west",
            attempts=[FAILED, RESCUED],
            stream=True,
            duration_ms=300.0,
        ),
        record(
            request_id="three",
            status=404,
            outcome="rejected",
            cache="hit",
            attempts=[],
            key="anna",
            cost_nano_usd=10**7,
        ),
    )
    text = listed(admin, query)
    assert {name for name in ("old", "one", "two", "three") if f"<bdi>{name}</bdi>" in text} == found


@pytest.mark.parametrize(
    "query",
    [
        "?status=2",
        "?status=9xx",
        "?since=yesterday",
        "?slower=fast",
        "?slower=-1",
        "?slower=NaN",
        "?dearer=1e99",
        "?outcome=good",
    ],
)
def test_a_filter_that_cannot_be_read_finds_nothing_and_says_so(admin, query):
    keep(record(request_id="one"))
    text = listed(admin, query)
    assert "a filter cannot be read" in text and "<bdi>one</bdi>" not in text


@pytest.mark.parametrize(
    "query", ["?after=x", "?after=9999999999999999999999-1", "?after=1-1-1", "?e=1", "?o=1", "?p=99", "?id=%00", "?q=x"]
)
def test_nonsense_in_the_address_is_harmless(admin, query):
    keep(record(request_id="one"))
    listed(admin, query)


def test_pages_follow_each_other(admin):
    keep(*(record(request_id=f"r{number}", at=NOW + number) for number in range(70)))
    first = admin.get(LIST)
    second = admin.get(f"{LIST}?{first.context['older']}")

    assert [shown["row"].request_id for shown in first.context["rows"]] == [f"r{n}" for n in range(69, 19, -1)]
    assert [shown["row"].request_id for shown in second.context["rows"]] == [f"r{n}" for n in range(19, -1, -1)]
    assert (second.context["older"], second.context["newest"]) == ("", "")


def test_the_list_counts_no_rows(admin, django_assert_num_queries):
    """Nor does any query read more than a page of them."""
    keep(*(record(request_id=f"r{number}") for number in range(70)))
    with django_assert_num_queries(7) as captured:  # session, user, 2 of permissions, names (2), the page
        admin.get(LIST)
    ours = [query["sql"] for query in captured.captured_queries if "stats_recordedrequest" in query["sql"]]
    assert len(ours) == 1 and "LIMIT 51" in ours[0] and "COUNT" not in ours[0]


# -- one request


def test_the_trail_says_why_each_endpoint_was_asked(admin):
    text = page_of(admin, attempts=[FAILED, RESCUED], endpoint="west")
    assert "failure 503" in text and "asked first" in text
    assert "asked next, because east gave: status 503" in text


def test_endpoints_that_were_not_asked_are_told(admin):
    with transaction.atomic():
        group, other = (
            ModelGroup.objects.create(name="m", fallbacks=["n"]),
            ModelGroup.objects.create(name="n", position=1),
        )
        for name, fields in {"east": {}, "off": {"enabled": False}, "spare": {"weight": 0}, "other": {}}.items():
            Endpoint.objects.create(
                group=group, name=name, model="m", api_key="k", base_url="http://h.example", **fields
            )
        Endpoint.objects.create(group=other, name="fallback", model="m", api_key="k", base_url="http://h.example")
    text = page_of(admin, revision=1)

    assert "<b>off</b><span" in text and "disabled in revision 1" in text
    assert "weight 0: asked when no endpoint" in text
    assert "not its turn, or not available then" in text
    assert "a fallback: asked when" in text
    assert "<b>east</b>" not in text


@pytest.fixture
def two_endpoints(admin):
    with transaction.atomic():
        group = ModelGroup.objects.create(name="m", cooldown_time=30)
        for name in ("east", "west"):
            Endpoint.objects.create(group=group, name=name, model="m", api_key="k", base_url="http://h.example")
    return admin


@pytest.mark.parametrize(("ago_s", "told"), [(3, True), (29, True), (31, False), (-3, False)])
def test_an_endpoint_that_had_just_failed_is_told(two_endpoints, ago_s, told):
    keep(
        record(request_id="before", at=NOW - ago_s, attempts=[FAILED, RESCUED]),
        record(request_id="this", revision=1, endpoint="west", attempts=[RESCUED]),
    )
    row = RecordedRequest.objects.get(request_id="this")
    text = two_endpoints.get(reverse("admin:stats_recordedrequest_change", args=[row.pk])).content.decode()

    assert (f"had just failed (status 503, {ago_s} s before)" in text) is told
    assert ("not its turn, or not available then" in text) is not told


def test_a_hit_says_that_nobody_was_asked(admin):
    text = page_of(admin, cache="hit", cache_detail="store", attempts=[], saved_nano_usd=2_000_000_000)
    assert "Answered from the store. No endpoint was asked." in text
    assert "$2.00" in text and "Who was not asked" not in text


def test_a_request_that_is_not_kept_any_more_is_not_found(admin):
    for number in ("1", "x", "9" * 30):
        assert admin.get(f"{LIST}{number}/change/").status_code == 404


# -- CSV


def exported(admin, query: str = "") -> list[list[str]]:
    """The lines, asked for asynchronously, as the server does."""

    async def text() -> str:
        client = AsyncClient()
        client.cookies = admin.cookies
        answer = await client.get(EXPORT + query)
        assert (answer.status_code, answer.streaming) == (200, True)
        assert answer["content-type"] == "text/csv; charset=utf-8"
        assert answer["content-disposition"].startswith('attachment; filename="requests-')
        return b"".join([part async for part in answer.streaming_content]).decode()

    return list(csv.reader(io.StringIO(async_to_sync(text)(), newline="")))


def as_dicts(lines: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_a_record_is_a_line_with_all_its_fields(admin):
    keep(
        record(
            request_id='grüße, "one"\nline',
            at=1_767_268_800.25,
            attempts=[FAILED, RESCUED],
            stream=True,
            cost_nano_usd=1500,
        )
    )
    (line,) = as_dicts(exported(admin))

    assert set(line) == {*RequestRecord.__struct_fields__, "cost_usd", "saved_usd", "trail"} - {
        "cost_nano_usd",
        "saved_nano_usd",
    }
    assert (line["at"], line["request_id"]) == ("2026-01-01T12:00:00.250Z", 'grüße, "one"\nline')
    assert (line["status"], line["stream"], line["partial"], line["attempts"]) == ("200", "1", "0", "2")
    assert (line["input_tokens"], line["cost_usd"]) == ("10", "0.000001500")
    assert attempts_from_json(line["trail"]) == [FAILED, RESCUED]


def test_what_is_unknown_is_empty_and_not_zero(admin):
    keep(record(cost_nano_usd=None, input_tokens=None, overhead_ms=None), record(cost_nano_usd=0))
    free, unknown = as_dicts(exported(admin))

    assert (unknown["cost_usd"], unknown["input_tokens"], unknown["overhead_ms"], unknown["saved_usd"]) == (
        "",
        "",
        "",
        "",
    )
    assert free["cost_usd"] == "0.000000000"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://h.example")'])
@pytest.mark.parametrize("field", ["request_id", "key", "model_group", "endpoint", "error", "cache_detail"])
def test_no_cell_is_a_formula(admin, field, text):
    keep(record(**{field: text}))
    (line,) = as_dicts(exported(admin))

    assert line[field] == f"'{text}"
    assert not [cell for cell in line.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_only_what_is_searched_leaves(admin):
    keep(record(request_id="one"), record(request_id="two", model_group="n"))
    assert [line["request_id"] for line in as_dicts(exported(admin, "?group=n&after=1-1"))] == ["two"]


def test_nothing_found_is_a_head_without_lines(admin):
    assert exported(admin) == [list(record_csv.COLUMNS)]


def test_a_search_that_cannot_be_read_gives_no_file(admin):
    answer = admin.get(EXPORT + "?status=x")
    assert (answer.status_code, answer["content-type"]) == (400, "text/plain")


def test_a_large_export_is_whole_and_in_order(admin, monkeypatch):
    monkeypatch.setattr(record_csv, "_AT_A_TIME", 7)
    keep(*(record(request_id=f"r{number}", at=NOW + number // 3) for number in range(100)))
    ids = [line["request_id"] for line in as_dicts(exported(admin))]

    assert ids == [f"r{number}" for number in range(99, -1, -1)]


def test_an_export_that_is_cut_says_so(admin, monkeypatch):
    monkeypatch.setattr(record_csv, "MOST_ROWS", 10)
    monkeypatch.setattr(record_csv, "_AT_A_TIME", 7)
    keep(*(record(request_id=f"r{number}", at=1_767_268_800 + number) for number in range(30)))
    lines = exported(admin)

    assert len(lines) == 1 + 10 + 1
    assert lines[-1] == ["cut after 10 rows; for older ones set the end of the time to 2026-01-01T12:00:20.000Z"]


def test_an_export_of_exactly_the_most_is_not_cut(admin, monkeypatch):
    monkeypatch.setattr(record_csv, "MOST_ROWS", 10)
    keep(*(record(request_id=f"r{number}") for number in range(10)))
    assert len(exported(admin)) == 11


def test_an_export_that_looks_in_vain_ends(admin, monkeypatch):
    monkeypatch.setattr(record_csv, "_MOST_LOOKS", 3)
    monkeypatch.setattr(record_search, "MOST_LOOKED_AT", 5)
    keep(*(record(request_id=f"r{number}", at=NOW + number) for number in range(60)))
    lines = exported(admin, "?cache=hit")

    assert (len(lines), lines[-1][0].startswith("cut after 0 rows")) == (2, True)


def test_an_export_keeps_one_page_in_memory(admin, monkeypatch):
    """It is asked for, and sent, a page at a time."""
    monkeypatch.setattr(record_csv, "_AT_A_TIME", 20)
    keep(*(record(request_id=f"r{number}") for number in range(100)))

    async def parts() -> list[bytes]:
        return [part async for part in record_csv.csv_lines(RecordSearch(), Search())]

    assert [part.count(b"\r\n") for part in async_to_sync(parts)()] == [1, 20, 20, 20, 20, 20]
