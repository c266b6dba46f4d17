/* Keeps the order's page up to date: polls the payment status, less and less often, updates the page
   when the status has changed, counts down the time to pay, and shows times in the reader's time
   zone. Where people pay on that page, it also hides the address when the time is over, and starts
   the scripts of Oscar's layout. On the checkout's preview and on the waiting page the back button
   leads to the order; the waiting page also retries by itself. Needs no other script. */
(function () {
    "use strict";

    const FIRST_DELAY = 3000;
    const MAX_DELAY = 30000;
    const MAX_DELAY_AFTER_ERRORS = 120000;
    const BACKOFF = 1.3;
    /* A laptop's network is often gone when it wakes, so requests have a time-out. */
    const TIMEOUT = 20000;
    /* Ticks come once a second. After a longer gap the device has been asleep. */
    const SLEEP_GAP = 10000;
    /* Seconds before the end from which the page asks not to start a slow transfer. */
    const URGENT = 300;
    const PAY = "[data-bitsby-pay]";
    const PARTS = ["[data-bitsby-status]", "[data-bitsby-next]", PAY, "[data-bitsby-details]"];

    /* A browser would restore the last step of a finished checkout from its cache. */
    if (document.querySelector("[data-bitsby-preview]")) {
        window.addEventListener("pageshow", function (event) {
            if (event.persisted) {
                location.reload();
            }
        });
    }

    /* The back button leads from Bitsby to the order's page, and not to Bitsby again. */
    const waiting = document.querySelector("[data-bitsby-wait]");
    if (waiting) {
        const retry = waiting.dataset.delay && setTimeout(function () {
            location.replace(waiting.dataset.retryUrl);
        }, Number(waiting.dataset.delay) * 1000);
        waiting.addEventListener("submit", function () {
            /* The click's own request is running, and may take longer than the delay. */
            clearTimeout(retry);
            history.replaceState(null, "", waiting.dataset.orderUrl);
        });
    }

    const page = document.querySelector("[data-bitsby-order]");
    if (!page) {
        return;
    }
    const pay = page.querySelector(PAY);
    /* As the shop sent it: scripts change it. */
    let payHtml = pay && pay.innerHTML;
    let delay = FIRST_DELAY;
    let timer = null;
    let isPolling = false;
    let deadline = null;
    let lastTick = Date.now();

    function isFinal() {
        return page.dataset.final === "true";
    }

    /* The shop sends the seconds that are left, so the device's clock may be wrong. */
    function setDeadline(seconds) {
        deadline = seconds === null || isNaN(seconds) ? null : Date.now() + seconds * 1000;
        showTimeLeft();
    }

    function twoDigits(number) {
        return String(number).padStart(2, "0");
    }

    function showTimeLeft() {
        const seconds = deadline === null ? 0 : Math.round((deadline - Date.now()) / 1000);
        if (pay) {
            /* Also where the shop cannot be reached: coins that arrive late are not expected. */
            pay.hidden = deadline !== null && seconds <= 0;
        }
        const left = page.querySelector("[data-bitsby-left]");
        if (!left) {
            return;
        }
        left.hidden = seconds <= 0;
        const urgent = page.querySelector("[data-bitsby-urgent]");
        if (urgent) {
            urgent.hidden = seconds <= 0 || seconds > URGENT;
        }
        if (seconds <= 0) {
            return;
        }
        const hours = Math.floor(seconds / 3600);
        const minutes = Math.floor(seconds / 60) % 60;
        const clock = (hours ? hours + ":" + twoDigits(minutes) : minutes) + ":" + twoDigits(seconds % 60);
        left.querySelector("[data-bitsby-clock]").textContent = clock;
    }

    /* The shop writes times in its own zone. A time that cannot be converted stays as it is. */
    function showLocalTimes() {
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
        const hasSlept = Date.now() - lastTick > SLEEP_GAP;
        lastTick = Date.now();
        const wasRunning = deadline !== null && deadline > Date.now() - 1000;
        showTimeLeft();
        if (wasRunning && deadline <= Date.now()) {
            poll();
        }
        if (hasSlept) {
            wakeUp();
        }
    }

    /* Return the response's body; ``as`` is "json" or "text". */
    function read(url, as) {
        const stop = new AbortController();
        const limit = setTimeout(function () { stop.abort(); }, TIMEOUT);
        return fetch(url, {credentials: "same-origin", cache: "no-store", signal: stop.signal})
            .then(function (response) {
                if (!response.ok) {
                    throw new Error("status " + response.status);
                }
                return response[as]();
            })
            .finally(function () { clearTimeout(limit); });
    }

    function schedule() {
        clearTimeout(timer);
        if (isFinal() || document.hidden) {
            return;
        }
        timer = setTimeout(poll, delay);
        if (delay < MAX_DELAY) {
            delay = Math.min(delay * BACKOFF, MAX_DELAY);
        }
    }

    function poll() {
        if (isPolling || isFinal()) {
            return;
        }
        isPolling = true;
        clearTimeout(timer);
        read(page.dataset.stateUrl, "json")
            .then(function (answer) {
                delay = Math.min(delay, MAX_DELAY);
                if (answer.version !== page.dataset.version) {
                    delay = FIRST_DELAY;
                    return update();
                }
                setDeadline(answer.secondsLeft);
            })
            .catch(function () {
                /* The shop or the network is down: the page stays as it is, and polling goes on. */
                delay = Math.min(delay * 2, MAX_DELAY_AFTER_ERRORS);
            })
            .then(function () {
                isPolling = false;
                schedule();
            });
    }

    /* Keep the elements and replace their content, so that screen readers announce it. */
    function update() {
        return read(location.href, "text")
            .then(function (text) {
                const other = new DOMParser().parseFromString(text, "text/html");
                const fresh = other.querySelector("[data-bitsby-order]");
                if (!fresh) {
                    location.reload();
                    return;
                }
                const focused = document.activeElement;
                const hadFocus = focused && page.contains(focused);
                const isSamePay = keepsPay(fresh);
                PARTS.forEach(function (part) {
                    const here = page.querySelector(part);
                    const there = fresh.querySelector(part);
                    if (here && there && !(isSamePay && part === PAY)) {
                        here.className = there.className;
                        here.replaceChildren.apply(here, Array.from(there.childNodes));
                    }
                });
                Object.assign(page.dataset, fresh.dataset);
                page.className = fresh.className;
                document.title = other.title;
                showLocalTimes();
                setDeadline(parseInt(fresh.dataset.secondsLeft, 10));
                document.dispatchEvent(new Event("bitsby:updated"));
                if (hadFocus && !page.contains(document.activeElement)) {
                    restoreFocus(focused);
                }
            });
    }

    /* Tell whether what to pay is the same: the buyer may just be selecting it. */
    function keepsPay(fresh) {
        const there = fresh.querySelector(PAY);
        const before = payHtml;
        payHtml = there && there.innerHTML;
        return payHtml === before;
    }

    /* To the same button or link if there still is one, otherwise to what has changed. */
    function restoreFocus(focused) {
        const again = focused.id && document.getElementById(focused.id);
        if (again && page.contains(again)) {
            again.focus();
        }
        if (!page.contains(document.activeElement)) {
            page.querySelector("[data-bitsby-status]").focus();
        }
    }

    /* Where people pay, the page's policy forbids the inline scripts of Oscar's layout. */
    function startLayout() {
        if (window.jQuery && window.oscar) {
            window.jQuery(function () { window.oscar.init(); });
        }
        document.addEventListener("click", function (event) {
            /* The button of the basket. */
            const button = event.target.closest("button[onclick]");
            const found = button && /^window\.location\.href='(\/[^/'\\][^'\\]*)';?$/.exec(button.getAttribute("onclick"));
            if (found) {
                location.href = found[1];
            }
        });
    }

    /* Timers stop while a laptop sleeps or a tab is hidden. */
    function wakeUp() {
        if (!document.hidden) {
            delay = FIRST_DELAY;
            poll();
        }
    }

    if (pay) {
        startLayout();
    }
    showLocalTimes();
    setDeadline(parseInt(page.dataset.secondsLeft, 10));
    setInterval(tick, 1000);
    document.addEventListener("visibilitychange", wakeUp);
    window.addEventListener("pageshow", function (event) {
        if (event.persisted) {
            wakeUp();
        }
    });
    window.addEventListener("online", wakeUp);
    schedule();
})();
