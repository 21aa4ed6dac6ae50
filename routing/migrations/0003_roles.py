"""What staff may do, as groups: viewer, operator, configurator. Users get them in the admin."""

from django.db import migrations, models

SEE = [("view", model) for model in ("modelgroup", "endpoint", "generalsettings", "revision")]
OPERATE = [*SEE, ("operate", "endpoint")]
CONFIGURE = [
    *OPERATE,
    *((action, model) for model in ("modelgroup", "endpoint") for action in ("add", "change", "delete")),
    ("change", "generalsettings"),
    ("publish", "revision"),
]
ROLES = {"viewer": SEE, "operator": OPERATE, "configurator": CONFIGURE}
NAMES = {
    ("operate", "endpoint"): "Can switch, drain and test endpoints, and end cooldowns",
    ("publish", "revision"): "Can import files and roll back",
}


def make_roles(apps, schema_editor):
    """Permissions are made after all migrations, as a rule; these are needed now."""
    group_model = apps.get_model("auth", "Group")
    for role, allowed in ROLES.items():
        group, _ = group_model.objects.get_or_create(name=role)
        group.permissions.add(*(_permission(apps, action, model) for action, model in allowed))


def _permission(apps, action, model):
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="routing", model=model
    )
    names = {"modelgroup": "model group", "generalsettings": "general settings"}
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type,
        codename=f"{action}_{model}",
        defaults={"name": NAMES.get((action, model), f"Can {action} {names.get(model, model)}")},
    )
    return permission


class Migration(migrations.Migration):

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("routing", "0002_revisions_and_imports"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="endpoint",
            options={
                "base_manager_name": "objects",
                "ordering": ["group__position", "position", "name"],
                "permissions": [("operate_endpoint", "Can switch, drain and test endpoints, and end cooldowns")],
            },
        ),
        migrations.AlterModelOptions(
            name="revision",
            options={
                "get_latest_by": "number",
                "ordering": ["-number"],
                "permissions": [("publish_revision", "Can import files and roll back")],
            },
        ),
        migrations.AlterField("endpoint", "position", models.PositiveIntegerField(default=0)),
        migrations.AlterField("modelgroup", "position", models.PositiveIntegerField(default=0)),
        migrations.RunPython(make_roles, migrations.RunPython.noop),
    ]
