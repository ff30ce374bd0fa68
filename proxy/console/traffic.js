// Requests by source over time, and how long they took against the line of 50 ms.

import { Chart, rate } from './charts.js';
import { badge, byId, fill, h, table, whenChanged } from './dom.js';
import { SLOW_MS, sourcesOf } from './figures.js';
import { count, ms, words } from './format.js';

const LEAST_MS = 0.05;
const MOST_MS = 20_000;
const WIDTH = 200;
const PLACES = { memory: 'memory', redis: 'Redis', database: 'the tables' };

export class Traffic {
  #latency = new Chart(byId('latency-chart'), {
    label: 'p95 of the latency by source over the last 15 minutes, with the 50 ms line', isLog: true, limit: SLOW_MS, text: ms,
  });
  #requests = new Chart(byId('requests-chart'), {
    label: 'Requests a second by source over the last 15 minutes, stacked', isStacked: true, text: rate,
  });
  #table = whenChanged(drawTable);

  draw(overview, history) {
    const step = overview.step_s || 5;
    const xs = history.map((point) => point.at);
    // A step that nobody looked at is part of the next point.
    const spans = xs.map((at, index) => (index ? at - xs[index - 1] : step));
    const names = sourcesOf(history);
    this.#requests.draw(xs, names, names.map((name) => history.map((point, at) => (point.by_source?.[name] ?? 0) / spans[at])));
    const timed = names.filter((name) => history.some((point) => point.p95_ms?.[name]));
    this.#latency.draw(xs, timed, timed.map((name) => history.map((point) => point.p95_ms?.[name] || null)));
    this.#table(overview.latency ?? {}, overview.places ?? {}, overview.requests?.by_source ?? {}, overview.requests?.by_result ?? {});
  }
}

function drawTable(latency, places, bySource, byResult) {
  const names = sourcesOf([{ by_source: bySource }], latency);
  if (!names.length) {
    fill(byId('latency-table'), h('p', { class: 'empty' }, 'No request was answered yet. Point the frontend at the public port.'));
    return;
  }
  const columns = ['source', { text: 'requests', class: 'number' }, { text: 'p50', class: 'number' },
    { text: 'p95', class: 'number' }, { text: 'p99', class: 'number' }, `p50 to p99, p95 marked, line at ${SLOW_MS} ms`];
  const row = (head, one, number) => [{ head }, count(number ?? one.count ?? 0), cell(one.p50_ms), cell(one.p95_ms), cell(one.p99_ms), span(one)];
  const rows = names.flatMap((name) => {
    const below = name === 'optimized' ? sourcesOf([], places).filter((place) => places[place].count) : [];
    return [row(h('span', { data: { source: name } }, words(name)), latency[name] ?? {}, bySource[name]),
      ...below.map((place) => row(h('span', { class: 'below', data: { place } }, `from ${PLACES[place] ?? place}`), places[place]))];
  });
  const results = Object.entries(byResult).filter(([, number]) => number).map(([name, number]) => `${name} ${count(number)}`);
  fill(byId('latency-table'), table('Latency by source since the start', columns, rows),
    results.length ? h('p', { class: 'note' }, `What the cache said: ${results.join(', ')}.`) : null);
}

const cell = (value) => (value > SLOW_MS ? h('span', { class: 'over' }, badge('warn', ms(value))) : ms(value));

// A line of SVG on a logarithmic scale: its attributes are no inline style.
function span({ p50_ms: p50, p95_ms: p95, p99_ms: p99 }) {
  if (p50 === null || p50 === undefined) return '–';
  const at = (value) => {
    const bounded = Math.min(Math.max(value, LEAST_MS), MOST_MS);
    return (Math.log(bounded / LEAST_MS) / Math.log(MOST_MS / LEAST_MS)) * WIDTH;
  };
  const high = p99 ?? p95 ?? p50;
  return svg('svg', { class: 'span', viewBox: `0 0 ${WIDTH} 16`, role: 'img', 'aria-label': `${ms(p50)} to ${ms(high)}, ${high > SLOW_MS ? 'beyond' : 'within'} ${SLOW_MS} ms` },
    svg('line', { class: 'track', x1: 0, x2: WIDTH, y1: 8, y2: 8 }),
    svg('rect', { class: 'bar', x: at(p50), width: Math.max(2, at(high) - at(p50)), y: 5, height: 6, rx: 2 }),
    svg('line', { class: 'mark', x1: at(p95 ?? p50), x2: at(p95 ?? p50), y1: 2, y2: 14 }),
    svg('line', { class: 'limit', x1: at(SLOW_MS), x2: at(SLOW_MS), y1: 0, y2: 16 }));
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}
