"""What the admin calls this package."""

from django.apps import AppConfig


class StatsConfig(AppConfig):
    """Records, sums and counters."""

    name = "stats"
    verbose_name = "Numbers"
