"""The configuration in Django's admin: pages to change it, to see what runs and what happened, and to go back.

Whatever needs the running gateway asks it through the request (`running`); nothing here routes a request of a client.
"""

from django.contrib import admin

from routing.admin import endpoints, groups, people, records, revisions, settings_page

__all__ = ["endpoints", "groups", "people", "records", "revisions", "settings_page"]

admin.site.index_template = "routing/dashboard.html"
admin.site.index_title = "Overview"
