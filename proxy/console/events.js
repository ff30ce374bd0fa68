// The stream of server-sent events, by fetch: EventSource cannot send the token.

import { errorOf, headers } from './api.js';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// The proxy says something every 15 s at the latest.
const SILENT_MS = 25_000;

// Follows /admin/events until `stop`. `heard(name, data)` for each event, `state(word)` is
// 'live', 'lost' or 'denied' with the API's words (it tries again by itself), or 'refused' (it
// wants a token and waits for `again`).
export class Stream {
  #heard;
  #state;
  #abort = null;
  #wake = () => {};
  #isOver = false;
  #why = '';

  constructor({ heard, state }) {
    this.#heard = heard;
    this.#state = state;
  }

  async follow() {
    let wait = FIRST_WAIT_MS;
    while (!this.#isOver) {
      const outcome = await this.#once(() => { wait = FIRST_WAIT_MS; });
      if (this.#isOver) return;
      this.#state(outcome, this.#why);
      // Not all pages come back in the same moment after a restart.
      await this.#rest(outcome === 'refused' ? null : wait * (0.75 + Math.random() / 2));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  // Try now: there is another token, or the network is back.
  again() {
    this.#abort?.abort();
    this.#wake();
  }

  stop() {
    this.#isOver = true;
    this.again();
  }

  async #once(begun) {
    const abort = new AbortController();
    this.#abort = abort;
    let watch = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const response = await fetch('/admin/events', {
        headers: { ...headers(), Accept: 'text/event-stream' },
        cache: 'no-store',
        credentials: 'omit',
        signal: abort.signal,
      });
      if (response.status === 401) return 'refused';
      if (!response.ok) {
        this.#why = (await errorOf(response)).message;
        return 'denied';
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser(this.#heard);
      this.#state('live');
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 'lost';
        clearTimeout(watch);
        watch = setTimeout(() => abort.abort(), SILENT_MS);
        begun();
        parser.add(value);
      }
    } catch {
      return 'lost';
    } finally {
      clearTimeout(watch);
      abort.abort();
    }
  }

  #rest(wait) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (wait !== null) setTimeout(resolve, wait);
    });
  }
}

// Lines of text/event-stream to events. What is no JSON is left out.
export class Parser {
  #heard;
  #rest = '';
  #name = '';
  #data = [];

  constructor(heard) {
    this.#heard = heard;
  }

  add(text) {
    const lines = (this.#rest + text).split(/\r\n|\n/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === '') {
      if (this.#data.length) this.#tell(this.#name || 'message', this.#data.join('\n'));
      this.#name = '';
      this.#data = [];
      return;
    }
    const at = line.indexOf(':');
    if (at === 0) return;
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
    if (field === 'event') this.#name = value;
    else if (field === 'data') this.#data.push(value);
  }

  #tell(name, text) {
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      return;
    }
    try {
      this.#heard(name, data);
    } catch (error) {
      // A panel that cannot be drawn is no reason to hang up.
      reportError(error);
    }
  }
}
