// One sample side by side: rows of both answers aligned by their ids, differing cells marked.

import { ApiError, get } from './api.js';
import { byId, fill, h } from './dom.js';
import { count, question, share, timeAndDay, value, words } from './format.js';

const AT_ONCE = 300;
const IDS = ['id', 'breakdown_value', 'date', 'entity_id', 'type', 'name'];

export async function openSample(id) {
  const opener = document.activeElement;
  const close = () => dialog.close();
  const body = h('div', { class: 'sample' }, h('p', { role: 'status' }, 'Reading the sample…'));
  const dialog = h('dialog', { class: 'wide', 'aria-labelledby': 'sample-title' },
    h('div', { class: 'title' }, h('h2', { id: 'sample-title', tabindex: '-1' }, 'Sample'), h('button', { type: 'button', on: { click: close } }, 'Close')), body);
  dialog.addEventListener('close', () => {
    dialog.remove();
    const again = opener?.isConnected ? opener : byId('diff-samples').querySelector(`[data-sample="${CSS.escape(id)}"]`);
    (again ?? byId('main')).focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    draw(body, await get(`/diffs/${encodeURIComponent(id)}`));
  } catch (error) {
    fill(body, h('p', { class: 'error', role: 'alert' }, error instanceof ApiError ? error.message : `The page failed: ${error}`));
  }
}

function draw(body, sample) {
  const sides = sample.control_side === 'legacy' ? ['legacy', 'optimized'] : ['optimized', 'legacy'];
  const lines = compared(sample);
  const shown = {
    told: ['what the comparison counted', lines.filter((one) => one.mark && one.isTold)],
    differing: ['everything that differs', lines.filter((one) => one.mark)],
    all: ['everything', lines],
  };
  const which = h('select', {}, ...Object.entries(shown).map(([name, [text, some]]) => h('option', { value: name }, `${text} (${count(some.length)})`)));
  const place = h('div', {});
  const show = () => drawLines(place, shown[which.value][1], sides);
  which.addEventListener('change', show);
  fill(body,
    h('p', {}, h('b', {}, question(sample.query)), `, ${timeAndDay(sample.at)}: ${sample.outcome}. `, sample.note ? h('span', { class: 'error' }, `${sample.note}. `) : null),
    h('ul', { class: 'kinds' }, ...sample.differences.map(kindItem)),
    sample.control === null ? null : h('label', { class: 'check' }, 'Show', which),
    place);
  if (sample.control !== null) show();
}

function kindItem(one) {
  const apart = one.relative_error === null ? '' : `, ${share(one.relative_error)} apart at most`;
  return h('li', {}, h('code', {}, one.path || 'the whole answer'), ` ${words(one.kind)}, ${one.count} ${one.count === 1 ? 'time' : 'times'}${apart}: `,
    h('span', {}, value(one.control)), ' against ', h('span', {}, value(one.candidate)), one.is_deciding ? h('span', { class: 'tag' }, 'decides') : null);
}

function drawLines(place, lines, sides) {
  if (!lines.length) {
    fill(place, h('p', { class: 'empty' }, 'Nothing here: both sides are the same.'));
    return;
  }
  const body = h('tbody', {});
  const more = h('button', { type: 'button', on: { click: add } }, '');
  let shown = 0;
  let where = null;
  fill(place, h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Control and candidate side by side' },
    h('table', { class: 'sides' }, h('caption', { class: 'hidden' }, 'Control and candidate side by side'),
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'field'), h('th', { scope: 'col', class: 'number' }, `control (${sides[0]})`),
        h('th', { scope: 'col', class: 'number' }, `candidate (${sides[1]})`), h('th', { scope: 'col', class: 'number' }, 'apart'))), body)), more);
  add();

  function add() {
    for (const one of lines.slice(shown, shown + AT_ONCE)) {
      if (one.where !== where) body.append(h('tr', { class: 'group' }, h('th', { scope: 'rowgroup', colspan: 4 }, one.where)));
      where = one.where;
      body.append(lineRow(one));
    }
    shown = Math.min(shown + AT_ONCE, lines.length);
    more.textContent = `Show ${Math.min(AT_ONCE, lines.length - shown)} more of ${lines.length - shown}`;
    more.hidden = shown >= lines.length;
  }
}

function lineRow({ name, control, candidate, mark, isTold }) {
  const marked = mark ? `differs${isTold ? ' told' : ''}` : '';
  const cell = (one) => h('td', { class: `number ${marked}` }, mark ? h('mark', {}, value(one)) : value(one));
  return h('tr', { data: mark ? { differs: name } : {} }, h('th', { scope: 'row' }, name), cell(control), cell(candidate), h('td', { class: 'number' }, mark ? apart(control, candidate, isTold) : ''));
}

function apart(a, b, isTold) {
  if (typeof a !== 'number' || typeof b !== 'number') return isTold ? '✕ differs' : '≈ not counted';
  const most = Math.max(Math.abs(a), Math.abs(b));
  return `${isTold ? '✕' : '≈ not counted,'} ${share(most ? Math.abs(a - b) / most : 0)}`;
}

// Every value of both answers, row by row: {where, name, control, candidate, mark, isTold}.
// `mark`: they differ. `isTold`: the comparison counted it, it is beyond the tolerance.
export function compared({ control, candidate, differences }) {
  const told = new Set(differences.map((one) => one.path));
  const lines = [];
  objects(control, candidate, '', 'the answer itself');
  return lines;

  function objects(left, right, path, where) {
    const names = [...new Set([...Object.keys(left ?? {}), ...Object.keys(right ?? {})])];
    const later = [];
    for (const name of names) {
      const [a, b] = [left?.[name], right?.[name]];
      const at = path ? `${path}.${name}` : name;
      if (isRows(a) || isRows(b)) later.push([name, a, b, at]);
      else if ((isObject(a) && isObject(b ?? {})) || (isObject(b) && isObject(a ?? {}))) later.push([name, a, b, at]);
      else line(where, name, a, b, at);
    }
    for (const [name, a, b, at] of later) {
      if (isObject(a) || isObject(b)) objects(a, b, at, where === 'the answer itself' ? name : `${where} › ${name}`);
      else rows(a ?? [], b ?? [], at, where, name);
    }
  }

  function rows(left, right, path, where, list) {
    const key = IDS.find((id) => [left, right].every((side) => !side.length || side.some((row) => row?.[id] !== undefined)));
    const identity = (row, at) => (key !== undefined && row?.[key] !== undefined ? String(row[key]) : `#${at + 1}`);
    const others = new Map(right.map((row, at) => [identity(row, at), row]));
    const met = new Set();
    left.forEach((row, at) => {
      const own = identity(row, at);
      const other = others.get(own);
      if (met.has(own)) return;
      met.add(own);
      row && other ? objects(row, other, `${path}.*`, called(row, own, where, list)) : line(where, `${list}: ${label(row, own)}`, 'there', undefined, `${path}.*`);
    });
    for (const [own, row] of others) if (!met.has(own)) line(where, `${list}: ${label(row, own)}`, undefined, 'there', `${path}.*`);
  }

  function line(where, name, a, b, path) {
    if (a !== null && typeof a === 'object') a = JSON.stringify(a);
    if (b !== null && typeof b === 'object') b = JSON.stringify(b);
    lines.push({ where, name, control: a, candidate: b, mark: a !== b && !isSameId(name, a, b), isTold: told.has(path) });
  }
}

function called(row, own, where, list) {
  const before = where === 'the answer itself' ? '' : `${where} › `;
  const kind = typeof row.entity_type === 'string' ? row.entity_type : list;
  return `${before}${kind} ${label(row, own)}`;
}

const label = (row, own) => String(row?.name ?? row?.campaign_name ?? row?.breakdown_value ?? own);
const isObject = (one) => one !== null && typeof one === 'object' && !Array.isArray(one);
const isRows = (one) => Array.isArray(one) && one.length > 0 && one.every(isObject);
// 7 and "7" are one id.
const isSameId = (name, a, b) => (name === 'id' || name.endsWith('_id')) && String(a) === String(b);
