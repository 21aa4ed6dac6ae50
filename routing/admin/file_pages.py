"""The YAML in the admin: import with a look at the plan first, export, and how far the two have drifted apart.

A file waits for its confirmation in the page itself, encrypted: it may hold keys, and no page shows one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from routing.admin.conflicts import choices_in, open_questions, questions
from routing.admin.pages import page, table_of
from routing.admin.publishing import LONGEST_MESSAGE
from routing.config import stored_secrets, yaml_file
from routing.config.merge import Winner
from routing.config.publish import ChangeRefused, current_revision
from routing.config.snapshot import read_configuration
from routing.config.wording import ConfigurationInvalid
from routing.config.yaml_file import FileInvalid, ParsedFile
from routing.config.yaml_import import Conflicted, drift, import_parsed, plan_import

MOST_BYTES = 1024 * 1024
PASTED = "pasted.yaml"
_MOST_TOLD = 5


class UploadForm(forms.Form):
    """A file, or its text."""

    file = forms.FileField(required=False, label="YAML file", widget=UnfoldAdminFileFieldWidget())
    text = forms.CharField(
        required=False,
        strip=False,
        label="Or paste it",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "spellcheck": "false", "class": "lp-code"}),
    )
    prune = forms.BooleanField(
        required=False,
        label="Remove what the file does not name any more",
        widget=UnfoldBooleanSwitchWidget(),
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file = cleaned.get("file")
        if file is None and not cleaned.get("text"):
            raise forms.ValidationError("Choose a file or paste its text.")
        if file is not None and file.size > MOST_BYTES:
            raise forms.ValidationError("The file is over 1 MiB.")
        return cleaned

    def waiting(self, user: Any) -> "Waiting":
        """The file as bytes in latin-1: whatever is in it, it is the parser's to refuse."""
        file = self.cleaned_data["file"]
        content: bytes = file.read() if file is not None else self.cleaned_data["text"].encode()
        name = file.name if file is not None else PASTED
        return Waiting(user.pk, name, content.decode("latin-1"), self.cleaned_data["prune"], current_revision())


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file between its upload and the confirmation. revision: of the plan that the user saw."""

    user: int
    name: str
    content: str
    prune: bool
    revision: int

    def sealed(self) -> str:
        return stored_secrets.seal(json.dumps(asdict(self)))

    @classmethod
    def unsealed(cls, sealed: str, user: Any) -> "Waiting | None":
        """None: it is not ours, or another user's."""
        text = stored_secrets.unseal(sealed)
        try:
            waiting = cls(**json.loads(text or "null"))
        except (TypeError, ValueError):
            return None
        return waiting if waiting.user == user.pk else None

    def parsed(self) -> ParsedFile:
        """Raises FileInvalid."""
        return yaml_file.parse(self.content.encode("latin-1"), self.name)


class FilePages(ModelAdmin):
    """Pages beside the history."""

    def file_urls(self) -> list[URLPattern]:
        def view(method: Any) -> Any:
            return self.admin_site.admin_view(method)

        return [
            path("import/", view(self.import_view), name="routing_import"),
            path("export/", view(self.export_view), name="routing_export"),
            path("drift/", view(self.drift_view), name="routing_drift"),
        ]

    def has_publish_permission(self, request: HttpRequest) -> bool:
        raise NotImplementedError

    # -- import

    def import_view(self, request: HttpRequest) -> HttpResponseBase:
        """Three steps: the form, the plan, the import."""
        if not self.has_publish_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._upload_page(request, UploadForm())
        if "waiting" not in request.POST:
            form = UploadForm(request.POST, request.FILES)
            if not form.is_valid():
                return self._upload_page(request, form)
            return self._planned(request, form.waiting(request.user))
        waiting = Waiting.unsealed(request.POST["waiting"], request.user)
        if waiting is None:
            self.message_user(request, "The page was too old. Give the file again.", messages.ERROR)
            return redirect("admin:routing_import")
        choices = choices_in(request.POST.dict())
        if waiting.revision != current_revision():
            self.message_user(request, "The configuration has changed meanwhile: look again.", messages.WARNING)
            return self._planned(request, waiting, choices)
        return self._imported(request, waiting, choices)

    def _upload_page(self, request: HttpRequest, form: UploadForm, problems: tuple[str, ...] = ()) -> HttpResponseBase:
        """A pasted key must not come back in the page: the form is always an empty one."""
        if form.is_bound:
            problems = tuple(str(error) for errors in form.errors.values() for error in errors)
        return page(self, request, "routing/import.html", title="Import", form=UploadForm(), problems=problems)

    def _planned(
        self, request: HttpRequest, waiting: Waiting, choices: Mapping[str, Winner] | None = None
    ) -> HttpResponseBase:
        """choices: None where nobody has been asked yet. Those made for other values count no more."""
        try:
            plan = plan_import(waiting.parsed(), prune=waiting.prune, winner=choices or {})
        except (FileInvalid, ConfigurationInvalid) as error:
            return self._upload_page(request, UploadForm(), tuple(str(error).splitlines()))
        asked = questions(plan, choices or {})
        if choices is not None and (left := open_questions(asked)):
            more = f" and {len(left) - _MOST_TOLD} more" if len(left) > _MOST_TOLD else ""
            told = f"Nothing was imported. Choose a side for: {', '.join(left[:_MOST_TOLD])}{more}."
            self.message_user(request, told, messages.ERROR)
        return page(
            self,
            request,
            "routing/import_plan.html",
            title="Import",
            plan=plan,
            differences=table_of(plan.changes),
            conflicts=asked,
            asked_again=choices is not None,
            waiting=replace(waiting, revision=plan.revision).sealed(),
            name=waiting.name,
            prune=waiting.prune,
            message=_message(request),
        )

    def _imported(self, request: HttpRequest, waiting: Waiting, choices: Mapping[str, Winner]) -> HttpResponseBase:
        author, source = request.user.get_username(), f"import of {waiting.name}"
        try:
            result = import_parsed(
                waiting.parsed(),
                author=author,
                source=source,
                message=_message(request),
                prune=waiting.prune,
                winner=choices,
            )
        except Conflicted:
            return self._planned(request, waiting, choices)
        except (FileInvalid, ChangeRefused, ConfigurationInvalid) as error:
            return self._upload_page(request, UploadForm(), tuple(str(error).splitlines()))
        done = f"Imported {waiting.name} as revision {result.revision}."
        if not result.changes:
            done = f"{waiting.name} changes nothing; the revision is still {result.revision}."
        self.message_user(request, done, messages.SUCCESS)
        if result.missing:
            self.message_user(request, f"No usable value for {', '.join(result.missing)}.", messages.WARNING)
        return redirect("admin:routing_revision_changelist")

    # -- export and drift

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The YAML as a download; keys are references in it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            text = yaml_file.dump(read_configuration())
        except ConfigurationInvalid as error:
            self.message_user(request, f"Not exported: {error}", messages.ERROR)
            return redirect("admin:routing_revision_changelist")
        headers = {"content-disposition": 'attachment; filename="llmproxy.yaml"', "cache-control": "no-store"}
        return HttpResponse(text, content_type="application/yaml; charset=utf-8", headers=headers)

    def drift_view(self, request: HttpRequest) -> HttpResponseBase:
        """What was changed since the last import."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        trouble, found = "", None
        try:
            found = drift()
        except ConfigurationInvalid as error:
            trouble = str(error)
        rows = table_of(found.changes) if found else []
        return page(self, request, "routing/drift.html", title="Drift", drift=found, differences=rows, trouble=trouble)


def _message(request: HttpRequest) -> str:
    return request.POST.get("message", "").strip()[:LONGEST_MESSAGE]
