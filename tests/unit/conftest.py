"""Unit tests: no I/O and no sleep. A busy machine makes a property slow, not wrong."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
