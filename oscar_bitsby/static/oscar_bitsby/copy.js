/* Shows the buttons that copy a field or a text, like an address or a transaction hash. Without it,
   both can be selected and copied by hand. Needs no other script. */
(function () {
    "use strict";

    const BUTTON = "[data-bitsby-copy]";
    const COPIED_FOR = 2000;

    function fieldOf(button) {
        return document.getElementById(button.dataset.bitsbyCopy);
    }

    function showButtons() {
        document.querySelectorAll(BUTTON).forEach(function (button) {
            button.hidden = !fieldOf(button);
        });
    }

    function showCopied(button) {
        /* A second click in this time must not take the message for the label. */
        if (button.hasAttribute("data-bitsby-label")) {
            return;
        }
        button.dataset.bitsbyLabel = button.textContent;
        button.textContent = button.dataset.copied;
        setTimeout(function () {
            button.textContent = button.dataset.bitsbyLabel;
            button.removeAttribute("data-bitsby-label");
        }, COPIED_FOR);
    }

    function copy(button) {
        const field = fieldOf(button);
        const text = "value" in field ? field.value : field.textContent.trim();
        navigator.clipboard.writeText(text).then(function () {
            showCopied(button);
        }, function () {
            getSelection().selectAllChildren(field);
            if (field.select) {
                field.select();
            }
        });
    }

    if (!navigator.clipboard) {
        /* Browsers offer the clipboard only over HTTPS. */
        return;
    }
    showButtons();
    /* order.js replaces parts of the page, with buttons in them. */
    document.addEventListener("bitsby:updated", showButtons);
    document.addEventListener("click", function (event) {
        const button = event.target.closest(BUTTON);
        if (button && fieldOf(button)) {
            copy(button);
        }
    });
})();
