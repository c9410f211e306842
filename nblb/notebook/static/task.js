// The card of one task: state, bar, what it says, the tail of its output, how it failed.
export default live((model, root) => {
  const cancel = button(model, "Cancel", "cancel"), top = head([cancel]), progress = bar(), failed = failures(), other = notes();
  const facts = h("div", { class: "nblb-line" }), text = h("pre", { tabindex: 0 });
  const output = h("details", { class: "nblb-output", open: "" }, h("summary", {}, "output"), text);
  root.append(top.node, progress.node, facts, other.node, failed.node, output);
  return (now) => {
    top.draw(now, root); other.draw(now, model);
    progress.draw(now, [[now.over ? now.state : "RUNNING", now.percent]]);
    say(facts, now.facts.join(" · ")); failed.draw(model.get("failures"));
    show(output, Boolean(now.output)); if (now.output) say(text, now.output);
    cancel.can(now.can.cancel);
  };
});
