// The earlier job whose name this one took over: what was reused of it, and what happens to the rest of it.
const earlier = (model) => {
  const said = h("span"), end = button(model, "Cancel the earlier one", "earlier", () => "cancel"), both = button(model, "Keep both", "earlier", () => "keep");
  const node = h("div", { class: "nblb-notes nblb-earlier", role: "group", "aria-label": "earlier job of this name" }, said, h("span", { class: "nblb-buttons" }, end, both));
  return { node, draw(now) {
    show(node, Boolean(now.earlier)); say(said, now.earlier || "");
    for (const choice of [end, both]) { choice.can(now.can.earlier); show(choice, Boolean(now.can.earlier)); }
  } };
};
