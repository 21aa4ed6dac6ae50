"""The Django app that holds the configuration and everything between a request and its upstream."""

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    """Makes "routing" an app for Django."""

    name = "routing"
    verbose_name = "Routing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_save

        from routing.published_rows import when_loaded

        post_save.connect(when_loaded, dispatch_uid="publish what loaddata writes")
