"""The history in the admin: differences, rollback, import with its plan, export, drift."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from routing.admin.conflicts import Sides
from routing.config import publish, yaml_file
from routing.config.snapshot import load, read_configuration
from routing.config.yaml_import import drift
from routing.models import Endpoint, ModelGroup, Revision
from tests.integration.test_admin_operations import told

pytestmark = pytest.mark.django_db

SECRET = "sk-planted-in-a-yaml-file"
YAML = """
model_groups:
  - model_group: gpt
    models:
      - name: east
        model: m
        weight: {weight}
        params: {{api_key: {key}, base_url: "https://east.example"}}
"""


MORE = """
      - name: west
        model: m
        params: {base_url: "https://west.example"}
"""


def text(weight=1, key="os.environ/EAST_KEY"):
    return YAML.format(weight=weight, key=key)


def page(client, name, *args, **query):
    return client.get(reverse(f"admin:routing_{name}", args=args), query).content.decode()


def plan(client, content, **data):
    return client.post(reverse("admin:routing_import"), {"text": content, **data})


def confirm(client, planned, **data):
    waiting = planned.context["waiting"]
    return client.post(reverse("admin:routing_import"), {"waiting": waiting, **data}, follow=True)


@pytest.fixture
def imported(admin_client):
    """Revision 1 by an import; revision 2 by hand."""
    confirm(admin_client, plan(admin_client, text(1)))
    endpoint = Endpoint.objects.get()
    endpoint.weight = 5
    endpoint.save()
    return admin_client


def weight():
    return load().configuration.model_groups[0].models[0].weight


def test_a_revision_shows_both_sides(imported):
    shown = page(imported, "revision_change", 2)

    assert "endpoint east" in shown
    assert [side in shown for side in ("<code>1</code>", "<code>5</code>")] == [True, True]


def test_a_revision_is_compared_with_now(imported):
    assert "<code>1</code>" in page(imported, "revision_change", 1, compare="now")
    assert "this is what is configured now" in page(imported, "revision_change", 2, compare="now")


def test_an_unknown_revision_is_not_found(imported):
    assert imported.get(reverse("admin:routing_revision_change", args=[99])).status_code == 404


def test_rolling_back_publishes_anew_and_says_who_and_why(imported, admin_user):
    imported.post(reverse("admin:routing_rollback", args=[1]), {"message": "too much <b>traffic"})
    last = Revision.objects.first()

    assert (weight(), last.number, last.author, last.source) == (1, 3, admin_user.username, "rollback")
    assert last.message == "too much <b>traffic"
    assert "<b>traffic" not in page(imported, "revision_changelist")


def test_looking_at_a_rollback_changes_nothing(imported):
    assert "What it would change" in page(imported, "rollback", 1)
    assert publish.current_revision() == 2


def test_the_plan_of_an_import_writes_nothing(imported):
    planned = plan(imported, text(1).rstrip() + MORE)

    assert "endpoint west" in planned.content.decode()
    assert publish.current_revision() == 2


def test_a_confirmed_import_is_one_revision(imported):
    Endpoint.objects.update(weight=1)
    confirm(imported, plan(imported, text(7)), message="more")
    last = Revision.objects.first()

    assert (weight(), last.source, last.message) == (7, "import of pasted.yaml", "more")


def test_an_uploaded_file_gives_its_name(admin_client):
    file = SimpleUploadedFile("site.yaml", text().encode())
    planned = admin_client.post(reverse("admin:routing_import"), {"file": file})
    confirm(admin_client, planned)

    assert Revision.objects.first().source == "import of site.yaml"


TWO = text(1).rstrip() + MORE
BOTH_CHANGED = TWO.replace("weight: 1", "weight: 9").replace(
    "model: m\n        params: {base", "model: n\n        params: {base"
)


@pytest.fixture
def conflicted(admin_client):
    """The admin changed the weight of east (1 -> 5) and the model of west (m -> x) since the import."""
    confirm(admin_client, plan(admin_client, TWO))
    Endpoint.objects.filter(name="east").update(weight=5)
    Endpoint.objects.filter(name="west").update(model="x")
    return admin_client


def fields(planned):
    """What each question's radio is called, by the endpoint."""
    return {question.what: question.field for question in planned.context["conflicts"]}


def answers(planned, **winners):
    return {fields(planned)[f"endpoint {name}"]: winner for name, winner in winners.items()}


def east_and_west():
    east, west = load().configuration.model_groups[0].models
    return east.weight, west.model


def test_conflicts_stand_side_by_side(conflicted):
    asked = plan(conflicted, BOTH_CHANGED).context["conflicts"]

    assert [(question.what, question.key, question.sides, question.chosen) for question in asked] == [
        ("endpoint east", "weight", (Sides("1", "5", "9"),), ""),
        ("endpoint west", "model", (Sides("m", "x", "n"),), ""),
    ]


@pytest.mark.parametrize(
    ("east", "west", "outcome"),
    [
        ("database", "database", (5, "x")),
        ("database", "file", (5, "n")),
        ("file", "database", (9, "x")),
        ("file", "file", (9, "n")),
    ],
)
def test_each_conflict_gets_its_own_winner(conflicted, east, west, outcome):
    planned = plan(conflicted, BOTH_CHANGED)
    confirm(conflicted, planned, **answers(planned, east=east, west=west))

    assert east_and_west() == outcome
    assert drift().file == "pasted.yaml"


def test_a_conflict_without_a_choice_is_named_and_nothing_is_written(conflicted):
    planned = plan(conflicted, BOTH_CHANGED)
    before = publish.current_revision()
    again = confirm(conflicted, planned, message="a reason", **answers(planned, east="file"))

    assert told(again) == ["Nothing was imported. Choose a side for: endpoint west model."]
    assert (publish.current_revision(), east_and_west()) == (before, (5, "x"))
    assert [question.chosen for question in again.context["conflicts"]] == ["file", ""]
    assert 'value="a reason"' in again.content.decode()


def test_the_last_open_choice_completes_the_import(conflicted):
    planned = plan(conflicted, BOTH_CHANGED)
    again = confirm(conflicted, planned, **answers(planned, east="file"))
    confirm(conflicted, again, **answers(again, east="file", west="database"))

    assert east_and_west() == (9, "x")


def test_a_choice_between_values_that_have_changed_is_asked_again(conflicted):
    planned = plan(conflicted, BOTH_CHANGED)
    Endpoint.objects.filter(name="west").update(model="y")
    again = confirm(conflicted, planned, **answers(planned, east="file", west="file"))

    assert told(again) == [
        "The configuration has changed meanwhile: look again.",
        "Nothing was imported. Choose a side for: endpoint west model.",
    ]
    assert [question.chosen for question in again.context["conflicts"]] == ["file", ""]
    assert east_and_west() == (5, "y")


def test_a_choice_between_values_that_another_import_changed_is_asked_again(conflicted):
    planned = plan(conflicted, BOTH_CHANGED)
    other = plan(conflicted, TWO.replace("weight: 1", "weight: 2"))
    confirm(conflicted, other, **answers(other, east="database"))  # the base is another now, the revision is not
    again = confirm(conflicted, planned, **answers(planned, east="file", west="file"))

    assert told(again) == ["Nothing was imported. Choose a side for: endpoint east weight."]
    assert east_and_west() == (5, "x")


@pytest.mark.parametrize(("answer", "left"), [("file", ["a", "b", "x"]), ("database", ["x"])])
def test_several_conflicts_about_one_group_are_one_question(admin_client, answer, left):
    file = "model_groups:\n  - {model_group: kept, models: [{name: x, model: m}]}\n"
    confirm(admin_client, plan(admin_client, file + "  - {model_group: gone, models: [{name: z, model: m}]}\n"))
    ModelGroup.objects.get(name="gone").delete()
    models = "{name: z, model: m}, {name: a, model: m}, {name: b, model: m}"
    planned = plan(admin_client, f"{file}  - {{model_group: gone, models: [{models}]}}\n")
    [question] = planned.context["conflicts"]
    confirm(admin_client, planned, **{question.field: answer})

    assert [side.file for side in question.sides] == ["holds endpoint a", "holds endpoint b"]
    assert sorted(Endpoint.objects.values_list("name", flat=True)) == left


@pytest.mark.parametrize("answer", ["", "ours", "both"])
def test_an_answer_that_the_page_does_not_offer_is_none(conflicted, answer):
    planned = plan(conflicted, BOTH_CHANGED)
    again = confirm(conflicted, planned, **answers(planned, east=answer, west="file"))

    assert told(again) == ["Nothing was imported. Choose a side for: endpoint east weight."]


def test_many_open_choices_are_counted(admin_client):
    models = "".join(f"      - {{name: e{number}, model: m}}\n" for number in range(7))
    many = "model_groups:\n  - model_group: gpt\n    models:\n" + models
    confirm(admin_client, plan(admin_client, many))
    Endpoint.objects.update(model="x")
    again = confirm(admin_client, plan(admin_client, many.replace("model: m", "model: n")))

    assert told(again)[0].endswith("endpoint e4 model and 2 more.")


def test_a_key_in_the_file_is_in_no_page(admin_client):
    planned = plan(admin_client, text(key=SECRET))
    done = confirm(admin_client, planned)
    pages = [planned.content.decode(), done.content.decode(), page(admin_client, "revision_change", 1)]
    pages += [page(admin_client, "export"), page(admin_client, "drift")]

    assert [SECRET in shown for shown in pages] == [False] * 5
    assert list(load().stored.values()) == [SECRET]


def test_a_file_with_mistakes_names_their_places_and_does_not_come_back(admin_client):
    refused = plan(admin_client, text(key=SECRET) + "        wieght: 2\n").content.decode()

    assert "pasted.yaml:" in refused and "wieght" in refused
    assert SECRET not in refused and publish.current_revision() == 0


def test_a_plan_that_is_out_of_date_is_shown_again(imported):
    planned = plan(imported, text(1).rstrip() + MORE)
    Endpoint.objects.update(weight=6)
    again = confirm(imported, planned)

    assert "has changed meanwhile" in again.content.decode()
    assert publish.current_revision() == 3


def test_anothers_or_a_forged_file_is_not_imported(imported):
    answer = imported.post(reverse("admin:routing_import"), {"waiting": "forged"}, follow=True)

    assert "The page was too old" in answer.content.decode()


def test_an_export_imports_as_a_no_op(imported):
    exported = page(imported, "export")

    assert yaml_file.parse(exported.encode(), "x").configuration == read_configuration()


def test_drift_shows_what_changed_since_the_import(imported):
    shown = page(imported, "drift")

    assert "pasted.yaml" in shown and "endpoint east" in shown


def test_without_an_import_there_is_no_drift(admin_client):
    assert "No file was imported yet." in page(admin_client, "drift")
