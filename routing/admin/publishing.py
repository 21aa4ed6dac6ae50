"""What one request of the admin changes is published as one revision, or refused whole."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.contrib.messages.storage import default_storage
from django.db.models import Max, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from unfold.admin import ModelAdmin

from routing.admin.live_state import live_state
from routing.config.authorship import authored_by
from routing.config.publish import ChangeRefused, publishing

Changed = TypeVar("Changed")

LONGEST_MESSAGE = 500
DEADLINES = ("connect_timeout", "http_timeout", "first_event_timeout", "idle_timeout", "stream_timeout")


class PublishingAdmin(ModelAdmin):
    """Turns what one request changed into one revision."""

    list_before_template: Any = "routing/live_data.html"
    change_form_outer_before_template: Any = "routing/live_data.html"
    list_after_template: Any = "routing/why_list.html"
    change_form_after_template: Any = "routing/why.html"

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = self._with_live(request, extra_context) | {"show_history": False}  # Django's own, which is empty

        def view() -> Any:
            return super(PublishingAdmin, self).changeform_view(request, object_id, form_url, context)

        if request.method != "POST":
            return view()
        try:
            return self._as_one_change(request, view)
        except ChangeRefused as refused:
            # The same once more, with a form that knows better: nothing that was typed is lost.
            vars(request).update(_messages=default_storage(request), refused=refused)
            return view()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        refused = getattr(request, "refused", None)
        return type(form.__name__, (form,), {"refused": refused}) if refused else form

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = self._with_live(request, extra_context)
        return self.published(request, lambda: self.listed(request, context))

    def listed(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        """The list; or what a POST does to its rows."""
        return super().changelist_view(request, context)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.published(request, lambda: super(PublishingAdmin, self).delete_view(request, *args, **kwargs))

    def published(self, request: HttpRequest, view: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        """What the view changes becomes one revision; refused, the page comes again and says why."""
        if request.method != "POST":
            return view()
        return self.changed(request, view) or redirect(request.get_full_path())

    def changed(self, request: HttpRequest, change: Callable[[], Changed], why: str = "") -> Changed | None:
        """Runs the change as one revision. None: it was refused, and the user has been told why."""
        try:
            return self._as_one_change(request, change, why)
        except ChangeRefused as refused:
            list(messages.get_messages(request))  # the page's own "was changed successfully" is not true any more
            self.message_user(request, f"Nothing was changed. {'; '.join(refused.complaints)}", messages.ERROR)
            return None

    def _as_one_change(self, request: HttpRequest, change: Callable[[], Changed], why: str = "") -> Changed:
        """Raises ChangeRefused."""
        why = request.POST.get("_why", "").strip()[:LONGEST_MESSAGE] or why
        with authored_by(request.user.get_username(), "admin", why), publishing() as outcome:
            done = change()
        if outcome.complaints:
            self.message_user(request, f"Not published yet: {'; '.join(outcome.complaints)}", messages.WARNING)
        if outcome.blanked:
            taken = ", ".join(outcome.blanked)
            self.message_user(
                request, f"Another host: the stored key was taken out, give it anew. {taken}", messages.WARNING
            )
        return done

    def _with_live(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> dict[str, Any]:
        live = live_state(request) if request.method == "GET" else {}
        return {"live": live, **(extra_context or {})}


def position_after(rows: QuerySet[Any]) -> int:
    """The position behind all these rows."""
    last = rows.aggregate(last=Max("position"))["last"]
    return 0 if last is None else last + 1


def without_removals(fieldsets: Any, row: Any = None) -> list[tuple[Any, dict[str, Any]]]:
    """Without the switches that remove a key which the row does not have; without a row, without all."""

    def stays(name: str) -> bool:
        return not name.startswith("remove_") or bool(getattr(row, name.removeprefix("remove_"), ""))

    return [(title, options | {"fields": [*filter(stays, options["fields"])]}) for title, options in fieldsets]
