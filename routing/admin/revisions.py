"""The history: what every revision changed, by whom and why, and the way back."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from routing.admin.file_pages import FilePages
from routing.admin.live_state import live_state
from routing.admin.pages import page, table_of
from routing.admin.publishing import LONGEST_MESSAGE
from routing.config.differences import Change, differences
from routing.config.publish import ChangeRefused, configuration_of, current_revision, rollback
from routing.config.snapshot import read_configuration
from routing.config.wording import ConfigurationInvalid
from routing.models import Revision

PERMISSION = "routing.publish_revision"


class RollbackForm(forms.Form):
    """Why one goes back."""

    message = forms.CharField(
        required=False,
        max_length=LONGEST_MESSAGE,
        label="Why",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Shown in the history (optional)"}),
    )


@admin.register(Revision)
class RevisionAdmin(FilePages):
    """What was published, by whom. Read only; a rollback publishes anew."""

    list_display = ("title", "when", "author", "source", "summary", "message")
    list_display_links = ("title",)
    list_filter = ("author", "source")
    search_fields = ("author", "source", "message")
    list_before_template: Any = "routing/live_data.html"
    list_per_page = 50

    def get_urls(self) -> list[URLPattern]:
        def view(method: Any) -> Any:
            return self.admin_site.admin_view(method)

        return [
            path("<int:number>/rollback/", view(self.rollback_view), name="routing_rollback"),
            *self.file_urls(),
            *super().get_urls(),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Revision | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Revision | None = None) -> bool:
        return False

    def has_publish_permission(self, request: HttpRequest) -> bool:
        """Whether the user may import and roll back."""
        return request.user.has_perm(PERMISSION)

    # -- the list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {"live": live_state(request), "title": "Revisions", **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description="Revision", ordering="number")
    def title(self, revision: Revision) -> SafeString:
        return format_html("<b>#{}</b>", revision.number)

    @admin.display(description="When (UTC)", ordering="created_at")
    def when(self, revision: Revision) -> SafeString:
        return format_html('<span class="lp-when">{}</span>', f"{revision.created_at:%Y-%m-%d %H:%M:%S}")

    @admin.display(description="Changes")
    def summary(self, revision: Revision) -> str:
        """The first line of the difference, and how many there are."""
        lines = [line for line in revision.diff.splitlines() if not line.startswith(" ")]
        first = lines[0] if lines else "-"
        first = first if len(first) <= 80 else first[:79] + "…"
        return first + (f" (+{len(lines) - 1} more)" if len(lines) > 1 else "")

    # -- one revision

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """`?compare=now`: against what is configured now, instead of the revision before."""
        if not self.has_view_permission(request) or request.method != "GET":
            raise PermissionDenied
        revision = _revision(object_id)
        with_now = request.GET.get("compare") == "now"
        trouble = ""
        try:
            changes = _to_now(revision) if with_now else [Change(**change) for change in revision.changes]
        except ConfigurationInvalid as error:
            changes, trouble = [], str(error)
        return page(
            self,
            request,
            "routing/revision.html",
            title=f"Revision {revision.number}",
            revision=revision,
            current=current_revision(),
            with_now=with_now,
            differences=table_of(changes),
            trouble=trouble,
            may_publish=self.has_publish_permission(request),
        )

    def rollback_view(self, request: HttpRequest, number: int) -> HttpResponseBase:
        """GET shows what it would change, POST does it."""
        if not self.has_publish_permission(request):
            raise PermissionDenied
        revision = _revision(number)
        form = RollbackForm(request.POST if request.method == "POST" else None)
        try:
            if request.method == "POST" and form.is_valid():
                return self._rolled_back(request, number, form.cleaned_data["message"])
            back = differences(read_configuration(), configuration_of(revision))
        except ChangeRefused as error:
            self.message_user(request, f"Not rolled back. {'; '.join(error.complaints)}", messages.ERROR)
            return redirect("admin:routing_revision_change", number)
        except ConfigurationInvalid as error:
            self.message_user(request, f"Not rolled back: {error}", messages.ERROR)
            return redirect("admin:routing_revision_change", number)
        return page(
            self,
            request,
            "routing/rollback.html",
            title=f"Back to revision {number}",
            revision=revision,
            current=current_revision(),
            differences=table_of(back),
            form=form,
        )

    def _rolled_back(self, request: HttpRequest, number: int, message: str) -> HttpResponseBase:
        made = rollback(number, request.user.get_username(), message)
        if made is None:
            self.message_user(request, f"Revision {number} is what is configured now.", messages.INFO)
            return redirect("admin:routing_revision_change", number)
        told = f"Back to revision {number}, published as revision {made.number}."
        self.message_user(request, told, messages.SUCCESS)
        return redirect("admin:routing_revision_change", made.number)


def _revision(number: str | int) -> Revision:
    try:
        return Revision.objects.get(number=int(number))
    except (ValueError, OverflowError, Revision.DoesNotExist):
        raise Http404(f"There is no revision {number}.") from None


def _to_now(revision: Revision) -> list[Change]:
    return differences(configuration_of(revision), read_configuration())
