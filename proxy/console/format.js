// Numbers, times and questions in plain words. Pure.

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 3 });
const exact = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 6 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayAndClock = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit',
});

export const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August',
  'September', 'October', 'November', 'December'];

export const NONE = '–';

export const count = (number) => (number === null || number === undefined ? NONE : whole.format(number));

export const plain = (number) => exact.format(number);

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 10_000) return `${three.format(value / 1000)} s`;
  return `${three.format(value)} ms`;
}

export function share(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  const percent = value * 100;
  // 99.96 % is not all of them.
  if (percent > 99.9 && percent < 100) return '> 99.9 %';
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  return `${new Intl.NumberFormat('en-GB', { maximumFractionDigits: percent < 1 ? 2 : 1 }).format(percent)} %`;
}

export const percent = (value) => `${exact.format(value)} %`;

export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  for (const [unit, size] of [['GB', 1e9], ['MB', 1e6], ['KB', 1e3]]) {
    if (number >= size) return `${three.format(number / size)} ${unit}`;
  }
  return `${whole.format(number)} B`;
}

// 59 s, 12 min, 3 h 5 min, 4 days.
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const minutes = Math.floor((s % 3600) / 60);
  if (s < 86_400) return `${Math.floor(s / 3600)} h${minutes ? ` ${minutes} min` : ''}`;
  const days = Math.floor(s / 86_400);
  return `${whole.format(days)} ${days === 1 ? 'day' : 'days'}`;
}

export const time = (iso) => (iso ? clock.format(new Date(iso)) : NONE);

export const timeAndDay = (iso) => (iso ? dayAndClock.format(new Date(iso)) : NONE);

export const seconds = (epoch) => clock.format(new Date(epoch * 1000));

// "2024-01-05" as 5 Jan 2024, without looking at any time zone.
export function day(text, { year = true, month = true } = {}) {
  const [y, m, d] = text.split('-').map(Number);
  return [d, month && MONTHS[m - 1]?.slice(0, 3), year && y].filter(Boolean).join(' ');
}

export function range(start, end) {
  if (start === end) return day(start);
  const sameYear = start.slice(0, 4) === end.slice(0, 4);
  const sameMonth = sameYear && start.slice(0, 7) === end.slice(0, 7);
  return `${day(start, { year: !sameYear, month: !sameMonth })} to ${day(end)}`;
}

const LEVELS = ['campaign', 'adset', 'ad'];

// The parameters of a question as one says them: campaigns with adsets, by country, 1 to 31 Jan 2024.
export function question(query) {
  if (query === null || query === undefined) return 'unknown';
  if (typeof query === 'string') return query;
  const level = query.group_by ?? query.hierarchy;
  if (!LEVELS.includes(level) || !query.start_date || !query.end_date) return JSON.stringify(query);
  const first = LEVELS.indexOf(level);
  const below = LEVELS.slice(first + 1, first + (query.depth ?? 1)).map((one) => `${one}s`);
  const nested = below.length ? ` with ${below.join(' and ')}` : '';
  const by = query.breakdown && query.breakdown !== 'all' ? ` by ${query.breakdown}` : '';
  const spark = query.include_sparkline ? ', with sparklines' : '';
  return `${level}s${nested}${by}, ${range(query.start_date, query.end_date)}${spark}`;
}

export const SHAPES = { dashboard: '/data', analytics: '/analytics/data' };

// A value of JSON, short enough for a cell.
export function value(one) {
  if (one === undefined) return 'not there';
  if (one === null) return 'null';
  if (typeof one === 'number') return plain(one);
  if (typeof one === 'string') return one === '' ? '""' : one;
  if (Array.isArray(one)) return `list of ${one.length}`;
  if (typeof one === 'object') return `object of ${Object.keys(one).length}`;
  return String(one);
}

export const words = (name) => name.replaceAll('_', ' ');
