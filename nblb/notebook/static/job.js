// The job card: bar, counts, a strip with every item, what runs, what failed. Text is only touched where it changed.

const strip = (model, root) => {
  const node = h("canvas", { class: "nblb-strip", role: "img" });
  let size = 0, columns = 1, drawn = null, colours = null;
  const codes = () => new Uint8Array(model.get("strip").buffer ?? model.get("strip"), model.get("strip").byteOffset || 0, model.get("strip").byteLength);
  node.onpointermove = (event) => {
    const at = Math.floor(event.offsetY / size) * columns + Math.floor(event.offsetX / size), state = model.get("states")[codes()[at]];
    node.title = state ? `item ${at.toLocaleString("en")}: ${state[1]} ${state[2]}` : "";
  };
  const paint = () => {
    const items = codes(), wide = node.parentElement?.clientWidth || 0, context = node.getContext("2d");
    if (!items.length || !wide) return;
    size = Math.max(2, Math.min(12, Math.floor(Math.sqrt((wide * 60) / items.length))));
    columns = Math.max(1, Math.floor(wide / size));
    const high = Math.ceil(items.length / columns) * size;
    if (node.width !== wide || node.height !== high) { node.width = wide; node.height = high; }
    const style = getComputedStyle(root), gap = size > 3 ? 1 : 0;
    colours = model.get("states").map(([state]) => style.getPropertyValue(`--nblb-${state}`) || "#999");
    context.clearRect(0, 0, wide, high);
    items.forEach((code, i) => {
      const x = (i % columns) * size, y = Math.floor(i / columns) * size, [state] = model.get("states")[code] || ["QUEUED"];
      context.fillStyle = colours[code];
      context.fillRect(x, y, size - gap, size - gap);
      if (size > 4 && (state === "FAILED" || state === "LOST")) { // a stroke, so that colour does not speak alone
        context.strokeStyle = "#fff"; context.beginPath(); context.moveTo(x + 1, y + size - 2); context.lineTo(x + size - 2, y + 1); context.stroke();
      }
    });
  };
  new ResizeObserver(paint).observe(root);
  return { node, draw(now) {
    show(node, model.get("strip").byteLength > 0);
    attr(node, "aria-label", `every item: ${now.counts.map(([, , word, n]) => `${n} ${word}`).join(", ")}`);
    if (drawn !== model.get("strip")) { drawn = model.get("strip"); paint(); }
  } };
};

const running = () => {
  const body = h("tbody"), rows = [];
  const names = ["item", "progress", "note", "where", "for"].map((name) => h("th", { scope: "col" }, name));
  const node = h("table", { class: "nblb-running" }, h("caption", {}, "running now"), h("thead", {}, h("tr", {}, ...names)), body);
  return { node, draw(list, over) {
    while (rows.length < list.length) {
      const cells = [0, 1, 2, 3, 4].map(() => h("td")), row = h("tr", {}, ...cells);
      const fill = h("span"), meter = h("span", { class: "nblb-meter", "aria-hidden": true }, fill), number = h("span");
      cells[1].append(meter, number); rows.push({ row, cells, fill, number }); body.append(row);
    }
    rows.forEach(({ row, cells, fill, number }, i) => {
      row.style.visibility = i < list.length ? "visible" : "hidden"; // keeps its height: nothing below jumps
      if (i >= list.length) return;
      const [item, percent, note, where, since] = list[i];
      say(cells[0], String(item)); fill.style.width = `${percent}%`; say(number, percent ? `${percent} %` : "");
      say(cells[2], note); say(cells[3], where); say(cells[4], since);
    });
    show(node, !over && rows.length > 0);
  } };
};

// Shown from the start, so that the line does not grow under the reader; the others come when they are needed.
const always = [["DONE", "✓", "done"], ["FAILED", "✗", "failed"], ["RUNNING", "▶", "running"], ["QUEUED", "…", "queued"]];

export default live((model, root) => {
  const cancel = button(model, "Cancel", "cancel"), retry = button(model, "Retry failed", "retry");
  const top = head([cancel, retry]), progress = bar(), cells = strip(model, root), now_running = running(), failed = failures(), other = notes();
  const counts = h("ul", { class: "nblb-counts" }), chips = new Map(), facts = h("span", { class: "nblb-facts" });
  const aloud = h("div", { class: "nblb-aloud", "aria-live": "polite" });
  let spoken = Date.now(), ended = null;
  root.append(top.node, progress.node, h("div", { class: "nblb-line" }, counts, facts), cells.node, other.node, failed.node, now_running.node, aloud);
  return (now) => {
    top.draw(now, root); other.draw(now, model);
    const share = new Map(now.counts.map(([state, , , n]) => [state, (100 * n) / (now.total || 1)]));
    progress.draw(now, ["DONE", "FAILED", "LOST", "CANCELLED", "CANCELLING", "RUNNING"].map((state) => [state, share.get(state) || 0]));
    const there = new Map(now.counts.map((row) => [row[0], row]));
    for (const row of [...always, ...now.counts]) if (!chips.has(row[0])) { const chip = h("li", { "data-state": row[0] }); chips.set(row[0], { chip, row }); counts.append(chip); }
    for (const [state, { chip, row: [, sign, word] }] of chips) {
      const n = there.get(state)?.[3] || 0;
      say(chip, `${sign} ${n.toLocaleString("en")} ${word}`); show(chip, n > 0 || !now.over);
    }
    say(facts, now.facts.filter(Boolean).join(" · "));
    cells.draw(now); now_running.draw(now.running || [], now.over); failed.draw(model.get("failures"));
    cancel.can(now.can.cancel); retry.can(now.can.retry);
    if (ended !== now.over ? now.over || ended !== null : Date.now() - spoken > 10000 && !now.over) {
      say(aloud, `${now.title}: ${now.text}`); spoken = Date.now();
    }
    ended = now.over;
  };
});
