#!/usr/bin/env python
"""Django's command line; `manage.py help` lists the commands."""

import os
import sys

from llmproxy_site.environment import EnvironmentProblem


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmproxy_site.settings")  # noqa: TID251 - Django's own entry point
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except EnvironmentProblem as problem:
        sys.exit(f"{problem}")


if __name__ == "__main__":
    main()
