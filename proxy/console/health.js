// Redis, database, legacy, and the figures one looks at first.

import { badge, byId, fact, fill, h } from './dom.js';
import { SLOW_MS, hitRatio, recent } from './figures.js';
import { bytes, count, duration, ms, share, time } from './format.js';

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const MEANS = {
  database: { up: 'the tables are read', down: 'cannot be read', off: 'not configured' },
  redis: { up: 'shared with other processes', down: 'memory and the tables answer', off: 'not configured: memory only' },
  legacy: { up: 'answers', down: 'what is passed through fails', off: 'not configured: nothing is passed through' },
};
const KINDS = { up: 'good', down: 'bad', off: 'off' };
const FRESH = {
  settled: ['good', 'settled', 'answers are as new as the tables'],
  rebuilding: ['warn', 'rebuilding', 'the numbers from before are served'],
  unknown: ['bad', 'unknown', 'the tables cannot be looked at'],
};

export function drawHealth(overview) {
  const cards = ['database', 'redis', 'legacy'].map((name) => {
    const state = overview.sources?.[name] ?? 'off';
    return card(name, KINDS[state] ?? 'warn', state, MEANS[name][state] ?? '');
  });
  const [kind, word, means] = FRESH[overview.freshness?.state] ?? FRESH.unknown;
  cards.push(card('pipeline', kind, word, means));
  fill(byId('health-cards'), ...cards);
  byId('version').textContent = `version ${overview.version}, up ${duration(overview.uptime_s)}`;
}

const card = (name, kind, state, means) =>
  h('li', { data: { source: name } }, h('b', {}, name === 'redis' ? 'Redis' : name), badge(kind, state), h('span', { class: 'note' }, means));

export function drawFigures(overview, history) {
  const { requests, cache } = overview;
  const own = overview.latency?.optimized;
  const minute = recent(history, 60);
  const ratio = hitRatio(requests.hits, requests.misses);
  const p95 = own?.p95_ms ?? null;
  fill(
    byId('figures'),
    fact('hit ratio', share(ratio), `${count(requests.hits)} hits, ${count(requests.misses)} misses since the start`),
    fact('requests', count(requests.total), minute.requests ? `${(minute.requests / 60).toFixed(1)} a second over the last minute` : 'none in the last minute'),
    fact('p95 of our answers', ms(p95), p95 === null ? 'none yet' : p95 <= SLOW_MS ? `✓ within ${SLOW_MS} ms` : `✕ above ${SLOW_MS} ms`),
    fact('in memory', bytes(cache.bytes), `${count(cache.entries)} entries${cache.max_bytes ? `, ${share(cache.bytes / cache.max_bytes)} of ${bytes(cache.max_bytes)}` : ''}`),
  );
  byId('as-of').textContent = `last change ${time(overview.at)}, ${ZONE} time`;
}
