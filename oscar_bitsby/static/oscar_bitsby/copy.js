/* Adds buttons that copy the address and the amount of a refund. Without it, the fields can be
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
            navigator.clipboard.writeText(field.value).then(function () {
                button.textContent = button.dataset.copied;
                setTimeout(function () { button.textContent = label; }, 2000);
            }, function () {
                field.select();
            });
        });
    });
})();
