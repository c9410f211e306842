// Jobs in rows: name, state, bar, facts and buttons. Rows are kept, and moved only when their order changes; the card of
// an attached job is embedded in its row.

const ACTIONS = { attach: "Attach", cancel: "Cancel", forget: "Forget" };
const SURE_MS = 5000;
const FOLDED = 6; // a group with more rows starts folded, unless work goes on in it

// An action that cannot be undone takes two presses: the first changes the button's text, the second carries it out.
const twice = (node, name, about, act, sure = "Forget its results") => {
  let until = 0;
  node.onclick = () => {
    if (Date.now() < until) { until = 0; say(node, name); act(); return; }
    until = Date.now() + SURE_MS; say(node, sure); attr(node, "aria-label", `Forget the results of ${about}`);
    setTimeout(() => { if (until && Date.now() >= until) { until = 0; say(node, name); attr(node, "aria-label", `${name} ${about}`); } }, SURE_MS + 50);
  };
};

const list_row = (model, { id, name }) => {
  const title = h("strong"), state = h("span", { class: "nblb-state" }), text = h("span", { class: "nblb-row-text" }), facts = h("span", { class: "nblb-sub" }), parts = [];
  const fill = h("span"), bad = h("span", { class: "nblb-bad" }), track = h("span", { class: "nblb-meter nblb-row-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": name }, fill, bad);
  const buttons = new Map(Object.entries(ACTIONS).map(([action, word]) => {
    const node = action === "forget" ? h("button", { type: "button" }, word) : button(model, word, action, () => id);
    attr(node, "aria-label", `${word} ${name}`);
    if (action === "forget") { twice(node, word, name, () => press(model, action, id)); node.can = (yes) => enable(node, yes); }
    return [action, node];
  }));
  const line = h("div", { class: "nblb-row" }, title, state, h("span", { class: "nblb-row-done" }, track, text), facts, h("span", { class: "nblb-buttons" }, ...buttons.values()));
  const node = h("li", {}, line);
  let beneath = null;
  return { node, draw(row) {
    say(title, row.name); attr(title, "title", row.name); say(state, row.look.join(" ")); attr(state, "data-state", row.state);
    show(track, row.percent !== undefined); say(text, row.text || "");
    while (parts.length < row.facts.length) { parts.push(h("span", { class: "nblb-part" })); facts.append(parts[parts.length - 1], " "); }
    parts.forEach((part, i) => { say(part, row.facts[i] || ""); attr(part, "title", row.facts[i] || ""); });
    if (row.percent !== undefined) { fill.style.width = `${row.percent - row.bad}%`; bad.style.width = `${row.bad}%`; attr(track, "aria-valuenow", row.percent); attr(track, "aria-valuetext", row.text); attr(track, "data-state", row.state); }
    for (const [action, one] of buttons) { const yes = row.can.includes(action) && !(action === "attach" && row.card); one.can(yes); show(one, yes); }
    if (row.card && beneath !== row.card) { beneath = row.card; node.append(h("div", { class: `nblb-card nblb-live-${row.card}` })); }
  } };
};

export default live((model, root) => {
  const clear = h("button", { type: "button" }, "Forget all ended");
  twice(clear, "Forget all ended", "all ended jobs", () => press(model, "forget_all"), "Forget all their results");
  const top = head([clear]), other = notes(), body = h("div"), groups = new Map(), rows = new Map();
  root.append(top.node, body, other.node);
  return (now) => {
    top.draw(now, root); other.draw(now, model); show(clear, Boolean(now.can.forget_all)); enable(clear, Boolean(now.can.forget_all));
    const there = new Set(now.list.map((row) => row.id)), names = new Set(now.list.map((row) => row.group));
    for (const [id, row] of rows) if (!there.has(id)) { row.node.remove(); rows.delete(id); }
    for (const name of names) if (!groups.has(name)) {
      const list = h("ul", { class: "nblb-rows", "aria-label": name }), label = h("summary", { class: "nblb-sub" }, name), box = h("details", { class: "nblb-group" }, label, list);
      const rows_of = now.list.filter((row) => row.group === name).length;
      box.open = rows_of <= FOLDED || name !== "ended";
      groups.set(name, { box, list, label }); body.append(box);
    }
    for (const [name, { box, label }] of groups) { show(box, names.has(name)); say(label, `${name} (${now.list.filter((row) => row.group === name).length})`); }
    const at = new Map();
    for (const row of now.list) {
      if (!rows.has(row.id)) rows.set(row.id, list_row(model, row));
      const { node } = rows.get(row.id), { list } = groups.get(row.group), place = at.get(row.group) || 0;
      if (list.children[place] !== node) list.insertBefore(node, list.children[place] || null);
      at.set(row.group, place + 1); rows.get(row.id).draw(row);
    }
  };
});
