"""Prices of an endpoint's own, through file, tables, export and the admin's form."""

import pytest
from django.urls import reverse

from routing.config.snapshot import load, read_configuration, write_configuration
from routing.config.yaml_file import dump, parse
from routing.models import Endpoint
from tests.integration.test_admin_config import form_of, save

pytestmark = pytest.mark.django_db

FILE = b"""\
model_groups:
  - model_group: gpt
    models:
      - name: east
        model: m
        price:
          input: 2.5
          output: 10
          cached_input: os.environ/CACHED
      - name: free
        model: m
        price:
          input: 0
          output: 0
      - name: unpriced
        model: m
"""


@pytest.fixture
def endpoint():
    write_configuration(parse(FILE, "f.yaml").configuration)
    return Endpoint.objects.get(name="east")


def saved(client, endpoint, **changes):
    data = form_of(client, "endpoint_change", endpoint.pk) | changes
    return save(client, data, "endpoint_change", endpoint.pk).content.decode()


def test_what_was_imported_is_exported(endpoint):
    assert dump(read_configuration()) == FILE.decode()
    rows = Endpoint.objects.order_by("position").values_list("price_input", "price_output")
    assert list(rows) == [(2.5, 10.0), (0.0, 0.0), (None, None)]


def test_the_admin_changes_a_price(admin_client, endpoint):
    saved(admin_client, endpoint, price_input="0.15", price_cached_input="0.075")
    price = load().configuration.model_groups[0].models[0].price
    assert (price.input, price.output, price.cached_input) == (0.15, 10, 0.075)


def test_the_admin_takes_a_price_away(admin_client, endpoint):
    saved(admin_client, endpoint, price_input="", price_output="", price_cached_input="")
    assert load().configuration.model_groups[0].models[0].price.input is None


def test_saving_without_an_edit_changes_nothing(admin_client, endpoint):
    before = load().revision
    saved(admin_client, endpoint)
    assert (load().revision, dump(read_configuration())) == (before, FILE.decode())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"price_input": "-1"}, "must be at least 0"),
        ({"price_input": ""}, "is missing: the other prices stand only beside it"),
    ],
)
def test_a_mistake_is_told_at_its_field(admin_client, endpoint, changes, complaint):
    before = load().revision
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | changes
    response = admin_client.post(reverse("admin:routing_endpoint_change", args=[endpoint.pk]), data)
    form = response.context["adminform"].form
    assert complaint in " ".join(form.errors["price_input"])
    assert load().revision == before
