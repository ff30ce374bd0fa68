// Composition: the stream, what is read beside it, and which panel is drawn when.

import { ApiError, forgetToken, get, hasToken, keepToken, onRefused } from './api.js';
import { drawAttention, problems } from './attention.js';
import { drawAudit } from './audit.js';
import { drawCache, drawCacheTools } from './cache.js';
import { announce } from './dialog.js';
import { drawDiffs } from './diffs.js';
import { byId, fill, h } from './dom.js';
import { Stream } from './events.js';
import { joined } from './figures.js';
import { seconds } from './format.js';
import { drawFigures, drawHealth } from './health.js';
import { drawJobButtons, drawJobs } from './jobs.js';
import { drawLegend, drawPipeline } from './pipeline.js';
import { drawRollout, drawSplit } from './split.js';
import { Traffic } from './traffic.js';

const AUDIT_SHOWN = 20;
const LONGEST_READ_MS = 30_000;
const CHECK_MS = 5000;
const known = { overview: null, pipeline: null, jobs: [], pipelineAt: 0, shadow: null, history: [], heardAt: null };
const traffic = new Traffic();

// What the stream does not carry: read when something has happened, and every few seconds.
class Read {
  #path; #drawn; #everyMs; #place; #readAt = -Infinity; #isWanted = false; #abort = null;

  constructor(path, everyMs, place, drawn) {
    this.#path = path;
    this.#everyMs = everyMs;
    this.#place = place;
    this.#drawn = drawn;
  }

  due() {
    if (performance.now() - this.#readAt >= this.#everyMs) this.now();
  }

  // What is under way may never be answered: it was asked before the connection was lost.
  again() {
    this.#abort?.abort();
    this.now();
  }

  async now() {
    if (this.#abort) {
      this.#isWanted = true;
      return;
    }
    const abort = this.#abort = new AbortController();
    const watch = setTimeout(() => abort.abort(), LONGEST_READ_MS);
    this.#isWanted = false;
    this.#readAt = performance.now();
    try {
      this.#drawn(await get(this.#path, abort.signal));
      this.#failed('');
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status !== 401 && error.status !== 0) this.#failed(error.message);
    } finally {
      clearTimeout(watch);
      this.#abort = null;
    }
    if (this.#isWanted) this.now();
  }

  #failed(text) {
    const place = byId(this.#place);
    const line = place.querySelector(':scope > .unread');
    if (line?.textContent === text || (!line && !text)) return;
    line?.remove();
    if (text) place.prepend(h('p', { class: 'error unread', role: 'alert' }, text));
  }
}

const reads = {
  rollout: new Read('/rollout', 5000, 'split', drawRollout),
  shadow: new Read('/shadow', 15_000, 'split', (shadow) => { known.shadow = shadow; drawAll(); }),
  diffs: new Read('/diffs?limit=10', 5000, 'diffs', drawDiffs),
  cache: new Read('/cache?limit=200', 10_000, 'cache', ({ entries }) => drawCache(entries)),
  jobs: new Read('/jobs?limit=10', 15_000, 'jobs', ({ jobs }) => {
    known.jobs = jobs;
    drawJobs(jobs);
    drawAll();
  }),
  audit: new Read(`/audit?limit=${AUDIT_SHOWN}`, 60_000, 'audit', ({ entries }) => drawAudit(entries)),
};

const heard = {
  overview(overview) {
    const before = known.overview;
    known.history = joined(known.history, overview.history ?? []);
    known.overview = overview;
    drawAll();
    const changed = (name) => before && JSON.stringify(before[name]) !== JSON.stringify(overview[name]);
    if (changed('rollout') || changed('split')) reads.rollout.now();
    if (changed('jobs')) reads.jobs.now();
    for (const read of Object.values(reads)) read.due();
  },
  pipeline(pipeline) {
    const before = withoutAges(known.pipeline);
    known.pipeline = pipeline;
    known.pipelineAt = performance.now();
    drawDates();
    if (withoutAges(pipeline) !== before) reads.cache.now();
  },
  audit() {
    for (const read of Object.values(reads)) read.now();
  },
};

const stream = new Stream({
  heard(name, data) {
    known.heardAt = Date.now() / 1000;
    heard[name]?.(data);
  },
  state(word, why) {
    const states = {
      live: ['good', 'live'],
      lost: ['bad', known.heardAt === null ? 'connecting: the proxy does not answer yet' : `reconnecting, stale since ${seconds(known.heardAt)}`],
      refused: ['warn', 'waiting for the token'],
      denied: ['bad', known.heardAt === null ? 'no data' : `no data since ${seconds(known.heardAt)}`],
    };
    const [kind, text] = states[word];
    const place = byId('live');
    place.className = `live ${kind}`;
    if (place.textContent !== text) place.textContent = text;
    document.body.classList.toggle('stale', word === 'lost' || word === 'denied');
    if (word === 'denied') drawAttention([{ kind: 'bad', text: why, where: 'health' }]);
    if (word === 'live') {
      showPage();
      // Nobody has said what happened meanwhile.
      for (const read of Object.values(reads)) read.again();
    }
    if (word === 'refused') askToken();
  },
});

function drawAll() {
  const { overview, history } = known;
  if (!overview) return;
  drawAttention(problems(known), overview);
  drawHealth(overview);
  drawFigures(overview, history);
  traffic.draw(overview, history);
  if (overview.split) drawSplit(overview.split, known.shadow);
}

// Ages grow while nothing else happens: by the minute is enough.
function drawDates() {
  if (!known.pipeline) return;
  const passedS = (performance.now() - known.pipelineAt) / 1000;
  const older = (one) => (one.age_s === null ? one : { ...one, age_s: Math.floor((one.age_s + passedS) / 60) * 60 });
  drawPipeline({ ...known.pipeline, dates: known.pipeline.dates.map(older) });
  if (known.overview) drawAttention(problems(known), known.overview);
}

const withoutAges = (pipeline) => JSON.stringify(pipeline, (name, value) => (name === 'age_s' ? undefined : value));

function askToken() {
  if (!byId('token-form').hidden) {
    byId('token-error').textContent = hasToken() ? 'This token is not the right one.' : '';
    return;
  }
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  byId('token-error').textContent = hasToken() ? 'This token is not the right one.' : '';
  byId('token-form').hidden = false;
  byId('panels').hidden = true;
  byId('nav').hidden = true;
  byId('forget').hidden = true;
  byId('token').focus();
}

function showPage() {
  const wasAsking = !byId('token-form').hidden;
  byId('token-form').hidden = true;
  byId('panels').hidden = false;
  byId('nav').hidden = false;
  byId('forget').hidden = !hasToken();
  if (wasAsking) byId('main').focus({ preventScroll: true });
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  keepToken(byId('token').value.trim());
  byId('token').value = '';
  stream.again();
});
byId('forget').addEventListener('click', () => {
  // By loading anew, nothing that was read with it stays in the page.
  forgetToken();
  location.reload();
});
byId('said-close').addEventListener('click', () => {
  byId('said-text').textContent = '';
  byId('said-close').hidden = true;
  byId('main').focus({ preventScroll: true });
});
onRefused(askToken);
window.addEventListener('online', () => stream.again());
// A page that is left may be kept as it is, and shown again.
window.addEventListener('pagehide', () => stream.stop());
window.addEventListener('pageshow', ({ persisted }) => { if (persisted) stream.follow(); });
document.addEventListener('visibilitychange', () => stream.check());
setInterval(() => stream.check(), CHECK_MS);
window.addEventListener('error', ({ message }) => announce(`The page failed: ${message}`, 'bad'));
window.addEventListener('unhandledrejection', ({ reason }) => announce(`The page failed: ${reason}`, 'bad'));
setInterval(drawDates, 60_000);
fill(byId('attention-list'), h('li', {}, 'Reading…'));
drawLegend();
drawJobButtons();
drawCacheTools();
stream.follow();
