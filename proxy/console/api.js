// Calls to /admin. The token lives in this tab's sessionStorage and in one header, nowhere else.

const KEPT = 'dashboard-proxy token';
let token = sessionStorage.getItem(KEPT) ?? '';
let refused = () => {};

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const hasToken = () => token !== '';

export function keepToken(text) {
  token = text;
  sessionStorage.setItem(KEPT, text);
}

export function forgetToken() {
  token = '';
  sessionStorage.removeItem(KEPT);
}

// `act` is called when the API wants a token, or another one.
export function onRefused(act) {
  refused = act;
}

export function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// The JSON of the answer. ApiError with the API's own words, in a sentence an operator can use.
export async function call(method, path, body, signal) {
  let response;
  try {
    response = await fetch(`/admin${path}`, {
      method,
      headers: { ...headers(), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      signal,
    });
  } catch {
    throw new ApiError(0, 'The proxy cannot be reached. Nothing is known of what became of this.');
  }
  if (response.status === 401) refused();
  if (!response.ok) throw await errorOf(response);
  const told = await response.json().catch(() => null);
  if (told === null) throw new ApiError(0, 'The answer of the proxy broke off. Nothing is known of what became of this.');
  return told;
}

export async function errorOf(response) {
  const told = await response.json().catch(() => null);
  return new ApiError(response.status, said(response.status, told?.error));
}

export const get = (path, signal) => call('GET', path, undefined, signal);

function said(status, error) {
  if (status === 401) return 'The token is missing or wrong.';
  const before = {
    400: 'This was not understood, and nothing was changed',
    403: 'The proxy refuses to answer here',
    404: 'It is not there',
    409: 'Not possible now, and nothing was changed',
    503: 'The proxy cannot do this now',
  }[status] ?? `The proxy answered with an error (${status})`;
  return error ? `${before}: ${error}.` : `${before}.`;
}
