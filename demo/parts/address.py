"""The script that keeps the address bar on what is shown, and copies it. No Gradio here."""

ADDRESS = """<script>
window.gpg = Object.assign(window.gpg || {}, (() => {
  const ours = {}; // by tab, what its address names
  let following = false;
  const selected = tab => document.getElementById(`tab-${tab}-button`)?.ariaSelected === "true";
  const settings = () => [...new URLSearchParams(location.search)].filter(([name]) => name.startsWith("__"));
  const write = tab => {
    if (!following || !selected(tab)) return;
    const query = new URLSearchParams([["tab", tab], ...(ours[tab] ?? []), ...settings()]);
    history.replaceState(history.state, "", `${location.pathname}?${query}`);
  };
  const link = () => {
    const url = new URL(location.href);
    for (const [name] of settings()) url.searchParams.delete(name);
    return url.href;
  };
  const copyByHand = text => {
    const area = Object.assign(document.createElement("textarea"), {value: text, readOnly: true});
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus();
    return copied;
  };
  const placed = value => { // a group of rollouts, as the list names it: step and number, from 0 on
    const found = /^(\\d+)\\/(\\d+)$/.exec(value ?? "");
    return found ? [["step", found[1]], ["group", String(Number(found[2]) + 1)]] : [];
  };
  return {
    // values: of the fields `names`; spelled: by field, how a value is written where it is another word
    show(tab, names, spelled, values) {
      const written = (name, value) => String(spelled[name]?.[value] ?? value ?? "");
      const pairs = (name, value) => name === "place" ? placed(value) : [[name, written(name, value)]];
      ours[tab] = names.flatMap((name, at) => pairs(name, values[at])).filter(([, value]) => value !== "");
      this.select(tab);
    },
    select(tab) { setTimeout(() => write(tab)); }, // the tab bar follows a moment after the event
    follow() { following = true; },
    async copy() {
      const copied = await (navigator.clipboard?.writeText(link()).then(() => true, () => copyByHand(link()))
        ?? copyByHand(link()));
      return copied ? "Link copied" : "Copy it from the address bar";
    },
    later: text => new Promise(done => setTimeout(() => done(text), 2500)),
  };
})());
</script>"""
"""Nothing before `follow`: what a link asks for is not there yet, and the address would lose it."""
