"""Model groups with their endpoints, in the order in which the YAML has them."""

from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from routing.admin.explain_page import explain_page
from routing.admin.kept_answers import CachedGroups
from routing.admin.publishing import DEADLINES, position_after
from routing.config import stored_secrets
from routing.config.references import kind_of
from routing.config.schema import Section
from routing.models import Endpoint, ModelGroup
from routing.old_page import GONE, OldPageForm
from routing.section_form import EndpointForm, GroupForm


class PlaceForm(OldPageForm):
    """A group in the list, where it is dragged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch(["position"])


class InlineEndpointForm(EndpointForm):
    """What matters most of an endpoint, in one row."""

    position = forms.IntegerField(required=False, min_value=0, widget=UnfoldAdminIntegerFieldWidget)

    def __init__(self, *args: Any, rows: "EndpointRows", **kwargs: Any) -> None:
        """rows: all of the page."""
        self.rows = rows
        super().__init__(*args, **kwargs)
        for name in ("name", "model", "base_url"):  # the fields are narrow
            if name in self.fields:
                self.fields[name].widget.attrs["title"] = self.initial.get(name, "")
        if "api_key" in self.fields:
            kept = self.instance.api_key
            lost = bool(self.lost_keys("api_key"))
            self.fields["api_key"].widget.attrs |= {
                "data-lost": lost,
                "placeholder": "lost: cannot be decrypted" if lost else kept if kind_of(kept) else "",
                "title": strip_tags(str(self.fields["api_key"].help_text)),
            }
        if self.instance.pk is None:
            self.initial["position"] = None  # none yet, and not the first

    def clean_position(self) -> int:
        """A row that nobody has dragged yet stays where it is."""
        position: int | None = self.cleaned_data["position"]
        return self.instance.position if position is None else position

    def names_beside(self) -> set[str]:
        return self.rows.names

    @property
    def opened_keys(self) -> Collection[str]:
        return self.rows.opened_keys

    def completed(self, section: Section) -> Section:
        completed = super().completed(section)
        self.rows.names.add(getattr(completed, "name", ""))
        return completed

    def validate_unique(self) -> None:
        """Rows that nobody touched cost no query. Those of the page are compared when all are known: they may swap."""
        name = self.cleaned_data.get("name")
        if name and self.has_changed() and Endpoint.objects.filter(name=name).exclude(pk__in=self.rows.keys).exists():
            self.add_error("name", self.instance.unique_error_message(Endpoint, ("name",)))


class EndpointRows(PaginationInlineFormSet):
    """All rows of the page, whose names must differ."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        return super().get_form_kwargs(index) | {"rows": self}

    @cached_property
    def names(self) -> set[str]:
        """Those that were typed; learns those that are made up."""
        typed = (self.data.get(f"{self.add_prefix(row)}-name") for row in range(self.total_form_count()))
        return {name for name in typed if name}

    @cached_property
    def opened_keys(self) -> Collection[str]:
        """Read once for all rows."""
        return stored_secrets.reveal_all().keys()

    @cached_property
    def keys(self) -> list[int]:
        """Of the rows that were there before."""
        return [form.instance.pk for form in self.initial_forms if form.instance.pk is not None]

    def clean(self) -> None:
        super().clean()
        told = [line for line in map(_changed_meanwhile, self.deleted_forms) if line]
        if told:
            raise ValidationError(told)

    def validate_unique(self) -> None:
        """Within the page; at the field."""
        seen: set[str] = set()
        for form in self._kept_forms():
            name = form.cleaned_data.get("name")
            if name and name in seen:
                form.add_error("name", "Another endpoint of this page has this name.")
            seen.add(name)

    def save(self, commit: bool = True) -> Any:
        """A name that goes from one row to another is given up first: the database compares after every row."""
        taken = {form.instance.name for form in self._kept_forms()}
        for form in self.initial_forms:
            had = form.initial.get("name")
            if had in taken and (form in self.deleted_forms or form.instance.name != had):
                Endpoint.objects.filter(pk=form.instance.pk).update(name=f" {form.instance.pk}")  # nobody can type that
        return super().save(commit)

    def _kept_forms(self) -> list[Any]:
        return [form for form in self.forms if form not in self.deleted_forms and form.is_valid()]


def _changed_meanwhile(form: Any) -> str:
    """Why a row is not deleted yet; empty: nobody else changed it, or it is gone already."""
    if form.instance.pk is None:
        return GONE if form.cleaned_data.get("id") else ""
    columns = ", ".join(form.overtaken())
    told = f"Somebody else changed endpoint {form.initial['name']} meanwhile: {columns}."
    return f"{told} Save again to delete it all the same." if columns else ""


class EndpointInline(TabularInline):
    """The endpoints of a group, dragged into order; everything about one is on its own page."""

    model = Endpoint
    form = InlineEndpointForm
    formset = EndpointRows
    fields = ("name", "live", "weight", "enabled", "model", "base_url", "api_key", "position")
    readonly_fields = ("live",)
    ordering = ("position", "pk")
    ordering_field: Any = "position"
    hide_ordering_field = True
    hide_title = True
    extra = 0
    show_change_link = True

    @admin.display(description="now")
    def live(self, endpoint: Endpoint) -> SafeString | str:
        if not endpoint.name:  # the empty row that is copied for a new one
            return ""
        page = reverse("admin:routing_endpoint_change", args=[endpoint.pk])
        return format_html('<a href="{}" class="lp-live" data-live="{}" data-part="summary"></a>', page, endpoint.name)


@admin.register(ModelGroup)
class ModelGroupAdmin(CachedGroups):
    """A group with its endpoints."""

    form = GroupForm
    inlines = [EndpointInline]
    list_display = ("name", "strategy", "available", "in_flight", "falls_back_to", "cache")
    search_fields = ("name",)
    ordering = ("position", "pk")
    ordering_field: Any = "position"
    hide_ordering_field = True
    change_form_outer_before_template: Any = "routing/group_now.html"
    fieldsets = [
        (None, {"fields": ("name", "strategy", "fallbacks")}),
        ("Cache", {"classes": ["collapse"], "fields": ("cache", "cache_ttl", "cache_policy", "cache_shared")}),
        (
            "Failures and deadlines",
            {
                "classes": ["collapse"],
                "fields": ("num_retries", "allowed_fails", "cooldown_time", "stream_recovery", *DEADLINES),
            },
        ),
    ]

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, form=PlaceForm, **kwargs)

    def listed(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        before = _in_order()
        response = super().listed(request, context)
        if "_save" in request.POST:
            shown = {
                pk for name, pk in request.POST.dict().items() if name.startswith("form-") and name.endswith("-id")
            }
            _put_in_order(before, shown)
        return response

    def get_urls(self) -> list[URLPattern]:
        explain = self.admin_site.admin_view(lambda request: explain_page(self, request))
        return [path("explain/", explain, name="routing_explain"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelGroup]:
        return super().get_queryset(request).prefetch_related("endpoints")

    @admin.display(description="Endpoints")
    def available(self, group: ModelGroup) -> SafeString:
        return format_html(
            '<span class="lp-live" data-live-group="{}" data-part="available">{}</span>',
            group.name,
            len(group.endpoints.all()),
        )

    @admin.display(description="In flight")
    def in_flight(self, group: ModelGroup) -> SafeString:
        return format_html('<span class="lp-live" data-live-group="{}" data-part="in_flight">-</span>', group.name)

    @admin.display(description="Falls back to")
    def falls_back_to(self, group: ModelGroup) -> str:
        return ", ".join(map(str, group.fallbacks)) or "-"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.position = position_after(ModelGroup.objects.all())
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        added = [inline for inline in formset.extra_forms if inline["position"].data in (None, "")]
        for number, inline in enumerate(added):
            inline.instance.position = _last_position(formset) + 1 + number
        super().save_formset(request, form, formset, change)


def _last_position(formset: Any) -> int:
    """Of all endpoints that the group has, and of all rows that were dragged."""
    rows: list[int] = [form.instance.position for form in formset.forms if form["position"].data not in (None, "")]
    return max([position_after(formset.instance.endpoints.all()) - 1, *rows])


def _in_order() -> list[int]:
    return list(ModelGroup.objects.order_by("position", "pk").values_list("pk", flat=True))


def _put_in_order(before: list[int], shown: Collection[str]) -> None:
    """The page numbered its own rows only: they share the places that they had among all, in their new order."""
    dragged = iter([pk for pk in _in_order() if str(pk) in shown])
    wanted = [next(dragged) if str(pk) in shown else pk for pk in before]
    groups = ModelGroup.objects.in_bulk()
    moved = []
    for position, pk in enumerate(wanted):
        if groups[pk].position != position:
            groups[pk].position = position
            moved.append(groups[pk])
    ModelGroup.objects.bulk_update(moved, ["position"])
