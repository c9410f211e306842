// The cluster card: its facts, its load, and the buttons Scale, Open monitor, Stop.

// The kernel cannot know how the browser reaches its machine. If the notebook server has jupyter-server-proxy, the link
// goes through it; otherwise the address is used unchanged, which is right on the same computer.
const monitor_address = async (address) => {
  const settings = document.getElementById("jupyter-config-data"), url = new URL(address), local = ["localhost", "127.0.0.1"];
  const base = settings ? JSON.parse(settings.textContent).baseUrl : null;
  if (local.includes(location.hostname) && local.includes(url.hostname)) url.hostname = location.hostname;
  if (!base) return url.href;
  const proxy = await fetch(`${base}server-proxy/servers-info`).then((reply) => reply.ok, () => false);
  return proxy ? `${base}proxy/${url.port}${url.pathname}${url.search}` : url.href;
};

export default live((model, root) => {
  const wanted = h("input", { type: "number", min: 0, max: 9999, "aria-label": "number of workers" });
  const scale = button(model, "Scale", "scale", () => Number(wanted.value)), stop = h("button", { type: "button" }, "Stop");
  const start = button(model, "Start", "start");
  const open = h("button", { type: "button" }, "Open monitor"), sure = button(model, "Stop now", "stop"), keep = h("button", { type: "button" }, "Keep it");
  const question = h("div", { class: "nblb-notes", role: "alert" }), asked = h("span");
  const top = head([wanted, scale, open, start, stop]), list = h("dl", { class: "nblb-facts-list" }), other = notes(), hubs = h("ul", { class: "nblb-hubs", "aria-label": "hubs" }), lines = [];
  const values = new Map();
  let now = model.get("now"), told = null;
  question.append(asked, sure, keep); show(question, false);
  open.onclick = async () => { if (!now.can.monitor) return; const page = window.open("", "_blank"); page.location = await monitor_address(now.monitor); };
  stop.onclick = () => {
    if (!now.can.stop) return;
    if (!now.unfinished) { enable(stop, false); press(model, "stop"); return; }
    say(asked, `${now.unfinished.toLocaleString("en")} tasks have not ended; the journal keeps them for the next start. `);
    show(question, true); keep.focus();
  };
  keep.onclick = () => { show(question, false); stop.focus(); };
  sure.addEventListener("click", () => show(question, false));
  root.append(top.node, question, list, hubs, other.node);
  return (next) => {
    now = next;
    top.draw(now, root); other.draw(now, model);
    for (const [name, value] of now.rows) {
      if (!values.has(name)) { const said = h("dd"); values.set(name, said); list.append(h("div", {}, h("dt", {}, name), said)); }
      say(values.get(name), value);
    }
    const there = new Set(now.rows.map(([name]) => name));
    for (const [name, said] of values) show(said.parentElement, there.has(name));
    while (lines.length < now.hubs.length) { lines.push(h("li")); hubs.append(lines[lines.length - 1]); }
    lines.forEach((line, i) => {
      const [name, host, state, workers, busy] = now.hubs[i] || [];
      show(line, i < now.hubs.length); say(line, name ? `${state === "up" ? "●" : "○"} ${name} on ${host}: ${busy} of ${workers} busy` : "");
    });
    if (document.activeElement !== wanted && told !== now.workers) { told = now.workers; wanted.value = told; } // else keep what was typed
    scale.can(now.can.scale); enable(open, now.can.monitor); enable(stop, now.can.stop); start.can(now.can.start); show(start, Boolean(now.can.start)); show(stop, !now.can.start); wanted.disabled = !now.can.scale;
    attr(open, "title", now.monitor ? now.monitor.split("?")[0] : "no Monitor runs");
  };
});
