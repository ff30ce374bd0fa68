// The one question before anything is changed, and what came of it.

import { ApiError } from './api.js';
import { byId, h } from './dom.js';

const AUTHOR = 'dashboard-proxy author';

// Asks once, then calls `act({author, reason, ...values of fields})`, which returns what to say.
// An error stays in the dialog, with what was typed. Escape and Cancel do nothing.
export function confirm({ title, text, verb, fields = [], isDangerous = false, act }) {
  const opener = document.activeElement;
  const author = field('author', 'Who you are', { value: sessionStorage.getItem(AUTHOR) ?? '', autocomplete: 'name' });
  const reason = field('reason', 'Why', { placeholder: 'goes into the audit list' });
  const error = h('p', { class: 'error', role: 'alert' });
  const go = h('button', { type: 'submit', class: isDangerous ? 'danger' : 'primary' }, verb);
  const cancel = h('button', { type: 'button', on: { click: () => { if (!isBusy) dialog.close(); } } }, 'Cancel');
  const form = h('form', { method: 'dialog', on: { submit: submitted } },
    h('h2', { id: 'dialog-title' }, title), h('p', { id: 'dialog-text' }, text),
    ...fields.map((one) => one.label), reason.label, author.label, error,
    h('div', { class: 'buttons' }, cancel, go));
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title', 'aria-describedby': 'dialog-text' }, form);
  let isBusy = false;

  dialog.addEventListener('close', () => {
    dialog.remove();
    // What was redrawn meanwhile has taken the opener's place under the same key.
    const again = opener?.isConnected ? opener : sameKey(opener?.dataset?.key);
    (again ?? byId('main')).focus();
  });
  dialog.addEventListener('cancel', (event) => { if (isBusy) event.preventDefault(); });
  document.body.append(dialog);
  dialog.showModal();
  (fields[0]?.input ?? reason.input).focus();

  async function submitted(event) {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    for (const button of [go, cancel]) button.setAttribute('aria-disabled', 'true');
    error.textContent = '';
    sessionStorage.setItem(AUTHOR, author.input.value);
    try {
      const said = await act(asked());
      dialog.close();
      announce(said);
    } catch (failure) {
      error.textContent = failure instanceof ApiError ? failure.message : `The page failed: ${failure}`;
    } finally {
      isBusy = false;
      for (const button of [go, cancel]) button.removeAttribute('aria-disabled');
    }
  }

  function asked() {
    const given = Object.fromEntries(fields.map((one) => [one.name, one.input.value]));
    const cause = { author: author.input.value.trim(), reason: reason.input.value.trim() };
    // Left out where empty: the API then notes the caller's address.
    return { ...given, cause: Object.fromEntries(Object.entries(cause).filter(([, text]) => text)) };
  }
}

export function field(name, text, props = {}) {
  const input = h('input', { name, type: 'text', maxlength: 500, ...props });
  return { name, input, label: h('label', {}, text, input) };
}

export function choice(name, text, options) {
  const input = h('select', { name }, ...options.map(([value, shown]) => h('option', { value }, shown)));
  return { name, input, label: h('label', {}, text, input) };
}

// Said by screen readers, and seen until the next one or until it is closed.
export function announce(text, kind = 'good') {
  byId('said').className = `said ${kind}`;
  byId('said-text').textContent = text;
  byId('said-close').hidden = false;
}

// A button that changes something. What is not possible now says why in place of asking.
export function action(text, key, ask, { isDangerous = false, hint = '', props = {} } = {}) {
  const button = h('button', {
    type: 'button',
    class: isDangerous ? 'danger' : '',
    title: hint,
    data: { key },
    ...props,
    'aria-disabled': hint ? 'true' : null,
    on: { click: () => (hint ? announce(hint, 'warn') : ask()) },
  }, text);
  return button;
}

function sameKey(key) {
  return key === undefined ? null : [...document.querySelectorAll('[data-key]')].find((one) => one.dataset.key === key);
}
