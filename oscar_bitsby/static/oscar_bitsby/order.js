/* Keeps the page of an order true: asks the shop where the order stands, less and less often, shows
   the page anew when that has changed, counts down the time to pay, and says times in the zone of
   whoever reads them. On the checkout's last step and on the page that waits for Bitsby it lets the
   back button find the order, and tries again. Needs no other script. */
(function () {
    "use strict";

    const FIRST_DELAY = 3000;
    const LONGEST_DELAY = 30000;
    const DELAY_IN_TROUBLE = 120000;
    const SLOWER = 1.3;
    /* An answer that takes longer does not come: a laptop's network is often gone when it wakes. */
    const PATIENCE = 20000;
    /* Ticks come once a second. After a longer gap the device has slept. */
    const SLEPT = 10000;
    const PARTS = ["[data-bitsby-said]", "[data-bitsby-next]", "[data-bitsby-details]"];

    /* From its memory a browser would show the last step of a checkout that is over. */
    if (document.querySelector("[data-bitsby-preview]")) {
        window.addEventListener("pageshow", function (event) {
            if (event.persisted) {
                location.reload();
            }
        });
    }

    /* Whoever comes back from Bitsby finds the order here, and is not sent to Bitsby again. */
    const waiting = document.querySelector("[data-bitsby-wait]");
    if (waiting) {
        const retry = waiting.dataset.delay && setTimeout(function () {
            location.replace(waiting.dataset.retryUrl);
        }, Number(waiting.dataset.delay) * 1000);
        waiting.addEventListener("submit", function () {
            /* A click is on its way, and may take longer than what is left of the delay. */
            clearTimeout(retry);
            history.replaceState(null, "", waiting.dataset.orderUrl);
        });
    }

    const page = document.querySelector("[data-bitsby-order]");
    if (!page) {
        return;
    }
    let delay = FIRST_DELAY;
    let timer = null;
    let asking = false;
    let deadline = null;
    let lastTick = Date.now();

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

    /* The shop writes times in its own zone; what cannot be said otherwise stays as it is. */
    function showTimesHere() {
        const language = document.documentElement.lang || undefined;
        page.querySelectorAll("time[data-bitsby-time]").forEach(function (time) {
            try {
                const moment = new Date(time.dateTime);
                const text = new Intl.DateTimeFormat(language, {dateStyle: "medium", timeStyle: "short"}).format(moment);
                const zone = new Intl.DateTimeFormat(language, {timeZoneName: "short"})
                    .formatToParts(moment)
                    .find(function (part) { return part.type === "timeZoneName"; });
                time.textContent = text + " (" + zone.value + ")";
            } catch (error) {
                return;
            }
        });
    }

    function tick() {
        const hasSlept = Date.now() - lastTick > SLEPT;
        lastTick = Date.now();
        const wasRunning = deadline !== null && deadline > Date.now() - 1000;
        showTimeLeft();
        if (wasRunning && deadline <= Date.now()) {
            ask();
        }
        if (hasSlept) {
            wakeUp();
        }
    }

    /* Return what the shop answers; ``as`` is "json" or "text". */
    function read(url, as) {
        const stop = new AbortController();
        const limit = setTimeout(function () { stop.abort(); }, PATIENCE);
        return fetch(url, {credentials: "same-origin", cache: "no-store", signal: stop.signal})
            .then(function (answer) {
                if (!answer.ok) {
                    throw new Error("status " + answer.status);
                }
                return answer[as]();
            })
            .finally(function () { clearTimeout(limit); });
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
        read(page.dataset.stateUrl, "json")
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
        return read(location.href, "text")
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
                showTimesHere();
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

    showTimesHere();
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
