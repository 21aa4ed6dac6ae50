"""The Django project: settings, the composition root, and the commands that start servers."""

__version__ = "0.1.0"
