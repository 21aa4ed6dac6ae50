"""What Django answers: the admin and the operators' routes. The OpenAI routes never come here (see asgi.py)."""

from typing import NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from llmproxy_site.api import api


@csrf_exempt
def nothing(request: HttpRequest) -> NoReturn:
    """Ninja's own page at the root is a 404 too, but answers a POST with Django's page about CSRF."""
    raise Http404


urlpatterns = [
    path("", nothing),
    path("admin/", admin.site.urls),
    path("", api.urls),
]
