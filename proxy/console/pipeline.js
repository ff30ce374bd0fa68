// The dates of the pipeline as a calendar, coloured by the age of what was computed for them.

import { call } from './api.js';
import { action, confirm } from './dialog.js';
import { badge, byId, fact, fill, h, moment, whenChanged } from './dom.js';
import { MONTHS, count, day, duration, timeAndDay } from './format.js';

const AGES = [
  [3600, 'age-1', 'under an hour'],
  [6 * 3600, 'age-2', 'under 6 hours'],
  [86_400, 'age-3', 'under a day'],
  [7 * 86_400, 'age-4', 'under a week'],
  [Infinity, 'age-5', 'older'],
];
const WEEKDAYS = ['Mo', 'Tu', 'We', 'Th', 'Fr', 'Sa', 'Su'];
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 };

// The date that Tab reaches: one of them, the arrow keys go to the others.
let reached = null;
let known = [];
const openYears = new Map();

export const drawPipeline = whenChanged((pipeline) => {
  const { dates = [], last_run: lastRun } = pipeline;
  const changed = new Set(lastRun?.changed ?? []);
  known = dates.map((one) => one.date);
  if (!known.includes(reached)) reached = known.at(-1) ?? null;
  drawHold(pipeline);
  drawFacts(pipeline, changed);
  if (!dates.length) {
    fill(byId('calendar'), h('p', { class: 'empty' }, 'No date is known: the tables are empty or cannot be looked at.'));
    return;
  }
  const years = groups(dates, (one) => one.date.slice(0, 4)).reverse();
  fill(byId('calendar'), ...years.map(([year, days], at) => drawYear(year, days, changed, at === 0)));
});

function drawHold({ is_rebuilding: isRebuilding, held = [], since }) {
  if (!isRebuilding) {
    fill(byId('hold'), h('p', { class: 'hold' }, badge('good', 'no rebuild is held')));
    return;
  }
  const few = held.slice(0, 6).map((one) => day(one)).join(', ');
  const more = held.length > 6 ? ` and ${held.length - 6} more` : '';
  fill(byId('hold'), h('div', { class: 'banner warn' }, badge('warn', 'a rebuild is held'),
    h('p', {}, `Rows that were there are missing${held.length ? ` on ${few}${more}` : ''}. Since `,
      since ? moment(since, timeAndDay(since)) : 'a while', ' the numbers from before are served, with a warning, and nothing new is kept.'),
    action('End the hold…', 'end-hold', () => confirm({
      title: 'End the hold?',
      text: 'From now on the tables are believed as they are, also where rows are missing. Do this when the rows went on purpose, not while the pipeline is refilling them.',
      verb: 'End the hold',
      act: async ({ cause }) => {
        const { freshness } = await call('POST', '/rebuild', { action: 'end', ...cause });
        return `The hold is ended. The data are ${freshness.state}.`;
      },
    }))));
}

function drawFacts({ last_run: lastRun, computed_at: computedAt, dates = [] }, changed) {
  const run = lastRun
    ? [moment(lastRun.seen_at, `seen ${timeAndDay(lastRun.seen_at)}`), `${count(changed.size)} ${changed.size === 1 ? 'date' : 'dates'} changed${changed.size ? `: ${spans([...changed].sort())}` : ''}`]
    : ['none seen', 'since this process started'];
  fill(byId('pipeline-facts'),
    fact('last run', run[0], run[1]),
    fact('computed at', computedAt?.replace(/\.0+$/, '') ?? '–', 'the newest of the tables, in the pipeline’s own time'),
    fact('dates', count(dates.length), dates.length ? `${day(dates[0].date)} to ${day(dates.at(-1).date)}` : ''));
}

function drawYear(year, dates, changed, isOpen) {
  const months = groups(dates, (one) => one.date.slice(0, 7)).reverse();
  const open = openYears.get(year) ?? isOpen;
  const toggled = (event) => openYears.set(year, event.currentTarget.open);
  return h('details', { open, data: { year }, on: { toggle: toggled } }, h('summary', { data: { key: `year ${year}` } }, year),
    h('div', { class: 'months' }, ...months.map(([month, days]) => drawMonth(month, days, changed))));
}

function drawMonth(month, dates, changed) {
  const [year, number] = month.split('-').map(Number);
  const byDay = new Map(dates.map((one) => [Number(one.date.slice(8)), one]));
  const length = new Date(Date.UTC(year, number, 0)).getUTCDate();
  const before = (new Date(Date.UTC(year, number - 1, 1)).getUTCDay() + 6) % 7;
  const cells = [...Array(before).fill(null), ...Array.from({ length }, (_, at) => at + 1)];
  const weeks = [];
  for (let at = 0; at < cells.length; at += 7) weeks.push(cells.slice(at, at + 7));
  const drawn = (one) => h('td', {}, one === null ? '' : byDay.has(one) ? drawDay(byDay.get(one), changed) : h('span', { class: 'outside' }, one));
  return h('table', { class: 'month' }, h('caption', {}, `${MONTHS[number - 1]} ${year}`),
    h('thead', {}, h('tr', {}, ...WEEKDAYS.map((name) => h('th', { scope: 'col' }, name)))),
    h('tbody', {}, ...weeks.map((week) => h('tr', {}, ...week.map(drawn)))));
}

function drawDay(one, changed) {
  const isChanged = changed.has(one.date);
  const [look, age] = lookOf(one);
  const told = `${day(one.date)}: ${age}, ${count(one.rows)} rows${isChanged ? ', changed by the last run' : ''}`;
  return h('button', {
    type: 'button',
    class: `day ${look}${isChanged ? ' changed' : ''}`,
    title: told,
    'aria-label': told,
    tabindex: one.date === reached ? '0' : '-1',
    data: { key: `day ${one.date}`, date: one.date, state: one.state },
    on: { focus: () => tell(told), click: () => tell(told), keydown: move },
  }, Number(one.date.slice(8)));
}

function lookOf({ state, age_s: ageS, computed_at: computedAt }) {
  if (state === 'missing') return ['missing', 'missing, no rows'];
  const when = ageS === null || ageS === undefined ? 'computed at an unknown time' : `computed ${duration(ageS)} ago (${computedAt})`;
  if (state === 'rebuilding') return ['held', `rebuilding, ${when}`];
  const found = AGES.find(([most]) => (ageS ?? Infinity) < most) ?? AGES.at(-1);
  return [found[1], when];
}

function tell(text) {
  byId('day-told').textContent = text;
}

function move(event) {
  const at = known.indexOf(event.currentTarget.dataset.date);
  const to = { Home: 0, End: known.length - 1 }[event.key] ?? at + (STEPS[event.key] ?? NaN);
  if (Number.isNaN(to)) return;
  event.preventDefault();
  const wanted = known[Math.min(Math.max(to, 0), known.length - 1)];
  const button = byId('calendar').querySelector(`[data-date="${CSS.escape(wanted)}"]`);
  button.closest('details').open = true;
  event.currentTarget.tabIndex = -1;
  button.tabIndex = 0;
  reached = wanted;
  button.focus();
}

export function drawLegend() {
  const items = [...AGES.map(([, look, text]) => [look, text]), ['held', 'rebuilding'], ['missing', 'missing'], ['age-1 changed', 'changed by the last run']];
  fill(byId('calendar-legend'), h('li', {}, 'Computed:'), ...items.map(([look, text]) =>
    h('li', {}, h('span', { class: `day ${look}`, 'aria-hidden': 'true' }), text)));
}

// 1 to 3 Jan 2024, 5 Jan 2024: dates that follow each other are said together.
export function spans(dates) {
  const found = [];
  for (const date of dates) {
    const last = found.at(-1);
    if (last && Date.parse(date) - Date.parse(last[1]) === 86_400_000) last[1] = date;
    else found.push([date, date]);
  }
  const said = found.slice(0, 4).map(([from, to]) => (from === to ? day(from) : `${day(from)} to ${day(to)}`));
  return said.join(', ') + (found.length > 4 ? ` and ${found.length - 4} more` : '');
}

function groups(items, keyOf) {
  const found = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(item);
  }
  return [...found];
}
