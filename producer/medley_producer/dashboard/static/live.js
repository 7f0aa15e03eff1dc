// Brings what is marked data-live up to date: when the server says that something has changed, the page is asked for
// again, and what differs takes the place of what was there. Open details stay open, what was scrolled stays where it
// is, and so does the focus.
"use strict";
(() => {
  const status = document.getElementById("live");
  const parts = () => document.querySelectorAll("[data-live], #problem");
  const seen = new Map([...parts()].map((part) => [part.id, part.innerHTML]));
  let version = document.body.dataset.version;
  let wanted = version, busy = false, events = null;

  const say = (text) => { status.textContent = text; };

  const refresh = async () => {
    if (busy) return;
    busy = true;
    try {
      while (wanted !== version && !document.hidden) {
        const asked = wanted;
        const response = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (!response.ok) { say("This page is there no more, or cannot be shown now; what you see is old."); break; }
        take(new DOMParser().parseFromString(await response.text(), "text/html"));
        version = asked;
        say("");
      }
    } catch { /* the stream says so */ }
    busy = false;
  };

  const take = (page) => {
    for (const old of parts()) {
      const fresh = page.getElementById(old.id);
      if (!fresh || fresh.innerHTML === seen.get(old.id)) continue;
      const open = [...old.querySelectorAll("details[open]")].map((details) => details.id);
      const scrolled = [...old.querySelectorAll("*")].filter((e) => e.scrollLeft || e.scrollTop)
        .map((e) => [place(old, e), e.scrollLeft, e.scrollTop]);
      const focused = old.contains(document.activeElement) ? name(document.activeElement) : null;
      seen.set(old.id, fresh.innerHTML);
      old.replaceChildren(...fresh.childNodes);
      for (const id of open) if (id) document.getElementById(id)?.setAttribute("open", "");
      for (const [steps, left, top] of scrolled) {
        const element = steps.reduce((at, n) => at?.children[n], old);
        if (element) { element.scrollLeft = left; element.scrollTop = top; }
      }
      if (focused) [...old.querySelectorAll("a, button, summary, [tabindex]")].find((e) => name(e) === focused)
        ?.focus({ preventScroll: true });
    }
  };

  // What a person would take for the same control; a place in the page may be another one's by now.
  const name = (element) =>
    [element.tagName, element.getAttribute("href"), element.form?.action, element.closest("[id]").id, element.ariaLabel]
      .join(" ");

  const place = (root, element) => {
    const steps = [];
    for (let at = element; at !== root; at = at.parentElement) steps.unshift([...at.parentElement.children].indexOf(at));
    return steps;
  };

  const listen = () => {
    events = new EventSource("/events");
    events.addEventListener("changed", (event) => { wanted = event.data; refresh(); });
    events.onopen = () => say("");
    events.onerror = () => say("The dashboard does not answer; what is shown may be old.");
  };

  document.addEventListener("submit", (event) => {
    const ask = event.target.dataset.confirm;
    if (ask && !confirm(ask)) event.preventDefault();
  });

  if (document.querySelector("[data-live]")) {
    // A browser has few connections for each server, so a page that nobody sees leaves its own to others.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) events.close(); else listen();
    });
    if (!document.hidden) listen(); else events = { close() {} };
  }
})();
