"""Whoever sees the configuration sees what happened to requests too."""

from django.db import migrations

ROLES = ("viewer", "operator", "configurator")


def let_roles_see_requests(apps, schema_editor):
    """Permissions are made after all migrations, as a rule; this one is needed now."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="stats", model="recordedrequest"
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename="view_recordedrequest", defaults={"name": "Can view request"}
    )
    for group in apps.get_model("auth", "Group").objects.filter(name__in=ROLES):
        group.permissions.add(permission)


class Migration(migrations.Migration):

    dependencies = [("routing", "0003_roles"), ("stats", "0001_initial")]

    operations = [migrations.RunPython(let_roles_see_requests, migrations.RunPython.noop)]
