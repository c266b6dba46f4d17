/* Shows the buttons that copy a field or a text, like a transaction hash. Without it, both can be
   selected and copied by hand. Needs no other script. */
(function () {
    "use strict";

    document.querySelectorAll("[data-bitsby-copy]").forEach(function (button) {
        const field = document.getElementById(button.dataset.bitsbyCopy);
        const label = button.textContent;
        if (!field || !navigator.clipboard) {
            /* Browsers offer the clipboard only over HTTPS. */
            return;
        }
        button.hidden = false;
        button.addEventListener("click", function () {
            const text = "value" in field ? field.value : field.textContent.trim();
            navigator.clipboard.writeText(text).then(function () {
                button.textContent = button.dataset.copied;
                setTimeout(function () { button.textContent = label; }, 2000);
            }, function () {
                getSelection().selectAllChildren(field);
                if (field.select) {
                    field.select();
                }
            });
        });
    });
})();
