// The stream of server-sent events, by fetch: EventSource cannot send the token.

import { errorOf, headers } from './api.js';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// The proxy says something every 15 s at the latest.
const SILENT_MS = 40_000;

// Follows /admin/events until `stop`, and anew after another `follow`. `heard(name, data)` for
// each event, `state(word)` is 'live', 'lost' or 'denied' with the API's words (it tries again by
// itself), or 'refused' (it wants a token and waits for `again`).
export class Stream {
  #heard;
  #state;
  #abort = null;
  #wake = () => {};
  #turn = 0;
  #why = '';
  // By both clocks: one stands still while the machine sleeps, the other may be set back.
  #heardAt = { date: Infinity, steady: Infinity };

  constructor({ heard, state }) {
    this.#heard = heard;
    this.#state = state;
  }

  async follow() {
    // What ran before a stop may still have to notice it when the next one begins.
    const turn = ++this.#turn;
    let wait = FIRST_WAIT_MS;
    for (;;) {
      const outcome = await this.#once(() => { wait = FIRST_WAIT_MS; });
      if (turn !== this.#turn) return;
      this.#state(outcome, this.#why);
      // Not all pages come back in the same moment after a restart.
      await this.#rest(outcome === 'refused' ? null : wait * (0.75 + Math.random() / 2));
      if (turn !== this.#turn) return;
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  // Try now: there is another token, or the network is back.
  again() {
    this.#abort?.abort();
    this.#wake();
  }

  // What is shown is from before from now on.
  stop() {
    this.#turn += 1;
    this.again();
    this.#state('lost');
  }

  // A connection can die without a sign. To be called every few seconds: a timer for the whole
  // time would stand still with the machine.
  check() {
    const { date, steady } = this.#heardAt;
    if (Math.max(Date.now() - date, performance.now() - steady) > SILENT_MS) this.#abort?.abort();
  }

  #alive() {
    this.#heardAt = { date: Date.now(), steady: performance.now() };
  }

  async #once(begun) {
    const abort = new AbortController();
    this.#abort = abort;
    this.#alive();
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
      if (abort.signal.aborted) return 'lost';
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser(this.#heard);
      this.#state('live');
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 'lost';
        this.#alive();
        begun();
        parser.add(value);
      }
    } catch {
      return 'lost';
    } finally {
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
