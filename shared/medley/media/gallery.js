"use strict";
// The viewer: one picture large, and a slider from its photo to it. What it shows lies in the card's <template>, which
// the page has escaped; nothing here makes HTML of text. Without this script the cards are links to the pictures.
(() => {
  const viewer = document.getElementById("viewer");
  const [canvas, slider, readout, play, previous, next, close] = [
    ".canvas", "input", ".readout", ".play", ".previous", ".next", ".close",
  ].map((selector) => viewer.querySelector(selector));
  const ways = JSON.parse(document.getElementById("ways").textContent);
  const cards = [...document.querySelectorAll(".card.painted")];
  let open = -1; // which card
  let way = null;
  let timer = 0;

  function picture(url, alt) {
    const image = new Image();
    image.alt = alt;
    image.src = url;
    return image;
  }

  // Kept frames, one after the other. A frame takes its place when it is decoded, so that nothing flickers.
  function throughFrames(data, title, result) {
    const urls = data.names.map((name) => data.before + name + data.after).concat(result);
    const images = [];
    const load = (n) => {
      if (urls[n] && !images[n]) {
        images[n] = picture(urls[n], `${title}, step ${data.steps[n]}`);
        images[n].decoded = images[n].decode().catch(() => {}); // a frame that is gone shows its alt text
      }
      return images[n];
    };
    return {
      last: urls.length - 1,
      shown: -1,
      step: (n) => data.steps[n],
      text: (n) => `Step ${data.steps[n]} of ${data.steps.at(-1)}` + (data.losses[n] && `, loss ${data.losses[n]}`),
      show(n) {
        load(n).decoded.then(() => {
          if (this !== way || slider.valueAsNumber !== n) return;
          canvas.replaceChildren(images[n]);
          this.shown = n;
        });
        [n + 1, n - 1, n + 2].forEach(load);
      },
    };
  }

  // No frames were kept: the picture fades in over the photo.
  function byFading(photo, title, result) {
    const images = [picture(photo, ""), picture(result, title)];
    return {
      last: 100,
      shown: -1,
      step: () => null,
      text: (n) => (n === 0 ? "Photo" : n === 100 ? "Picture" : `${n} % of the way`),
      show(n) {
        if (this.shown < 0) images[1].decode().catch(() => {}).then(() => this === way && canvas.replaceChildren(...images));
        images[1].style.opacity = n / 100;
        this.shown = n;
      },
    };
  }

  function wayOf(card, title) {
    const result = card.querySelector("a").href;
    const data = ways[Number(card.id.slice(1)) - 1];
    const photo = card.querySelector(".inputs li:first-child img");
    if (data.names) return throughFrames(data, title, result);
    if (photo) return byFading(photo.src, title, result);
    return throughFrames({ names: [], steps: [""], losses: [""] }, title, result);
  }

  function render() {
    const n = slider.valueAsNumber;
    const text = way.text(n);
    way.show(n);
    readout.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    slider.style.setProperty("--filled", `${(100 * n) / (way.last || 1)}%`);
    mark(way.step(n));
  }

  // Where on the curve the slider is.
  function mark(step) {
    const drawing = viewer.querySelector(".curve svg");
    if (!drawing) return;
    drawing.classList.toggle("marked", step !== null);
    if (step === null) return;
    const { first, last } = drawing.dataset;
    const points = [...drawing.querySelector("polyline").points];
    const [start, end] = [points[0].x, points.at(-1).x];
    const x = Math.min(end, Math.max(start, start + ((step - first) / (last - first)) * (end - start)));
    const right = Math.max(1, points.findIndex((point) => point.x >= x));
    const [a, b] = [points[right - 1], points[right]];
    const y = a.y + ((b.y - a.y) * (x - a.x)) / (b.x - a.x || 1);
    const [line, dot] = drawing.querySelectorAll(".now");
    line.setAttribute("transform", `translate(${x})`);
    dot.setAttribute("transform", `translate(${x} ${y})`);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.setAttribute("aria-pressed", "false");
  }

  function start() {
    if (slider.valueAsNumber === way.last) slider.value = 0;
    render();
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      if (way.shown !== slider.valueAsNumber) return; // still loading
      slider.stepUp();
      render();
      if (slider.valueAsNumber === way.last) stop();
    }, Math.min(400, Math.max(33, 4000 / way.last))); // ms: about four seconds from the photo to the picture
  }

  function show(n) {
    stop();
    open = n;
    const card = cards[n];
    const title = card.querySelector("h2").textContent;
    const small = card.querySelector("a img");
    viewer.querySelector("#viewer-title").textContent = title;
    viewer.querySelector(".place").textContent = `${n + 1} / ${cards.length}`;
    viewer.querySelector(".about").replaceChildren(card.querySelector("template").content.cloneNode(true));
    previous.disabled = n === 0;
    next.disabled = n === cards.length - 1;
    viewer.style.setProperty("--w", small.getAttribute("width") || small.naturalWidth || 4);
    viewer.style.setProperty("--h", small.getAttribute("height") || small.naturalHeight || 3);
    canvas.replaceChildren(picture(small.src, title)); // until the large one is there
    way = wayOf(card, title);
    viewer.classList.toggle("still", way.last === 0);
    slider.max = way.last;
    slider.value = way.last;
    const opening = !viewer.open;
    if (opening) viewer.showModal();
    viewer.scrollTop = 0;
    keepFocus(opening);
    render();
  }

  // On the slider at first; then wherever it is, unless that can no longer be used.
  function keepFocus(opening) {
    const [still, holder] = [way.last === 0, document.activeElement];
    const lost = !viewer.contains(holder) || holder.disabled || (still && holder.closest(".controls"));
    if (opening || lost) (still ? close : slider).focus({ preventScroll: true });
  }

  function hide() {
    if (viewer.open) viewer.close();
    else comeBack(); // going back moves the focus
    history.scrollRestoration = "auto";
  }

  // To the card last looked at.
  function comeBack() {
    if (open < 0) return;
    cards[open].querySelector("a").focus({ preventScroll: true });
    cards[open].scrollIntoView({ block: "nearest" });
  }

  // The hash says which picture is open, so that one can be linked to, and "back" closes it.
  const named = () => cards.findIndex((card) => `#${card.id}` === location.hash);
  function follow() {
    const n = named();
    if (n < 0) hide();
    else if (n !== open || !viewer.open) show(n);
  }

  function turn(by) {
    const card = cards[open + by];
    if (!card) return;
    history.replaceState(history.state, "", `#${card.id}`);
    follow();
  }

  viewer.addEventListener("close", () => {
    if (viewer.open) return; // the event comes late, and another picture is there already
    stop();
    way = null;
    canvas.replaceChildren();
    comeBack();
    if (named() < 0) return; // "back" closed it
    if (history.state === "opened") history.back();
    else history.replaceState(null, "", location.pathname + location.search);
  });

  cards.forEach((card) => {
    card.querySelector("a").addEventListener("click", (event) => {
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      history.scrollRestoration = "manual"; // the card last looked at is where one comes back to
      history.pushState("opened", "", `#${card.id}`);
      follow();
    });
  });

  document.addEventListener("keydown", (event) => {
    if (!viewer.open || event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { PageUp: -1, PageDown: 1 }[event.key];
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) turn(by);
    else if (along && event.target !== slider) {
      slider.value = slider.valueAsNumber + along;
      slider.dispatchEvent(new Event("input"));
    } else return;
    event.preventDefault();
  });

  slider.addEventListener("input", () => {
    stop();
    render();
  });
  play.addEventListener("click", () => (timer ? stop() : start()));
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  close.addEventListener("click", () => viewer.close());
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);
  follow();
})();
