// Elements. All that comes from outside is put in as text, never as markup.

// props: `class`, `data`, `vars` (custom properties for the style sheet), `on`, else attributes.
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name === 'on') for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === 'vars') for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...texts(children));
  return element;
}

// In place of what `parent` holds. The focus stays on the element of the same `data-key`.
export function fill(parent, ...children) {
  const focused = document.activeElement;
  const key = parent.contains(focused) ? focused.dataset.key : undefined;
  parent.replaceChildren(...texts(children));
  if (key === undefined) return;
  const again = [...parent.querySelectorAll('[data-key]')].find((one) => one.dataset.key === key);
  again?.focus({ preventScroll: true });
}

// Calls `draw` only when what it is given has changed: nothing moves under a reader for nothing.
export function whenChanged(draw) {
  let last;
  return (...given) => {
    const now = JSON.stringify(given);
    if (now === last) return;
    last = now;
    draw(...given);
  };
}

export const byId = (id) => document.getElementById(id);

export function fact(name, value, note) {
  return h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, value, note && h('span', { class: 'note' }, note)));
}

// A word with a sign before it: the colour only repeats what they say.
const SIGNS = { good: '✓', warn: '!', bad: '✕', off: '–', busy: '…' };

export function badge(kind, text, props = {}) {
  return h('span', { class: `badge ${kind}`, ...props }, h('span', { 'aria-hidden': 'true' }, SIGNS[kind]), text);
}

export function moment(iso, text) {
  return h('time', { datetime: iso, title: iso }, text);
}

// `rows` of cells. A cell is text, a node, or [props, ...children] for a <td> of its own.
// One per row may be {head: …}: it names the row.
export function table(caption, columns, rows, props = {}) {
  const head = columns.map((one) => h('th', { scope: 'col', class: one.class }, one.text ?? one));
  const body = rows.map((cells) => h('tr', {}, ...cells.map((cell, at) => tableCell(cell, columns[at]))));
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption, data: { key: `scroll ${caption}` } },
    h('table', props, h('caption', { class: 'hidden' }, caption), h('thead', {}, h('tr', {}, ...head)), h('tbody', {}, ...body)),
  );
}

function tableCell(cell, column) {
  const props = { class: column?.class, data: { label: column?.text ?? column } };
  if (cell !== null && typeof cell === 'object' && 'head' in cell) return h('th', { scope: 'row', ...props }, cell.head);
  return h('td', props, cell);
}

const texts = (children) => children.flat().filter((one) => one !== null && one !== undefined && one !== false);
