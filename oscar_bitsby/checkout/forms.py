"""The choice of a payment method."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from oscar_bitsby.checkout.methods import Method


class PaymentMethodForm(forms.Form):
    """Radio buttons, one for each payment method that is offered."""

    method = forms.ChoiceField(
        label=_("How would you like to pay?"),
        widget=forms.RadioSelect,
        error_messages={
            "required": _("Please choose a payment method."),
            "invalid_choice": _(
                "This payment method is not available for this order. Please choose another one."
            ),
        },
    )

    def __init__(self, *args: Any, methods: list[Method], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.methods = methods
        field = self.fields["method"]
        assert isinstance(field, forms.ChoiceField)  # for the type checker
        field.choices = [(method.code, method.label) for method in methods]

    def rows(self) -> list[dict[str, Any]]:
        """Return each method with its radio button's id and whether it is chosen."""
        chosen = self["method"].value()
        return [
            {"method": method, "is_chosen": method.code == chosen, "id": f"id_method_{number}"}
            for number, method in enumerate(self.methods)
        ]
