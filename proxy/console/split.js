// The split, the rollout plan and the shadow: where they stand, and the buttons that move them.

import { call } from './api.js';
import { action, confirm, field } from './dialog.js';
import { badge, byId, fact, fill, h, moment, table, whenChanged } from './dom.js';
import { count, duration, ms, percent, share, timeAndDay, words } from './format.js';

const STATES = {
  idle: ['off', 'idle'], running: ['busy', 'running'], paused: ['warn', 'paused'],
  rolled_back: ['bad', 'rolled back'], complete: ['good', 'complete'],
};
const VERDICTS = { pass: ['good', 'pass'], fail: ['bad', 'fail'], insufficient: ['off', 'not enough evidence yet'] };

export const drawSplit = whenChanged((split, shadow) => {
  const since = split.changed_at
    ? ['since ', moment(split.changed_at, timeAndDay(split.changed_at)), split.author ? `, by ${split.author}` : '', split.reason ? `: ${split.reason}` : '']
    : ['as configured; nobody has changed it'];
  fill(byId('split-banner'), split.rolled_back ? rolledBack(split) : null);
  fill(byId('split-facts'),
    fact('on the optimized side', h('span', { class: 'big', data: { value: 'percent' } }, percent(split.percent)), h('span', {}, ...since)),
    fact('shadow', shadow ? share(shadow.rate) : '–', 'of these questions are put to the other side too'));
  fill(byId('split-meter'), meter(split.percent), h('p', { class: 'ends', 'aria-hidden': 'true' }, h('span', {}, 'optimized'), h('span', {}, 'legacy')));
  fill(byId('split-buttons'),
    action('Set percent…', 'set-percent', () => askPercent(split), { hint: split.rolled_back ? 'Lift the rollback first: while it stands the percent is 0.' : '' }),
    action('Set shadow rate…', 'set-shadow', () => askShadow(shadow)),
    action('Roll back…', 'rollback', askRollback, { isDangerous: true, hint: split.rolled_back ? 'It is rolled back already.' : '' }));
  fill(byId('split-history'), ...history('History of the split', split.history, 'Nobody has changed the split yet.'));
});

function rolledBack(split) {
  return h('div', { class: 'banner bad' }, badge('bad', 'rolled back'),
    h('p', {}, `By ${split.author || 'somebody'}${split.changed_at ? `, ${timeAndDay(split.changed_at)}` : ''}${split.reason ? `: ${split.reason}` : ''}. Every caller has the legacy’s answer, until somebody lifts this.`),
    action('Lift the rollback…', 'lift', () => confirm({
      title: 'Lift the rollback?',
      text: 'The percent is then 0, not what it was before, and the plan is idle until it is started. Find out first what was wrong: see Differences.',
      verb: 'Lift it',
      act: async ({ cause }) => {
        const told = await call('DELETE', '/rollback', cause);
        return `The rollback is lifted. ${percent(told.percent)} of the callers are on the optimized side.`;
      },
    })));
}

const meter = (value) => h('div', { class: 'meter', role: 'img', 'aria-label': `${percent(value)} optimized, ${percent(100 - value)} legacy`, vars: { '--share': `${value}%` } },
  h('span', { class: 'filled' }));

function askPercent(split) {
  const wanted = field('percent', 'Percent, 0 to 100', { type: 'number', min: 0, max: 100, step: 'any', required: true, value: String(split.percent) });
  confirm({
    title: 'Set the percent?',
    text: `${percent(split.percent)} of the callers have the optimized answers of /analytics/data now. A higher percent moves nobody back.`,
    verb: 'Set it',
    fields: [wanted],
    act: async ({ percent: text, cause }) => {
      const told = await call('POST', '/split', { percent: Number(text), ...cause });
      return `The split is now at ${percent(told.percent)}.${told.is_kept ? '' : ' It is not on the disk yet; that is tried again.'}`;
    },
  });
}

function askShadow(shadow) {
  const wanted = field('rate', 'Share of the questions, 0 to 1', { type: 'number', min: 0, max: 1, step: 'any', required: true, value: shadow ? String(shadow.rate) : '' });
  confirm({
    title: 'Set the shadow rate?',
    text: 'So many of the questions are also put to the other side and compared. Callers never wait for it. At 0 there is no evidence, and the rollout holds.',
    verb: 'Set it',
    fields: [wanted],
    act: async ({ rate, cause }) => {
      const told = await call('POST', '/shadow', { rate: Number(rate), ...cause });
      return `The shadow rate is now ${share(told.rate)}.`;
    },
  });
}

function askRollback() {
  confirm({
    title: 'Roll back?',
    text: 'All of /analytics/data goes to the legacy, in every process, from the next request on, until somebody lifts it.',
    verb: 'Roll back',
    isDangerous: true,
    act: async ({ cause }) => {
      const told = await call('POST', '/rollback', cause);
      return `Rolled back: ${percent(told.percent)} of the callers are on the optimized side.${told.is_kept ? '' : ' It is not on the disk yet; that is tried again.'}`;
    },
  });
}

const ACTIONS = {
  start: ['Start…', 'Start the rollout?', 'It begins with the first step of the plan.', ['idle']],
  pause: ['Pause…', 'Pause the rollout?', 'The percent stays where it is, and nothing is judged until it is resumed.', ['running', 'complete']],
  resume: ['Resume…', 'Resume the rollout?', 'The step begins anew, with new evidence.', ['paused']],
  promote: ['Promote…', 'Promote to the next step?', 'The next step of the plan is taken now, whatever the evidence says.', ['running', 'paused']],
  abort: ['Abort…', 'Abort the rollout?', 'The plan ends and the percent goes to 0.', ['running', 'paused', 'complete']],
};

export const drawRollout = whenChanged((rollout) => {
  const { state, steps = [], step, verdict, reason } = rollout;
  if (!steps.length) {
    fill(byId('rollout'), h('p', { class: 'empty' }, 'No rollout is configured: add a [rollout] table to the configuration file. Until then the percent is moved by hand and nothing rolls back by itself.'));
    return;
  }
  const isOn = state === 'running' || state === 'paused' || state === 'complete';
  const since = rollout.since ? `, for ${duration((Date.now() - Date.parse(rollout.since)) / 1000)}` : '';
  const place = isOn ? `Step ${step + 1} of ${steps.length}, ${percent(steps[step] ?? rollout.percent)}${since}. A step takes ${duration(rollout.interval_s)} at least.` : 'Not on any step.';
  fill(byId('rollout'),
    h('p', { class: 'line' }, badge(...(STATES[state] ?? ['warn', state])), h('span', {}, place)),
    h('ol', { class: 'steps', 'aria-label': 'Steps of the plan' }, ...steps.map((one, at) => stepItem(one, at, isOn ? step : -1, state))),
    h('p', { class: 'line' }, 'Verdict: ', badge(...(VERDICTS[verdict] ?? ['warn', verdict])), h('span', { data: { value: 'reason' } }, reason)),
    h('div', { class: 'buttons' }, ...Object.keys(ACTIONS).map((name) => rolloutButton(name, state))),
    (rollout.thresholds ?? []).length ? thresholds(rollout.thresholds) : null,
    ...history('History of the rollout', rollout.history, 'The rollout was never started.'));
});

function stepItem(one, at, current, state) {
  const isDone = at < current || state === 'complete';
  const isCurrent = at === current && state !== 'complete';
  const word = isCurrent ? 'now' : isDone ? 'done' : 'to come';
  return h('li', { class: isCurrent ? 'current' : isDone ? 'done' : '', 'aria-current': isCurrent ? 'step' : null },
    h('b', {}, percent(one)), h('span', {}, word));
}

function rolloutButton(name, state) {
  const [text, title, means, possible] = ACTIONS[name];
  const hint = possible.includes(state) ? '' : `Not possible: the rollout is ${words(state)}.`;
  return action(text, `rollout-${name}`, () => confirm({
    title,
    text: means,
    verb: text.replace('…', ''),
    isDangerous: name === 'abort',
    act: async ({ cause }) => {
      const told = await call('POST', '/rollout', { action: name, ...cause });
      return `The rollout is ${words(told.state)}, at ${percent(told.percent)}.`;
    },
  }), { hint, isDangerous: name === 'abort' });
}

function thresholds(findings) {
  const columns = ['threshold', { text: 'seen', class: 'number' }, { text: 'allowed', class: 'number' }, { text: 'samples', class: 'number' }, 'verdict', 'in words'];
  return table('What the evidence says of each threshold', columns, findings.map((one) => [
    { head: words(one.name.replace(/_ms$/, '')) },
    one.observed > one.allowed ? badge('warn', measured(one.name, one.observed)) : measured(one.name, one.observed),
    measured(one.name, one.allowed),
    one.needed ? `${count(one.samples)} of ${count(one.needed)}` : count(one.samples),
    badge(...(VERDICTS[one.verdict] ?? ['warn', one.verdict])),
    one.text,
  ]));
}

function measured(name, value) {
  if (name.endsWith('_ms')) return ms(value);
  return name.endsWith('_rate') ? share(value) : count(value);
}

function history(caption, changes = [], empty = '') {
  if (!changes?.length) return [h('p', { class: 'empty' }, empty)];
  const columns = ['when', 'who', 'what', { text: 'percent', class: 'number' }, '', 'why'];
  return [h('h3', {}, caption), table(caption, columns, changes.map((one) => [
    moment(one.at, timeAndDay(one.at)), one.author, { head: words(one.action) }, percent(one.percent),
    h('span', { class: 'sparkbar', 'aria-hidden': 'true', vars: { '--share': `${one.percent}%` } }), one.reason,
  ]))];
}
