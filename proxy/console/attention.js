// What is wrong, the worst first. Pure, but for `drawAttention`.

import { badge, byId, fill, h } from './dom.js';
import { SLOW_MS, recent } from './figures.js';
import { duration, ms, percent, share, timeAndDay } from './format.js';

const MANY_FAILED = 0.02;
const ENOUGH = 20;

export function problems({ overview, pipeline, jobs = [], history = [] }) {
  if (!overview) return [];
  const { split, rollout, sources = {}, freshness } = overview;
  const found = [];
  const add = (kind, text, where) => found.push({ kind, text, where });
  if (split?.rolled_back) {
    const why = split.reason ? `: ${split.reason}` : '';
    add('bad', `Rolled back by ${split.author || 'somebody'} (${timeAndDay(split.changed_at)})${why}. All of /analytics/data goes to the legacy.`, 'split');
  }
  if (rollout?.verdict === 'fail') add('bad', `The rollout fails: ${rollout.reason}`, 'split');
  if (sources.database === 'down') add('bad', 'The database cannot be read. Kept answers and the legacy are all there is.', 'health');
  if (sources.legacy === 'down') add('bad', 'The legacy cannot be reached: what is passed through to it fails.', 'health');
  if (sources.redis === 'down') add('warn', 'Redis cannot be reached. Nobody gets an error; memory and the tables answer.', 'health');
  if (freshness?.state === 'unknown') add('bad', 'It is not known how new the data are: answers are marked as unverified.', 'pipeline');
  if (freshness?.state === 'rebuilding') {
    const held = pipeline?.held?.length;
    add('warn', `A rebuild is held${held ? ` for ${held} ${held === 1 ? 'date' : 'dates'}` : ''}: rows that were there are missing, and the numbers from before are served.`, 'pipeline');
  }
  if (split && split.is_kept === false) add('warn', 'The last change of the split is in force but not on the disk yet. It is tried again.', 'split');
  const own = recent(history, 300, 'optimized');
  if (own.requests >= ENOUGH && own.p95 > SLOW_MS) add('warn', `Our own answers are slow: p95 is ${ms(own.p95)} over the last 5 minutes, above ${SLOW_MS} ms.`, 'traffic');
  const all = recent(history, 300).requests;
  const failed = recent(history, 300, 'none').requests;
  if (failed >= 3 && failed > all * MANY_FAILED) add('warn', `${share(failed / all)} of the requests of the last 5 minutes were refused or failed.`, 'traffic');
  // Of those that the panel shows: the overview may know others.
  if (jobs[0]?.state === 'failed') add('warn', `The last warm-up failed: ${jobs[0].note || 'no reason was noted'}`, `job-${jobs[0].id}`);
  return found.sort((a, b) => (a.kind === b.kind ? 0 : a.kind === 'bad' ? -1 : 1));
}

export function drawAttention(found, overview) {
  const list = found.map(({ kind, text, where }) =>
    h('li', { class: kind }, badge(kind, kind === 'bad' ? 'wrong' : 'look'), h('span', {}, text),
      h('a', { href: `#${where}`, data: { key: `attention ${where} ${kind}` } }, 'show')));
  if (!list.length) {
    const split = overview.split ? ` ${percent(overview.split.percent)} of the callers are on the optimized side.` : '';
    list.push(h('li', { class: 'good' }, badge('good', 'well'),
      h('span', {}, `Nothing needs attention. Up for ${duration(overview.uptime_s)}.${split}`)));
  }
  fill(byId('attention-list'), ...list);
}
