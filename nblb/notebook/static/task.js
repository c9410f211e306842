// The card of one task: state, bar, live content, knobs, end of the output, failure.
export default live((model, root) => {
  const cancel = button(model, "Cancel", "cancel"), keep = button(model, "Stop early and keep", "keep"), start = button(model, "Start core", "start"), waits = why(model);
  const top = head([waits.node, start, keep, cancel]), progress = bar(), failed = failures(), other = notes();
  const facts = h("div", { class: "nblb-line nblb-steady" }), value = h("div", { class: "nblb-sub" });
  const said = output(model), shown = pictures(model, false), turn = knobs(model);
  said.node.open = true;
  waits.over(top.state);
  root.append(top.node, progress.node, facts, value, other.node, turn.node, shown.node, failed.node, said.node);
  return (now) => {
    top.draw(now, root); other.draw(now, model); waits.draw(now);
    progress.draw(now, [[now.over ? now.state : "RUNNING", now.percent]]);
    say(facts, now.facts.join(" · ")); failed.draw(model.get("failures"));
    say(value, now.emitted ? `latest: ${now.emitted}` : ""); show(value, Boolean(now.emitted));
    turn.draw(now.knobs || [], now.over); shown.draw(); said.draw(model.get("output") || now.output, now.output_note, Boolean(now.can.more));
    cancel.can(now.can.cancel); start.can(now.can.start); show(start, Boolean(now.can.start)); keep.can(now.can.keep); show(keep, Boolean(now.can.keep));
  };
});
