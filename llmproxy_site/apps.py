"""Connects what the site does when the configuration changes."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The project's own app: commands, static files, the composition root."""

    name = "llmproxy_site"

    def ready(self) -> None:
        from django.db.models.signals import post_save

        from llmproxy_site.announce import when_committed
        from routing.models import Revision

        post_save.connect(when_committed, sender=Revision, dispatch_uid="announce a revision")
