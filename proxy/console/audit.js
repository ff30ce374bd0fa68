// Who changed what on this process, the newest first.

import { byId, fill, h, moment, table, whenChanged } from './dom.js';
import { timeAndDay } from './format.js';

export const drawAudit = whenChanged((entries) => {
  if (!entries.length) {
    fill(byId('audit-list'), h('p', { class: 'empty' }, 'Nobody has changed anything since this process started.'));
    return;
  }
  fill(byId('audit-list'), table('Audit', ['when', 'who', 'what', 'why', 'before', 'after'], entries.map((one) => [
    moment(one.at, timeAndDay(one.at)), one.author, { head: one.action }, one.reason, brief(one.before), brief(one.after),
  ])));
});

function brief(state) {
  if (state === null || state === undefined) return '–';
  if (typeof state !== 'object') return String(state);
  return Object.entries(state).filter(([, value]) => value !== null && value !== '').map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`).join(', ');
}
