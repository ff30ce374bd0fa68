// Lines over time, by uPlot. Colours come from the style sheet, so that both themes have theirs.

import { fill, h } from './dom.js';
import { NONE, seconds, words } from './format.js';
import { WINDOW_S } from './figures.js';

const LOOKS = {
  optimized: { colour: '--line-1', dash: [] },
  legacy: { colour: '--line-2', dash: [8, 4] },
  stale: { colour: '--line-3', dash: [2, 3] },
  cached_routes: { colour: '--line-6', dash: [12, 3] },
  passthrough: { colour: '--line-5', dash: [4, 2] },
  none: { colour: '--line-4', dash: [10, 3, 2, 3] },
};
const OTHER = { colour: '--line-5', dash: [1, 2] };
const HEIGHT = 210;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  #root;
  #plot = null;
  #names = null;
  #options;
  #legend = h('ul', { class: 'legend' });
  #box = h('div', { class: 'plot' });
  #shown = { xs: [], raw: [] };

  // `isLog`, `isStacked`, `limit` (a line across), `text(value)`, `label` for those who cannot see.
  constructor(root, options) {
    this.#root = root;
    this.#options = options;
    root.setAttribute('role', 'img');
    root.append(this.#box, this.#legend);
    // In the next frame: what is resized while sizes are told is an error to the browser.
    new ResizeObserver(() => requestAnimationFrame(() => this.#fit())).observe(root);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#again());
  }

  draw(xs, names, raw) {
    this.#shown = { xs, raw, names };
    this.#root.classList.remove('none');
    const { isStacked, label, text } = this.#options;
    if (!names.length) {
      this.#plot?.destroy();
      this.#plot = this.#names = null;
      this.#root.classList.add('none');
      fill(this.#legend, h('li', { class: 'empty' }, 'No request in the last 15 minutes.'));
      this.#root.setAttribute('aria-label', `${label}: none.`);
      return;
    }
    const ys = isStacked ? stacked(raw) : raw;
    if (this.#names !== names.join()) {
      this.#names = names.join();
      this.#plot?.destroy();
      this.#plot = new window.uPlot(this.#settings(names), [xs, ...ys], this.#box);
    } else {
      this.#plot.setData([xs, ...ys], true);
    }
    this.#tell(xs.length - 1);
    const last = names.map((name, at) => `${words(name)} ${text(lastOf(raw[at]))}`).join(', ');
    this.#root.setAttribute('aria-label', `${label}. Latest: ${last || 'nothing yet'}.`);
  }

  #again() {
    this.#names = null;
    if (this.#shown.names) this.draw(this.#shown.xs, this.#shown.names, this.#shown.raw);
  }

  #fit() {
    const width = this.#root.clientWidth;
    if (this.#plot && width && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #tell(at) {
    const { xs, raw, names = [] } = this.#shown;
    const items = names.map((name, index) => {
      const look = LOOKS[name] ?? OTHER;
      const value = at === xs.length - 1 ? lastOf(raw[index]) : raw[index][at];
      return h('li', {}, swatch(look), `${words(name)} `, h('b', {}, this.#options.text(value)));
    });
    const when = xs[at] ? h('li', { class: 'note' }, `at ${seconds(xs[at])}`) : null;
    fill(this.#legend, ...items, when);
  }

  #settings(names) {
    const { isLog, isStacked, limit, text } = this.#options;
    const ink = colour('--ink-soft');
    const axis = { stroke: ink, grid: { stroke: colour('--rule'), width: 1 }, ticks: { stroke: colour('--rule') }, font: '12px system-ui' };
    return {
      width: this.#root.clientWidth || 300,
      height: HEIGHT,
      padding: [null, 30, null, null],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: true, range: (_, low, high) => [Math.max(this.#shown.xs[0] ?? low, high - WINDOW_S), Math.max(high, (this.#shown.xs[0] ?? low) + 60)] },
        y: isLog ? { distr: 3, range: (_, low, high) => [Math.min(low || 1, 1), Math.max(high || 1, 2 * limit)] }
          : { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.1] },
      },
      axes: [
        { ...axis, values: [[60, '{HH}:{mm}', null, null, null, null, null, null, 1], [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1]], space: 70 },
        { ...axis, size: 64, filter: isLog ? (_, ticks) => ticks.map((tick) => (Number.isInteger(Math.round(1e6 * Math.log10(tick)) / 1e6) ? tick : null)) : undefined, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : text(tick))) },
      ],
      series: [{}, ...names.map((name) => {
        const look = LOOKS[name] ?? OTHER;
        return {
          label: name, stroke: colour(look.colour), dash: look.dash, width: 2, spanGaps: true,
          points: { show: !isStacked, size: 4, fill: colour(look.colour) },
          fill: isStacked ? `${colour(look.colour)}33` : undefined,
        };
      })],
      bands: isStacked ? names.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : [],
      hooks: {
        draw: limit ? [(plot) => across(plot, limit, text(limit))] : [],
        setCursor: [(plot) => this.#tell(plot.cursor.idx ?? this.#shown.xs.length - 1)],
      },
    };
  }
}

// As the line looks: told apart without colours too.
function swatch({ colour: name, dash: [on = 1, off = 0] }) {
  return h('span', { class: 'swatch', vars: { '--swatch': `var(${name})`, '--on': `${on}px`, '--period': `${on + off}px` } });
}

// Each series on those before it.
function stacked(raw) {
  let below = [];
  return raw.map((values) => {
    below = values.map((value, at) => (value ?? 0) + (below[at] ?? 0));
    return below;
  });
}

function across(plot, limit, text) {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(limit, 'y', true);
  ctx.save();
  ctx.strokeStyle = colour('--limit');
  ctx.fillStyle = colour('--limit');
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${12 * devicePixelRatio}px system-ui`;
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  ctx.setLineDash([]);
  const right = bbox.left + bbox.width;
  const wide = ctx.measureText(text).width + 8 * devicePixelRatio;
  ctx.fillStyle = colour('--panel');
  ctx.fillRect(right - wide, y - 9 * devicePixelRatio, wide, 18 * devicePixelRatio);
  ctx.fillStyle = colour('--limit');
  ctx.fillText(text, right - 4 * devicePixelRatio, y);
  ctx.restore();
}

function lastOf(values) {
  for (let at = values.length - 1; at >= 0; at -= 1) if (values[at] !== null && values[at] !== undefined) return values[at];
  return null;
}

export const rate = (value) => (value === null || value === undefined ? NONE : `${Number(value.toFixed(value < 10 ? 1 : 0))}/s`);
