/* Keeps the page of an order true: asks the shop where the order stands, less and less often, shows
   the page anew when that has changed, and counts down the time to pay. Needs no other script. */
(function () {
    "use strict";

    const FIRST_DELAY = 3000;
    const LONGEST_DELAY = 30000;
    const DELAY_IN_TROUBLE = 120000;
    const SLOWER = 1.3;
    const PARTS = ["[data-bitsby-said]", "[data-bitsby-next]", "[data-bitsby-details]"];

    const page = document.querySelector("[data-bitsby-order]");
    if (!page) {
        return;
    }
    let delay = FIRST_DELAY;
    let timer = null;
    let asking = false;
    let deadline = null;

    function isFinal() {
        return page.dataset.final === "true";
    }

    /* By the shop's clock: what is left is counted from when the shop said it. */
    function setDeadline(seconds) {
        deadline = seconds === null || isNaN(seconds) ? null : Date.now() + seconds * 1000;
        showTimeLeft();
    }

    function twoDigits(number) {
        return String(number).padStart(2, "0");
    }

    function showTimeLeft() {
        const left = page.querySelector("[data-bitsby-left]");
        if (!left) {
            return;
        }
        const seconds = deadline === null ? 0 : Math.round((deadline - Date.now()) / 1000);
        left.hidden = seconds <= 0;
        if (seconds <= 0) {
            return;
        }
        const hours = Math.floor(seconds / 3600);
        const minutes = Math.floor(seconds / 60) % 60;
        const clock = (hours ? hours + ":" + twoDigits(minutes) : minutes) + ":" + twoDigits(seconds % 60);
        left.querySelector("[data-bitsby-clock]").textContent = clock;
    }

    function tick() {
        const wasRunning = deadline !== null && deadline > Date.now() - 1000;
        showTimeLeft();
        if (wasRunning && deadline <= Date.now()) {
            ask();
        }
    }

    function later() {
        clearTimeout(timer);
        if (isFinal() || document.hidden) {
            return;
        }
        timer = setTimeout(ask, delay);
        if (delay < LONGEST_DELAY) {
            delay = Math.min(delay * SLOWER, LONGEST_DELAY);
        }
    }

    function ask() {
        if (asking || isFinal()) {
            return;
        }
        asking = true;
        clearTimeout(timer);
        fetch(page.dataset.stateUrl, {credentials: "same-origin", cache: "no-store"})
            .then(function (answer) {
                if (!answer.ok) {
                    throw new Error("status " + answer.status);
                }
                return answer.json();
            })
            .then(function (told) {
                delay = Math.min(delay, LONGEST_DELAY);
                if (told.version !== page.dataset.version) {
                    delay = FIRST_DELAY;
                    return renew();
                }
                setDeadline(told.secondsLeft);
            })
            .catch(function () {
                /* The shop or the network is away; what is shown stays, and we ask again. */
                delay = Math.min(delay * 2, DELAY_IN_TROUBLE);
            })
            .then(function () {
                asking = false;
                later();
            });
    }

    /* Put the new texts into the elements that are there, so that screen readers announce them. */
    function renew() {
        return fetch(location.href, {credentials: "same-origin", cache: "no-store"})
            .then(function (answer) {
                if (!answer.ok) {
                    throw new Error("status " + answer.status);
                }
                return answer.text();
            })
            .then(function (text) {
                const other = new DOMParser().parseFromString(text, "text/html");
                const renewed = other.querySelector("[data-bitsby-order]");
                if (!renewed) {
                    location.reload();
                    return;
                }
                const focused = document.activeElement;
                const hadFocus = focused && page.contains(focused);
                PARTS.forEach(function (part) {
                    const here = page.querySelector(part);
                    const there = renewed.querySelector(part);
                    if (here && there) {
                        here.className = there.className;
                        here.replaceChildren.apply(here, Array.from(there.childNodes));
                    }
                });
                Object.assign(page.dataset, renewed.dataset);
                page.className = renewed.className;
                document.title = other.title;
                setDeadline(parseInt(renewed.dataset.secondsLeft, 10));
                if (hadFocus && !page.contains(document.activeElement)) {
                    page.querySelector("[data-bitsby-said]").focus();
                }
            });
    }

    /* Timers stand still while a laptop sleeps or a tab is hidden. */
    function wakeUp() {
        if (!document.hidden) {
            delay = FIRST_DELAY;
            ask();
        }
    }

    setDeadline(parseInt(page.dataset.secondsLeft, 10));
    setInterval(tick, 1000);
    document.addEventListener("visibilitychange", wakeUp);
    window.addEventListener("pageshow", function (event) {
        if (event.persisted) {
            wakeUp();
        }
    });
    window.addEventListener("online", wakeUp);
    later();
})();
