"""Settings of shops whose tables come straight from the models."""


class NoMigrations:
    """Tells Django, as ``MIGRATION_MODULES``, that no app has migrations."""

    def __contains__(self, label: str) -> bool:
        return True

    def __getitem__(self, label: str) -> None:
        return None
