// What is held, question by question, and letting go of it.

import { call } from './api.js';
import { action, announce, confirm } from './dialog.js';
import { badge, byId, fill, h, table } from './dom.js';
import { SHAPES, bytes, count, duration, question, range } from './format.js';

let entries = [];
let searched = '';
let most = 15;

export function drawCache(found) {
  entries = found;
  drawEntries();
}

function drawEntries() {
  const told = entries.map((one) => [one, question(one.query)]);
  const shown = told.filter(([one, text]) => `${text} ${one.tier} ${one.shape ?? ''}`.toLowerCase().includes(searched));
  byId('cache-count').textContent = entries.length ? `${count(shown.length)} of the ${count(entries.length)} used last` : '';
  const rest = shown.length - most;
  if (!shown.length) {
    fill(byId('cache-list'), h('p', { class: 'empty' }, entries.length ? 'No question has these words.' : 'Nothing is held: nobody has asked yet, and no warm-up has run.'));
    return;
  }
  const columns = ['question', 'fresh', { text: 'age', class: 'number' }, { text: 'size', class: 'number' }, { text: 'hits', class: 'number' }, 'source', { text: '', class: 'number' }];
  fill(byId('cache-list'), table('Questions that are held', columns, shown.slice(0, most).map(([one, text]) => [
    { head: h('span', {}, text, one.shape ? h('span', { class: 'note' }, SHAPES[one.shape]) : h('span', { class: 'note' }, 'legacy route')) },
    one.is_fresh === null ? badge('off', 'unknown') : one.is_fresh ? badge('good', 'fresh') : badge('warn', 'not fresh'),
    duration(one.age_s), bytes(one.bytes), count(one.hits), one.tier,
    one.shape ? purgeOne(one, text) : h('span', { class: 'note' }, 'by range'),
  ])), rest > 0 ? h('button', { type: 'button', data: { key: 'cache-more' }, on: { click: () => { most += 50; drawEntries(); } } }, `Show ${Math.min(50, rest)} more`) : null);
}

const purgeOne = (one, text) => action('Purge…', `purge ${one.key}`, () => confirm({
  title: 'Purge this question?',
  text: `${text}. It is computed anew when it is asked next.`,
  verb: 'Purge it',
  act: ({ cause }) => purge({ query: { ...one.query, shape: one.shape } }, cause),
}), { props: { 'aria-label': `Purge ${text}` } });

async function purge(what, cause) {
  const told = await call('POST', '/purge', { ...what, ...cause });
  const rest = told.is_complete ? '' : ' Redis, or one of several workers, could not be asked: what it holds is still there.';
  return `${count(told.purged)} ${told.purged === 1 ? 'entry is' : 'entries are'} purged.${rest}`;
}

export function drawCacheTools() {
  byId('cache-search').addEventListener('input', (event) => {
    searched = event.currentTarget.value.trim().toLowerCase();
    drawEntries();
  });
  const [start, end] = [byId('purge-start'), byId('purge-end')];
  fill(byId('cache-buttons'),
    action('Purge these dates…', 'purge-range', () => {
      if (!start.value || !end.value) {
        announce('Give both dates first.', 'warn');
        (start.value ? end : start).focus();
        return;
      }
      confirm({
        title: 'Purge these dates?',
        text: `Everything computed from ${range(start.value, end.value)}, and all kept answers of legacy routes.`,
        verb: 'Purge them',
        isDangerous: true,
        act: ({ cause }) => purge({ start_date: start.value, end_date: end.value }, cause),
      });
    }),
    action('Purge all…', 'purge-all', () => confirm({
      title: 'Purge everything?',
      text: 'Memory and Redis are emptied. Every question is computed anew when it is asked next.',
      verb: 'Purge all',
      isDangerous: true,
      act: ({ cause }) => purge({ all: true }, cause),
    }), { isDangerous: true }));
}
