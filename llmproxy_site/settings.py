"""Django's settings. Everything that differs between installations comes from the environment."""

from collections.abc import Callable
from typing import Any

import dj_database_url
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

from llmproxy_site.environment import PROJECT, environment, private_directory, variables
from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.logging import configure_structlog, logging_settings
from llmproxy_site.store import cache_url

LLMPROXY = environment()
LLMPROXY_VARIABLES = variables  # what references look into; a function, so that no report of settings holds keys

BASE_DIR = PROJECT
DEBUG = False  # also under runserver: error pages would show configuration
DEFAULT_EXCEPTION_REPORTER = "llmproxy_site.error_reports.StruckOutReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "llmproxy_site.error_reports.NothingButPlaces"
SECRET_KEY = LLMPROXY.secret_key
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *LLMPROXY.allowed_hosts]
CSRF_TRUSTED_ORIGINS = list(LLMPROXY.csrf_trusted_origins)

INSTALLED_APPS = [
    "routing",  # before unfold: one of its templates stands in for unfold's
    "unfold",
    "llmproxy_site",  # before staticfiles: its runserver is daphne's, which therefore need not be an app itself
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic",
    "django.contrib.staticfiles",
    "channels",
    "ninja",  # brings the OpenAPI page's files, so that /docs works offline
    "cache_app",
    "stats",
]

MIDDLEWARE = [
    "llmproxy_site.middleware.gateway_headers",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000  # the page of a group has seventeen fields per endpoint

ROOT_URLCONF = "llmproxy_site.urls"
ASGI_APPLICATION = "llmproxy_site.asgi.application"
APPEND_SLASH = False  # an unknown path is a 404 in the gateway's own shape, never a redirect

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    url = LLMPROXY.database_url
    if url is None:
        url = f"sqlite:///{private_directory(LLMPROXY.data_dir) / 'llmproxy.sqlite3'}"
    database: dict[str, Any] = dict(dj_database_url.parse(url))
    if database["ENGINE"] == "django.db.backends.sqlite3":
        # Several processes share the file: readers never wait for a writer (WAL), writers wait for each other up to
        # `timeout` seconds, and take the lock at once, because a lock that is asked for midway fails without waiting.
        database["OPTIONS"] = {
            **database.get("OPTIONS", {}),
            "timeout": 5,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;",
        }
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_CACHE_URL = cache_url(LLMPROXY)
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    if _CACHE_URL is None
    else {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _CACHE_URL,
        "KEY_PREFIX": "llmproxy.django",
        # The admin must work while the store is down: what fails is a miss.
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.25, "SOCKET_TIMEOUT": 0.25, "IGNORE_EXCEPTIONS": True},
    }
}

SESSION_ENGINE = "django.contrib.sessions.backends.db"
# Cookies are bound to https once every origin that the operator names is https; a loopback gateway speaks http.
_BEHIND_TLS = bool(CSRF_TRUSTED_ORIGINS) and all(origin.startswith("https://") for origin in CSRF_TRUSTED_ORIGINS)
SESSION_COOKIE_SECURE = _BEHIND_TLS
CSRF_COOKIE_SECURE = _BEHIND_TLS
SESSION_COOKIE_NAME = "llmproxy_session"  # cookies know no port: another Django on localhost must not log us out
CSRF_COOKIE_NAME = "llmproxy_csrf"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # HSTS belongs to the proxy that ends TLS; on loopback there is no https to insist on
    "security.W008",  # likewise the redirect to https
    "security.W012",  # session cookie: secure as soon as the operator names https origins, see above
    "security.W016",  # CSRF cookie: the same
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
SERVESTATIC_USE_FINDERS = True  # straight from the installed packages: no collectstatic, works offline
SERVESTATIC_ALLOW_ALL_ORIGINS = False
SERVESTATIC_MAX_AGE = 3600


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    name = permission if "." in permission else f"routing.{permission}"
    return lambda request: request.user.has_perm(name)


_PAGES = ("/explain/", "/drift/", "/import/")  # below a list, with links of their own


def _link(title: str, icon: str, page: str, permission: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:{page}")

    def active(request: HttpRequest) -> bool:
        own = str(link)
        return request.path == own or (request.path.startswith(own) and not request.path.endswith(_PAGES))

    return {"title": title, "icon": icon, "link": link, "permission": _may(permission), "active": active}


def _superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)


UNFOLD = {
    "SITE_TITLE": "LLMProxy",
    "SITE_HEADER": "LLMProxy",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,  # there is no site beside the admin
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("llmproxy/favicon.svg")},
    ],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("routing/admin.css")],
    "SCRIPTS": [lambda request: static("routing/live.js")],
    "DASHBOARD_CALLBACK": "routing.admin.dashboard.cards",
    "SIDEBAR": {
        "navigation": [
            {
                "title": "Gateway",
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    _link("Model groups", "account_tree", "routing_modelgroup_changelist", "view_modelgroup"),
                    _link("Endpoints", "dns", "routing_endpoint_changelist", "view_endpoint"),
                    _link("Explain", "route", "routing_explain", "view_modelgroup"),
                    _link("Settings", "tune", "routing_generalsettings_changelist", "view_generalsettings"),
                ],
            },
            {
                "title": "Numbers",
                "separator": True,
                "items": [
                    _link("Requests", "receipt_long", "stats_recordedrequest_changelist", "stats.view_recordedrequest"),
                ],
            },
            {
                "title": "Configuration",
                "separator": True,
                "items": [
                    _link("Revisions", "history", "routing_revision_changelist", "view_revision"),
                    _link("Drift", "difference", "routing_drift", "view_revision"),
                    _link("Import", "upload", "routing_import", "publish_revision"),
                    _link("Export", "download", "routing_export", "view_revision"),
                ],
            },
            {
                "title": "People",
                "separator": True,
                "items": [
                    {
                        "title": "Users",
                        "icon": "person",
                        "link": reverse_lazy("admin:auth_user_changelist"),
                        "permission": _superuser,
                    },
                    {
                        "title": "Roles",
                        "icon": "badge",
                        "link": reverse_lazy("admin:auth_group_changelist"),
                        "permission": _superuser,
                    },
                ],
            },
        ],
    },
}

known_secrets.learn(LLMPROXY.secrets())
configure_structlog()
LOGGING = logging_settings(LLMPROXY.log_level)
