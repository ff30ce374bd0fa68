// Warm-up jobs, and a button that begins one.

import { call } from './api.js';
import { action, choice, confirm } from './dialog.js';
import { badge, byId, fill, h, moment, table, whenChanged } from './dom.js';
import { count, duration, timeAndDay, time } from './format.js';

const STATES = { queued: 'off', running: 'busy', done: 'good', failed: 'bad', cancelled: 'warn' };
const ABOUT = {
  start: 'on start', run: 'after a run of the pipeline', usual: 'the usual questions',
  popular: 'the popular questions', all: 'popular and usual questions', queries: 'given questions',
};

export const drawJobs = whenChanged((jobs) => {
  if (!jobs.length) {
    fill(byId('jobs-list'), h('p', { class: 'empty' }, 'No job has run since this process started.'));
    return;
  }
  const columns = ['what', 'state', 'progress', { text: 'errors', class: 'number' }, 'began', 'took', 'note'];
  fill(byId('jobs-list'), table('Warm-up jobs', columns, jobs.map((one) => [
    { head: h('span', { id: `job-${one.id}` }, ABOUT[one.about] ?? `${one.kind} ${one.about}`,
      one.worker === undefined ? null : h('span', { class: 'note' }, ` worker ${one.worker}`)) },
    badge(STATES[one.state] ?? 'off', one.state),
    progress(one),
    count(one.errors),
    one.started_at ? moment(one.started_at, timeAndDay(one.started_at)) : 'not yet',
    one.finished_at && one.started_at ? duration((Date.parse(one.finished_at) - Date.parse(one.started_at)) / 1000) : one.finished_at ? time(one.finished_at) : '–',
    one.note,
  ])));
});

function progress({ id, done, total }) {
  return h('span', { class: 'progress', data: { job: id } },
    h('progress', { max: Math.max(total, 1), value: String(done), 'aria-label': `${count(done)} of ${count(total)} questions` }),
    h('span', {}, `${count(done)} of ${count(total)}`));
}

export function drawJobButtons() {
  fill(byId('jobs-buttons'), action('Warm up…', 'warm', () => {
    const wanted = choice('queries', 'Which questions', [['all', 'popular and usual'], ['popular', 'popular: asked lately'], ['usual', 'usual: what the dashboard asks']]);
    confirm({
      title: 'Warm up the cache?',
      text: 'Questions that are not held fresh are computed, one at a time, each after the callers who wait just then.',
      verb: 'Warm up',
      fields: [wanted],
      act: async ({ queries, cause }) => {
        const { job_id: id, is_complete: isComplete } = await call('POST', '/warm', { queries, ...cause });
        return `${isComplete === false ? 'Not every worker could be asked. ' : ''}The warm-up is queued as ${id}.`;
      },
    });
  }));
}
