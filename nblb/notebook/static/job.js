// The job card: bar, counts, a strip of all items, running items, failures. Only changed text is set again.

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
      row.style.visibility = i < list.length ? "visible" : "hidden"; // the row keeps its height, so that nothing below moves
      if (i >= list.length) return;
      const [item, percent, note, where, since] = list[i];
      say(cells[0], String(item)); fill.style.width = `${percent}%`; say(number, percent ? `${percent} %` : "");
      say(cells[2], note); say(cells[3], where); say(cells[4], since);
    });
    show(node, !over && rows.length > 0);
  } };
};

// Shown from the start, so that the line does not grow later; the others appear when needed.
const always = [["DONE", "✓", "done"], ["FAILED", "✗", "failed"], ["RUNNING", "▶", "running"], ["QUEUED", "…", "queued"]];

const meaning = {
  ASSIGNED: "a hub has it, behind what its worker runs", QUEUED: "waits for a worker", BLOCKED: "waits for the results of other tasks",
  LOST: "its worker died each time, or it was never submitted", KEPT: "ended early; its result is what it emitted last",
};

// The item opened from the strip: its state, and its traceback or output.
const opened = (model, cells) => {
  const title = h("strong"), close = button(model, "Close", "item", () => null), call = h("code", { tabindex: 0, role: "group", "aria-label": "call of the item" }), copied = h("span", { role: "status" });
  const copy = h("button", { type: "button" }, "Copy the debug call");
  const again = button(model, "Retry this item", "retry_item"), renew = button(model, "Retry it with the new code", "renew_item");
  const text = h("pre", { tabindex: 0, role: "group", "aria-label": "traceback of the item" }), out = h("pre", { tabindex: 0, class: "nblb-out", role: "group", "aria-label": "output of the item" });
  const label = h("div", { class: "nblb-sub" }, "output");
  const node = h("div", { class: "nblb-item", role: "region", "aria-label": "opened item" }, h("div", { class: "nblb-head" }, title, h("span", { class: "nblb-buttons" }, copied, again, renew, copy, close)), call, text, label, out);
  close.addEventListener("click", () => cells.node.focus()); // back to the strip, where it was opened
  let debug = "";
  copy.onclick = async () => { // a page without https may have no clipboard: the words are shown then
    try { await navigator.clipboard.writeText(debug); say(copied, "copied"); } catch { say(copied, debug); }
  };
  return { node, draw(item) {
    show(node, Boolean(item)); close.can(true); attr(node, "aria-label", `opened item of ${model.get("now").title}`);
    if (!item) return;
    if (debug !== item.debug) say(copied, "");
    debug = item.debug; show(copy, Boolean(debug));
    for (const [node, yes] of [[again, item.can.retry], [renew, item.can.renew]]) { node.can(yes); show(node, Boolean(yes)); }
    say(title, item.title); say(call, item.call || ""); show(call, Boolean(item.call));
    say(text, item.text); show(text, Boolean(item.text));
    say(out, item.output || ""); show(out, Boolean(item.output)); show(label, Boolean(item.output));
  } };
};

// An ended card has no running rows. It keeps its height while somebody looks at it, so that the text below does not jump.
const keep_height = (root) => {
  root.style.minHeight = `${root.dataset.height}px`;
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) { root.style.minHeight = ""; seen.disconnect(); }
  });
  seen.observe(root);
};

// A word of the browser at the end, for those who look elsewhere meanwhile; the browser asks once for permission.
const notifier = () => {
  const node = h("button", { type: "button" }, "Notify me");
  let wanted = false;
  node.onclick = async () => {
    wanted = !wanted && await Notification.requestPermission() === "granted";
    say(node, wanted ? "Will notify" : Notification.permission === "denied" ? "Notifications are blocked" : "Notify me"); attr(node, "aria-pressed", wanted);
  };
  show(node, false);
  return { node, draw(now) {
    show(node, Boolean(now.long) && "Notification" in window);
    if (wanted && now.over) { wanted = false; new Notification(`${now.title}: ${now.look[1]}`, { body: now.text }); }
  } };
};

export default live((model, root) => {
  const cancel = button(model, "Cancel", "cancel"), retry = button(model, "Retry failed", "retry"), renew = button(model, "Retry failed with the new code", "renew"), keep = button(model, "Stop early and keep", "keep"), start = button(model, "Start core", "start"), notify = notifier();
  const waits = why(model), top = head([waits.node, notify.node, start, keep, cancel, retry, renew]), progress = bar(), cells = strip(model, root), now_running = running(), failed = failures(), other = notes();
  const before = earlier(model), item = opened(model, cells), words = in_words(model, cells), said = output(model), shown = pictures(model, true), turn = knobs(model);
  waits.over(top.state);
  const counts = h("ul", { class: "nblb-counts" }), chips = new Map(), facts = h("span", { class: "nblb-facts" });
  const aloud = h("div", { class: "nblb-aloud", "aria-live": "polite" });
  let spoken = Date.now(), ended = null;
  root.append(top.node, before.node, progress.node, h("div", { class: "nblb-line" }, counts, facts), cells.node, item.node, other.node, turn.node, shown.node, now_running.node, words.node, failed.node, said.node, aloud);
  return (now) => {
    if (ended === false) root.dataset.height = Math.round(root.getBoundingClientRect().height); // before this draw
    top.draw(now, root); other.draw(now, model); before.draw(now);
    const share = new Map(now.counts.map(([state, , , n]) => [state, (100 * n) / (now.total || 1)]));
    // The bar's length is the progress: what runs has the length that it has done, not that of its items.
    share.set("RUNNING", now.part || 0); share.set("CANCELLING", 0);
    progress.draw(now, ["DONE", "KEPT", "FAILED", "LOST", "CANCELLED", "CANCELLING", "RUNNING"].map((state) => [state, share.get(state) || 0]));
    const there = new Map(now.counts.map((row) => [row[0], row]));
    for (const row of [...always, ...now.counts]) if (!chips.has(row[0])) { const chip = h("li", { "data-state": row[0], title: meaning[row[0]] || "" }); chips.set(row[0], { chip, row }); counts.append(chip); }
    for (const [state, { chip, row: [, sign, word] }] of chips) {
      const n = there.get(state)?.[3] || 0;
      say(chip, `${sign} ${n.toLocaleString("en")} ${word}`); show(chip, n > 0 || !now.over);
      chip.style.minWidth = `${word.length + now.total.toLocaleString("en").length + 2}ch`; // its maximum width, so that its neighbours do not move
    }
    say(facts, now.facts.filter(Boolean).join(" · "));
    cells.draw(now); now_running.draw(now.running || [], now.over); failed.draw(model.get("failures"));
    item.draw(now.item); words.draw(); turn.draw(now.knobs || [], now.over); shown.draw(); waits.draw(now); notify.draw(now);
    said.draw((now.lines || []).map(([of, stream, text]) => `${of}${stream === "stderr" ? " !" : ":"} ${text}`).join("\n"), now.lines_note || "");
    cancel.can(now.can.cancel); start.can(now.can.start); show(start, Boolean(now.can.start)); retry.can(now.can.retry); show(retry, now.can.retry !== undefined); renew.can(now.can.renew); show(renew, Boolean(now.can.renew)); keep.can(now.can.keep); show(keep, Boolean(now.can.keep));
    if (ended !== now.over ? now.over || ended !== null : Date.now() - spoken > 10000 && !now.over) {
      say(aloud, `${now.title}: ${now.text}`); spoken = Date.now();
    }
    if (now.over && ended === false) keep_height(root);
    ended = now.over;
  };
});
