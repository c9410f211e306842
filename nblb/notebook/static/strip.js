// All items of a job in one picture that the keyboard can walk and open: a slider whose value is an item.
// Left and right go to the next item, up and down to the next row, F to the next failed one, Enter opens.

const BAD = new Set(["FAILED", "LOST"]), STOPPED = new Set(["CANCELLED", "CANCELLING"]);

const strip = (model, root) => {
  const node = h("canvas", { class: "nblb-strip", role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuenow": 0, "aria-orientation": "horizontal" });
  let size = 0, columns = 1, drawn = null, at = 0, each = 1;
  const codes = () => { const it = model.get("strip"); return new Uint8Array(it.buffer ?? it, it.byteOffset || 0, it.byteLength); };
  const named = (cell) => {
    const state = model.get("states")[codes()[cell]];
    const last = Math.min((cell + 1) * each, model.get("now").total) - 1, first = cell * each;
    return state ? `item ${first.toLocaleString("en")}${last > first ? `–${last.toLocaleString("en")}` : ""}: ${state[1]} ${state[2]}` : "";
  };
  const cell_at = (event) => Math.floor(event.offsetY / size) * columns + Math.min(columns - 1, Math.floor(event.offsetX / size));
  const open = (cell) => { if (cell < codes().length) press(model, "item", [cell * each, each]); };
  const go = (cell) => {
    at = Math.max(0, Math.min(codes().length - 1, cell));
    attr(node, "aria-valuenow", at * each); attr(node, "aria-valuetext", named(at)); paint();
  };
  node.onpointermove = (event) => attr(node, "title", named(cell_at(event)));
  node.onclick = (event) => { const cell = cell_at(event); if (cell < codes().length) { go(cell); open(cell); } };
  node.onfocus = () => go(at);
  node.onblur = () => paint();
  node.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) go(at + step);
    else if (event.key === "Enter" || event.key === " ") open(at);
    else if (event.key === "f" || event.key === "F") {
      const bad = (code) => BAD.has((model.get("states")[code] || [])[0]), all = [...codes()];
      const next = all.findIndex((code, i) => i > at && bad(code));
      go(next < 0 ? all.findIndex(bad) : next);
    } else return;
    event.preventDefault(); event.stopPropagation();
  };
  const paint = () => {
    const items = codes(), room = node.parentElement?.clientWidth || 0, context = node.getContext("2d");
    if (!items.length || !room) return;
    each = Math.max(1, Math.ceil(model.get("now").total / items.length));
    size = Math.max(2, Math.min(12, Math.floor(Math.sqrt((room * 60) / items.length))));
    columns = Math.max(1, Math.floor(room / size));
    const high = Math.ceil(items.length / columns) * size;
    if (node.width !== room || node.height !== high) { node.width = room; node.height = high; }
    const style = getComputedStyle(root), gap = size > 3 ? 1 : 0;
    const colours = model.get("states").map(([state]) => style.getPropertyValue(`--nblb-${state}`) || "#999");
    context.clearRect(0, 0, room, high);
    const bad = [];
    items.forEach((code, i) => {
      const x = (i % columns) * size, y = Math.floor(i / columns) * size, [state] = model.get("states")[code] || ["QUEUED"];
      context.fillStyle = colours[code];
      const full = size - gap, half = Math.max(1, full >> 1), marked = size > 4; // a mark or a shape, so that colour is not the only sign
      const wide = !marked && (state === "RUNNING" || state === "KEPT") ? half : full, tall = !marked && (STOPPED.has(state) || state === "KEPT") ? half : full;
      context.fillRect(x, y + full - tall, wide, tall);
      if (BAD.has(state) && !marked) bad.push([x, y, colours[code]]);
      if (!marked) return;
      context.fillStyle = context.strokeStyle = style.backgroundColor;
      if (BAD.has(state)) { context.beginPath(); context.moveTo(x + 1, y + size - 2); context.lineTo(x + size - 2, y + 1); context.stroke(); }
      else if (state === "RUNNING") context.fillRect(x + half, y, 1, full);
      else if (state === "KEPT") context.fillRect(x + half, y, full - half, half); // a corner is missing
      else if (STOPPED.has(state)) context.fillRect(x + half - 1, y + half - 1, 3, 3);
    });
    for (const [x, y] of bad) { context.fillStyle = "#fff"; context.fillRect(x - 1, y - 1, size + 2, size + 2); } // where cells are small, a halo
    for (const [x, y, colour] of bad) { context.fillStyle = colour; context.fillRect(x, y, size, size); }
    if (document.activeElement === node) {
      context.strokeStyle = style.getPropertyValue("color"); context.lineWidth = 2;
      const box = Math.max(8, size - gap), inset = (box - size + gap) / 2; // around the cell, and large enough to see
      context.strokeRect((at % columns) * size - inset, Math.floor(at / columns) * size - inset, box, box); context.lineWidth = 1;
    }
  };
  new ResizeObserver(paint).observe(root);
  const themes = new MutationObserver(paint); // a canvas does not follow a change of theme by itself
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  model.on("destroy", () => themes.disconnect());
  return { node, codes, named, draw(now) {
    show(node, model.get("strip").byteLength > 0);
    attr(node, "aria-label", `every item: ${now.counts.map(([, , word, n]) => `${n} ${word}`).join(", ")}`);
    attr(node, "aria-valuemax", Math.max(0, now.total - 1));
    if (drawn !== model.get("strip")) { drawn = model.get("strip"); paint(); if (document.activeElement === node) go(at); else attr(node, "aria-valuetext", named(at)); }
  } };
};

// The strip as text, for people who do not see the picture: runs of items in the same state.
const MOST_RUNS = 300;
const in_words = (model, cells) => {
  const list = h("ol", { class: "nblb-runs", tabindex: 0, "aria-label": "items in words" }), node = h("details", { class: "nblb-words" }, h("summary", {}, "items in words"), list);
  let drawn = null;
  const draw = () => {
    show(node, model.get("strip").byteLength > 0);
    if (!node.open || drawn === model.get("strip")) return;
    drawn = model.get("strip");
    const codes = cells.codes(), runs = [], each = Math.max(1, Math.ceil(model.get("now").total / (codes.length || 1)));
    for (let i = 0; i < codes.length; i += 1) {
      const last = runs[runs.length - 1];
      if (last && last.code === codes[i]) last.to = i; else runs.push({ code: codes[i], from: i, to: i });
    }
    list.replaceChildren(...runs.slice(0, MOST_RUNS).map(({ code, from, to }) => {
      const [, sign, word] = model.get("states")[code], first = from * each, last = Math.min((to + 1) * each, model.get("now").total) - 1;
      return h("li", {}, `${first.toLocaleString("en")}${last > first ? ` to ${last.toLocaleString("en")}` : ""}: ${sign} ${word}`);
    }), ...(runs.length > MOST_RUNS ? [h("li", {}, `and ${(runs.length - MOST_RUNS).toLocaleString("en")} runs more`)] : []));
  };
  node.ontoggle = draw;
  return { node, draw };
};
