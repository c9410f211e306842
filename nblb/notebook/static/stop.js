// The card after the stop button: Detach, Cancel or Kill.
export default live((model, root) => {
  const fates = ["Detach", "Cancel", "Kill"].map((name) => [name.toLowerCase(), button(model, name, name.toLowerCase())]);
  const top = head(fates.map(([, node]) => node)), other = notes();
  root.append(top.node, other.node);
  return (now) => {
    top.draw(now, root); other.draw(now, model);
    for (const [fate, node] of fates) { node.can(now.can[fate]); show(node, !now.over); }
  };
});
