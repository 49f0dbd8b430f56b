// Speaking with the server: JSON there and back, with the session's token against forgery.

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
const TIMEOUT_MS = 20_000;

/** The server answered, and said no: `status` is HTTP's, `body` its {detail, fix, ...}. */
export class Refusal extends Error {
  constructor(status, body) {
    super([body.detail, body.fix].filter(Boolean).join(" "));
    this.status = status;
    this.body = body;
  }
  /** The server is unwell or busy: asking again later may help. */
  get passes() {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

/** Ask the API; gives its JSON, or null where there is none. Throws `Refusal`, or a network's error. */
export async function call(method, path, body, options = {}) {
  const isForm = body instanceof FormData || body instanceof Blob;
  // In the page's language, which need not be the browser's.
  const headers = { "X-CSRF-Token": csrf, Accept: "application/json", "Accept-Language": document.documentElement.lang };
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  if (body instanceof Blob) headers["Content-Type"] = "application/x-ndjson";
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined || isForm ? body : JSON.stringify(body),
    credentials: "same-origin",
    cache: "no-store",
    signal: isForm ? undefined : AbortSignal.timeout(TIMEOUT_MS),
    ...options,
  });
  if (!response.ok) throw new Refusal(response.status, await problem(response));
  return response.status === 204 ? null : response.json();
}

/** A piece of a page, rendered by the server. */
export async function fragment(path) {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  // Who is not signed in any more is led to the login page, which is no piece of this one.
  if (!response.ok || response.redirected) throw new Refusal(response.redirected ? 401 : response.status, {});
  return response.text();
}

/** What the server says is wrong; a list of wrong fields becomes one line. */
async function problem(response) {
  const body = await response.json().catch(() => ({}));
  if (Array.isArray(body.detail)) {
    body.detail = body.detail.map((one) => `${one.loc?.at(-1) ?? ""}: ${one.msg}`).join("; ");
  }
  return body;
}
