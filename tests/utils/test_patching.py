"""Extend the shop's classes by a mixin."""

from types import SimpleNamespace

import pytest

from oscar_bitsby.utils import patching


class Mixin:
    def title(self):
        return f"extended {super().title()}"


class View:
    """A view of the shop."""

    def title(self):
        return "view"


def test_mixin_is_first_and_the_class_keeps_its_name():
    """The new class calls the mixin first, keeps name, module and docstring, and is made once."""
    extended = patching.prepend_mixin(View, Mixin, patched_by_app=True)

    assert extended.__mro__[1:3] == (Mixin, View)
    assert extended().title() == "extended view"
    assert (extended.__name__, extended.__module__, extended.__doc__) == (
        View.__name__,
        View.__module__,
        View.__doc__,
    )
    assert extended.patched_by_app is True
    assert patching.prepend_mixin(extended, Mixin) is extended


@pytest.mark.parametrize("has_app", [True, False])
def test_missing_app_or_view_is_left_alone(monkeypatch, has_app):
    """Without the app, or without such a view, nothing is extended and nothing raises."""
    config = SimpleNamespace(view=None)

    def get_app_config(label):
        if not has_app:
            raise LookupError(label)
        return config

    monkeypatch.setattr(patching.apps, "get_app_config", get_app_config)
    patching.extend_view("checkout", "view", Mixin)
    patching.extend_view("checkout", "other_view", Mixin)

    assert vars(config) == {"view": None}
