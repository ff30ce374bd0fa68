// What the two sides disagree about, field by field, and the samples of it.

import { byId, fact, fill, h, moment, table, whenChanged } from './dom.js';
import { count, question, share, timeAndDay, words } from './format.js';
import { openSample } from './sample.js';

const TOTALS = {
  compared: 'answers of both sides held together',
  matched: 'no difference',
  ignored: 'differ in nothing that decides',
  mismatched: 'differ in what decides',
  discarded: 'the pipeline wrote meanwhile',
  dropped: 'the queue was full',
  errors: 'a side had no answer',
};
const SHOWN_FIELDS = 50;

export const drawDiffs = whenChanged((diffs) => {
  const { totals = {}, fields = [], samples = [] } = diffs;
  fill(byId('diff-totals'), ...Object.entries(TOTALS).map(([name, means]) => fact(name, h('span', { data: { total: name } }, count(totals[name])), means)));
  if (!totals.compared) {
    const lost = (totals.errors ?? 0) + (totals.discarded ?? 0) + (totals.dropped ?? 0);
    fill(byId('diff-fields'), h('p', { class: 'empty' }, lost
      ? 'Nothing could be compared so far: every sample was lost, for the reasons above.'
      : 'Nothing was compared yet: set a shadow rate above 0, and let callers ask /analytics/data. Both sides are needed.'));
    fill(byId('diff-samples'));
    return;
  }
  fill(byId('diff-fields'), ...(fields.length ? [drawFields(fields)] : [h('p', { class: 'empty' }, `No difference in ${count(totals.compared)} comparisons.`)]));
  fill(byId('diff-samples'), ...drawSamples(samples));
});

function drawFields(fields) {
  const most = Math.max(...fields.flatMap((one) => [one.rate, one.noise_rate])) || 1;
  const columns = ['field', 'level', 'kind', { text: 'results', class: 'number' }, '', { text: 'rate', class: 'number' }, { text: 'legacy’s own noise', class: 'number' },
    { text: 'excess at least', class: 'number' }, { text: 'largest error', class: 'number' }];
  const rows = fields.slice(0, SHOWN_FIELDS).map((one) => [
    { head: h('span', {}, one.field, one.decided ? h('span', { class: 'tag' }, 'decides') : null) },
    one.level || 'top',
    words(one.kind),
    count(one.count),
    h('span', { class: 'bars', 'aria-hidden': 'true' },
      h('span', { class: `sparkbar${one.decided ? ' bad' : ''}`, vars: { '--share': `${(100 * one.rate) / most}%` } }),
      h('span', { class: 'sparkbar noise', vars: { '--share': `${(100 * one.noise_rate) / most}%` } })),
    share(one.rate),
    share(one.noise_rate),
    one.excess_rate_lower > 0 ? h('b', {}, share(one.excess_rate_lower)) : 'may be noise',
    share(one.max_relative_error),
  ]);
  const more = fields.length > SHOWN_FIELDS ? h('p', { class: 'note' }, `${count(fields.length - SHOWN_FIELDS)} more kinds of differences: dashboard-proxy diffs lists them.`) : null;
  return h('div', {}, table('Differences by field', columns, rows), more,
    h('p', { class: 'note' }, 'Upper bar: the share of all results with this difference. Lower bar: how often the legacy differs from itself.'));
}

function drawSamples(samples) {
  if (!samples.length) return [h('p', { class: 'empty' }, 'No sample is kept.')];
  const columns = ['question', 'outcome', { text: 'differences', class: 'number' }, 'control', 'when', { text: '', class: 'number' }];
  return [h('h3', {}, 'Samples, the newest first'), table('Samples', columns, samples.map((one) => [
    { head: question(one.query) }, outcome(one.outcome), count(one.differences), one.control_side, moment(one.at, timeAndDay(one.at)),
    h('button', { type: 'button', data: { key: `sample ${one.id}`, sample: one.id }, 'aria-label': `Open the sample ${question(one.query)}, ${timeAndDay(one.at)}`, on: { click: () => openSample(one.id) } }, 'Open'),
  ]))];
}

const outcome = (word) => h('span', { class: `outcome ${word}` }, word);
