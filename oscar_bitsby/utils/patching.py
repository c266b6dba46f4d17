"""Extend classes that the shop already uses, stock or forked, so that it needs no fork for us."""

from typing import Any

from django.apps import apps

#: The base of the app's mixins: their ``super()`` is a class of Oscar's, which has no types.
AnyBase: Any = object


def prepend_mixin(base: type[Any], mixin: type[Any], **attributes: Any) -> type[Any]:
    """Return a class that is ``mixin`` first and ``base`` second, under the name of ``base``.

    A class that already has the mixin is returned unchanged, so repeated calls do no harm.

    Args:
        base: a view or model admin of the shop.
        mixin: the app's part; it calls ``super()`` for the rest.
        attributes: further attributes of the new class.
    """
    if issubclass(base, mixin):
        return base
    namespace = {"__module__": base.__module__, "__doc__": base.__doc__, **attributes}
    return type(base.__name__, (mixin, base), namespace)


def extend_view(label: str, attribute: str, mixin: type[Any], **attributes: Any) -> None:
    """Put ``mixin`` in front of a view that an app config of Oscar keeps as an attribute.

    Oscar builds its URLs from these attributes after ``ready()``. An app that is not installed, or
    has no such view, is left alone.
    """
    try:
        config: Any = apps.get_app_config(label)
    except LookupError:
        return
    view = getattr(config, attribute, None)
    if view is not None:
        setattr(config, attribute, prepend_mixin(view, mixin, **attributes))
