// Live content of tasks: output, pictures, knobs and failures. Shared by the cards of jobs and tasks.

// Folded text that shows its end unless the reader has scrolled back. Its box grows with the text up to a bound and
// never shrinks, so that a progress bar that redraws its line moves nothing, and two lines leave no empty space.
const output = (model) => {
  const text = h("pre", { tabindex: 0, class: "nblb-out", role: "group", "aria-label": "output" });
  const head = h("summary", {}, "output"), more = button(model, "Show more output", "more");
  const node = h("details", { class: "nblb-output" }, head, text, more);
  let at = 0, follows = true, tall = 0;
  const grow = () => { if (text.clientHeight > tall) { tall = text.clientHeight; text.style.minHeight = `min(${tall}px, 13em)`; } };
  text.onscroll = () => { at = text.scrollTop; follows = text.scrollHeight - at - text.clientHeight < 20; };
  text.back = () => { text.scrollTop = follows ? text.scrollHeight : at; };
  node.ontoggle = () => { grow(); text.back(); };
  show(more, false);
  return { node, draw(said, note = "", can = false) {
    show(node, Boolean(said));
    say(head, note ? `output · ${note}` : "output"); show(more, can); more.can(can);
    if (!said || text.textContent === said) return;
    say(text, said); grow(); text.back();
  } };
};

const picture = ({ kind, data, alt, item }, labelled) => {
  let node;
  if (kind.startsWith("image/")) node = h("img", { src: `data:${kind};base64,${data}`, alt });
  else if (kind === "text/html") node = h("iframe", { sandbox: "", title: alt, srcdoc: `<style>body{font:13px sans-serif;margin:4px}</style>${data}` });
  else node = h("pre", { tabindex: 0 }, data);
  return h("figure", {}, ...(labelled ? [h("figcaption", {}, `item ${item}`)] : []), node);
};

const pictures = (model, labelled) => {
  const node = h("div", { class: "nblb-pictures" });
  let drawn = null;
  return { node, draw() {
    const list = model.get("pictures");
    if (list === drawn) return;
    drawn = list; show(node, list.length > 0);
    if (list.length) node.style.minHeight = `${node.clientHeight}px`; // keep the height while the new ones load
    node.replaceChildren(...list.map((one) => picture(one, labelled)));
    setTimeout(() => { node.style.minHeight = ""; }, 300);
  } };
};

const TELL_MS = 150;
const knob = (model, [name, kind, value, min, max, step]) => {
  const type = { flag: "checkbox", text: "text", number: "number", range: "range" }[kind];
  const input = h("input", { type, "aria-label": name }), now = h("output", {});
  if (kind === "range" || kind === "number") for (const [key, limit] of [["min", min], ["max", max], ["step", step]]) if (limit !== null) attr(input, key, limit);
  const read = () => (kind === "flag" ? input.checked : kind === "text" ? input.value : Number(input.value));
  const write = (next) => { if (kind === "flag") input.checked = next; else input.value = next; };
  let told = 0, later = null;
  const tell = () => { clearTimeout(later); told = Date.now(); press(model, "knob", [name, read()]); };
  if (kind === "range") input.oninput = () => { say(now, input.value); clearTimeout(later); later = setTimeout(tell, Math.max(0, told + TELL_MS - Date.now())); };
  input.onchange = tell;
  write(value);
  return { node: h("label", { class: "nblb-knob" }, h("span", {}, name), input, now), draw(next) {
    if (Date.now() - told < 1500 || (document.activeElement === input && kind !== "range" && kind !== "flag")) return; // keep the user's value
    if (read() !== next) write(next);
    say(now, kind === "range" ? String(next) : "");
  } };
};

const knobs = (model) => {
  const node = h("div", { class: "nblb-knobs", role: "group", "aria-label": "knobs" }), there = new Map();
  return { node, draw(list, over) {
    for (const row of list) {
      if (!there.has(row[0])) { const one = knob(model, row); there.set(row[0], one); node.append(one.node); }
      there.get(row[0]).draw(row[2]);
    }
    show(node, list.length > 0 && !over);
  } };
};

// Asks the core why a task waits, on a press of the button or when the pointer rests on the state.
const why = (model) => {
  const ask = button(model, "Why?", "why");
  attr(ask, "title", "why it waits");
  let asked = 0;
  return { node: ask, over(state) { state.onpointerenter = () => { if (!ask.hidden && Date.now() - asked > 5000) { asked = Date.now(); press(model, "why"); } }; },
    draw(now) { show(ask, Boolean(now.can.why)); ask.can(now.can.why); } };
};

// Failures grouped by kind. An opened group stays open, and groups never change places.
const failures = () => {
  const node = h("div", { class: "nblb-failures" }), groups = new Map();
  return { node, draw(list) {
    const keys = new Set(list.map((group) => group.key));
    for (const [key, group] of groups) if (!keys.has(key)) { group.box.remove(); groups.delete(key); }
    for (const { key, title, items, traceback } of list) {
      if (!groups.has(key)) {
        const name = h("summary"), which = h("div", { class: "nblb-sub" }), trace = h("pre", { tabindex: 0, role: "group", "aria-label": "traceback" });
        const box = h("details", {}, name, which, trace);
        groups.set(key, { box, name, which, trace }); node.append(box);
      }
      const group = groups.get(key);
      say(group.name, `✗ ${title}`); say(group.which, items); say(group.trace, traceback);
    }
  } };
};
