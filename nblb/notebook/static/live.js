// The common part of all cards: finds the saved picture in the page and makes it live; small helpers.
// The picture is plain HTML with the class nblb-live-KEY; the widget has no view of its own, so that a saved
// notebook never has an empty box. Front-ends that isolate outputs call render() instead.

const h = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
// An element that is removed with the focus gives it to its card; else the keyboard would start at the page's top again.
const show = (node, yes) => {
  if (node.hidden !== yes) return;
  if (!yes && node.matches(":focus-within")) node.closest(".nblb-root")?.focus({ preventScroll: true });
  node.hidden = !yes;
};
const attr = (node, name, value) => { if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value); };

const SILENT_MS = 8000;

// Each press has its own id: the kernel may receive it twice, and acts once.
const press = (model, click, value = null) =>
  model.send({ nblb: model.get("key"), click, value, id: `${Date.now()}-${Math.random().toString(36).slice(2)}` });

// A button with the focus gets only aria-disabled, for the same reason, and is disabled when it loses the focus.
const enable = (node, yes) => {
  const keeps = !yes && node.matches(":focus"), off = !yes && !keeps;
  if (node.disabled !== off) node.disabled = off;
  if (node.hasAttribute("aria-disabled") !== keeps) { if (keeps) node.setAttribute("aria-disabled", "true"); else node.removeAttribute("aria-disabled"); }
};

const button = (model, name, action, value) => {
  const node = h("button", { type: "button" }, name);
  let pressed = 0;
  node.onclick = () => {
    if (node.hasAttribute("aria-disabled")) return;
    pressed = Date.now();
    enable(node, false);
    press(model, action, value?.());
  };
  node.onblur = () => setTimeout(() => { if (node.isConnected && node.hasAttribute("aria-disabled")) enable(node, false); }); // not when its output is redrawn
  // A pressed button stays grey for a second; else the next tick would enable it before the kernel has answered.
  node.can = (yes) => enable(node, yes && Date.now() - pressed >= 1000);
  return node;
};

const head = (buttons) => {
  const title = h("strong"), subtitle = h("span", { class: "nblb-sub" }), state = h("span", { class: "nblb-state" });
  const node = h("div", { class: "nblb-head" }, title, subtitle, state, h("span", { class: "nblb-buttons" }, ...buttons));
  return { node, state, draw(now, root) {
    say(title, now.title); say(subtitle, now.subtitle || ""); attr(root, "aria-label", now.title);
    say(state, now.look.join(" ")); attr(state, "data-state", now.state);
  } };
};

const bar = () => {
  const parts = new Map(), label = h("span", { class: "nblb-percent" });
  const track = h("div", { class: "nblb-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
  return { node: h("div", { class: "nblb-progress" }, track, label), draw(now, widths) {
    attr(track, "aria-label", now.title); attr(track, "aria-valuenow", now.percent); attr(track, "aria-valuetext", now.text);
    say(label, now.label ?? `${now.percent} %`);
    for (const [state, width] of widths) {
      if (!parts.has(state)) { parts.set(state, h("span", { "data-state": state })); track.append(parts.get(state)); }
    }
    const wide = new Map(widths);
    for (const [state, part] of parts) part.style.width = `${wide.get(state) || 0}%`;
  } };
};

const notes = () => {
  const node = h("div", { class: "nblb-notes" }), said = h("span", { role: "status" });
  const lines = h("span"); node.append(lines, said);
  return { node, draw(now, model) { say(lines, (now.notes || []).join(" · ")); show(lines, lines.textContent !== ""); say(said, model.get("said")); } };
};

const live = (build) => {
  const mount = (model) => {
    const root = h("div", { class: "nblb-root", role: "group", tabindex: -1 });
    const draw = build(model, root);
    let heard = Date.now();
    const silent = (yes) => {
      if (root.classList.toggle("nblb-silent", yes)) for (const node of root.querySelectorAll("button")) enable(node, false);
    };
    const update = () => { heard = Date.now(); silent(false); draw(model.get("now")); };
    for (const name of ["now", "failures", "strip", "pictures", "output", "said"]) model.on(`change:${name}`, update);
    // While work goes on the kernel sends a beat every two seconds; if it stops, the card says so.
    const watch = setInterval(() => { if (!model.get("now").over && Date.now() - heard > SILENT_MS) silent(true); }, 2000);
    model.on("destroy", () => { // the kernel has ended, or has dropped the object; a card that is over is complete
      clearInterval(watch); silent(true); root.classList.toggle("nblb-silent", !model.get("now").over);
    });
    root.append(h("div", { class: "nblb-silence", role: "status" }, "○ no word from the kernel: it is busy, or gone"));
    // JupyterLab handles keys before the card does; keys that operate a control stop here.
    const keys = (event) => {
      if (!root.contains(event.target)) return;
      const pressed = ["Enter", " "].includes(event.key) && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
      event.target.toggleAttribute("data-lm-suppress-shortcuts", pressed || event.target.matches("input, canvas"));
    };
    window.addEventListener("keydown", keys, true);
    model.on("destroy", () => window.removeEventListener("keydown", keys, true));
    let focused = null; // a redrawn output loses the focus; it is restored
    root.addEventListener("focusin", (event) => { focused = event.target; });
    root.addEventListener("focusout", () => setTimeout(() => { if (root.isConnected && !root.contains(document.activeElement)) focused = null; }));
    update();
    return { root, update, place: null, into(place) {
      this.place = place; place.replaceChildren(root); update();
      for (const node of root.querySelectorAll(".nblb-out")) node.back?.(); // and the scroll position of the output
      if (focused && document.activeElement === document.body) {
        if (focused.disabled) { focused.disabled = false; focused.setAttribute("aria-disabled", "true"); }
        focused.focus({ preventScroll: true });
      }
    } };
  };
  return {
    initialize({ model }) {
      const places = document.getElementsByClassName(`nblb-live-${model.get("key")}`), mounted = [];
      const look = () => {
        for (const place of places) {
          if (place.firstElementChild?.classList.contains("nblb-root")) continue;
          let one = mounted.find((m) => !m.place.isConnected); // its output was redrawn
          if (!one) { one = mount(model); mounted.push(one); if (mounted.length === 1) press(model, "seen"); }
          one.into(place);
        }
      };
      const watch = new MutationObserver(look);
      watch.observe(document.body, { childList: true, subtree: true });
      look();
      return () => watch.disconnect();
    },
    render({ model, el }) {
      el.classList.add("nblb-card");
      mount(model).into(el);
    },
  };
};
