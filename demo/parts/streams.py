"""The script that tells Gradio's page when a stream of results has broken off. No Gradio here."""

STREAMS = """<script>
(() => {
  const fetched = window.fetch, encoder = new TextEncoder(), asked = new Set(), END = "\\n\\n";
  const sent = message => encoder.encode(`data: ${JSON.stringify(message)}${END}`);
  const output = {error: "The connection was lost: ask again.", visible: true, duration: 10};
  const lost = event_id => ({msg: "process_completed", event_id, output, success: false, title: "Error"});
  const closing = out => {
    for (const event of asked) out.enqueue(sent(lost(event)));
    asked.clear();
    out.enqueue(sent({msg: "close_stream"}));
  };
  const whole = body => new ReadableStream({
    async start(out) {
      let rest = "", closed = false;
      try {
        const reader = body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part; !(part = await reader.read()).done; ) {
          const events = (rest + part.value).split(END);
          rest = events.pop();
          for (const event of events) {
            const {msg, event_id} = JSON.parse(event.slice("data: ".length));
            if (msg === "process_completed") asked.delete(event_id);
            closed ||= msg === "close_stream";
            out.enqueue(encoder.encode(event + END));
          }
        }
      } catch {} // broken off: as if it had ended
      if (!closed) closing(out);
      out.close();
    },
  });
  window.fetch = async (...request) => {
    const {pathname} = new URL(request[0].url ?? request[0], location.href);
    if (pathname.endsWith("/queue/data")) {
      const answer = await fetched(...request).catch(() => null);
      return new Response(whole(answer?.ok ? answer.body : new Response("").body));
    }
    const answer = await fetched(...request);
    if (pathname.endsWith("/queue/join") && answer.ok) asked.add((await answer.clone().json()).event_id);
    return answer;
  };
})();
</script>"""
"""Gradio's client takes such a stream for open as long as the page lives, and reads no answer any more. Where
one breaks during an answer, it loads the page again, which loses what was typed."""
