"""The script that makes Gradio's page outlive a lost connection. No Gradio here."""

STREAMS = """<script>
(() => {
  const fetched = window.fetch, encoder = new TextEncoder(), DATA = "data: ", END = "\\n\\n";
  const LOST = "The connection was lost: ask again.";
  const AWAY = "The server does not answer. What was asked waits.";
  const asked = new Set(), early = new Set(); // events without an end, and ends of what is not known yet

  const line = message => encoder.encode(`${DATA}${JSON.stringify(message)}${END}`);
  const end = (out, error) => {
    const output = {error, visible: true, duration: 10};
    for (const event_id of asked) {
      out.enqueue(line({msg: "process_completed", event_id, output, success: false}));
      output.visible = false; // one message for all of them
    }
    asked.clear();
    out.enqueue(line({msg: "close_stream"}));
    out.close();
  };
  const follow = async (out, body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const next = () => reader.read().catch(() => ({done: true})); // broken off: as if it had ended
    let rest = "";
    for (let part; !(part = await next()).done; ) {
      const events = (rest + part.value).split(END);
      rest = events.pop();
      for (const event of events) {
        const {msg, event_id} = event.startsWith(DATA) ? JSON.parse(event.slice(DATA.length)) : {};
        if (msg === "unexpected_error") return end(out, LOST); // of all events; nothing comes behind it
        if (msg === "process_completed" && !asked.delete(event_id)) early.add(event_id);
        out.enqueue(encoder.encode(event + END));
        if (msg === "close_stream") return out.close();
      }
    }
    end(out, LOST);
  };
  const stream = async request => {
    const answer = await fetched(...request).catch(() => null);
    if (answer?.ok) return new Response(new ReadableStream({start: out => follow(out, answer.body)}));
    const said = document.createElement("p"); // Gradio shows messages as HTML
    said.textContent = (await answer?.json().catch(() => null))?.detail ?? LOST;
    return new Response(new ReadableStream({start: out => end(out, said.innerHTML)}));
  };

  const bar = Object.assign(document.createElement("div"), {className: "gpg away", role: "status"});
  const join = async request => {
    for (;;) {
      const answer = await fetched(...request).catch(() => null);
      if (answer && ![502, 504].includes(answer.status)) {
        bar.remove();
        const {event_id} = await answer.clone().json().catch(() => ({}));
        if (event_id && !early.delete(event_id)) asked.add(event_id);
        return answer;
      }
      bar.textContent = AWAY;
      document.body.append(bar);
      await new Promise(done => setTimeout(done, 1000));
    }
  };

  window.fetch = (...request) => {
    const {pathname} = new URL(request[0].url ?? request[0], location.href);
    if (pathname.endsWith("/queue/data")) return stream(request);
    return pathname.endsWith("/queue/join") ? join(request) : fetched(...request);
  };
})();
</script>"""
"""Gradio's client takes a stream of results that broke off for open as long as the page lives, and reads no
answer any more; and where it cannot ask, the page is loaded again once the server is back, without what was
typed. So a stream that breaks ends the events that it would have told about, as their own errors do, and what
is asked while the server is away waits for it."""
