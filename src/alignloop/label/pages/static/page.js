// What every page has: language, light or dark, and forms that are sent to the JSON API.

import { call, Refusal } from "./api.js";
import { say } from "./words.js";

const YEAR = 31_536_000;

/** Remember a choice of appearance; it says nothing about anybody, so that a cookie will do. */
function prefer(name, value) {
  document.cookie = `alignloop_${name}=${value}; path=/; max-age=${YEAR}; samesite=lax`;
}

for (const button of document.querySelectorAll("[data-locale]")) {
  button.addEventListener("click", async () => {
    prefer("locale", button.dataset.locale);
    if (document.body.dataset.user) await call("PATCH", "/api/v1/me", { locale: button.dataset.locale }).catch(() => {});
    location.reload();
  });
}

document.querySelector("[data-theme-next]")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  prefer("theme", root.dataset.theme);
});

// Every text as it was written: the style sheet then shows all marks, and sources in place of formulas.
for (const button of document.querySelectorAll("[data-toggle]")) {
  button.addEventListener("click", (event) => {
    const on = document.body.classList.toggle(button.dataset.toggle);
    button.setAttribute("aria-pressed", on);
    if (event.detail > 0) button.blur(); // so that Enter submits
  });
}

/** The fields of a form as JSON: "a.b" nests, data-as says what is no text, a list gathers checks.
 *  A button's value is JSON too, which joins them. */
function gather(form) {
  const found = {};
  for (const field of form.elements) {
    if (!field.name || field.tagName === "BUTTON" || field.disabled || (field.type === "radio" && !field.checked)) continue;
    const path = field.name.split(".");
    const last = path.pop();
    const place = path.reduce((inner, part) => (inner[part] ??= {}), found);
    if (field.dataset.as === "list") (place[last] ??= []).push(...(field.checked ? [field.value] : []));
    else if (field.type === "checkbox") place[last] = field.checked;
    else if (field.dataset.as === "number") place[last] = Number(field.value);
    else if (field.dataset.as === "percent") place[last] = Number(field.value) / 100;
    else if (field.value !== "" || field.dataset.as !== "optional") place[last] = field.value;
  }
  return found;
}

/** Show what the server says below the form; a secret is shown to be copied, this once. */
function answer(form, kind, words, secret) {
  const place = form.querySelector(".answer") ?? form.appendChild(Object.assign(document.createElement("p"), { className: "answer", role: "alert" }));
  place.className = `answer whole message ${kind}`;
  place.replaceChildren(words);
  if (secret) place.append(Object.assign(document.createElement("code"), { className: "secret", textContent: secret }));
}

async function send(form, submitter) {
  const [method, path] = form.dataset.send.split(" ");
  const twin = form.querySelector("[data-same]");
  if (twin && twin.value !== form.elements[twin.dataset.same].value) return answer(form, "bad", say("not_same"));
  const file = form.querySelector('input[type="file"]')?.files[0];
  const body = file ?? { ...gather(form), ...JSON.parse(submitter?.value || "{}") };
  const given = await call(method, file ? withFields(path, form) : path, method === "DELETE" ? undefined : body);
  if (form.dataset.show) {
    form.reset();
    return answer(form, "good", form.dataset.words, given[form.dataset.show]);
  }
  if (form.dataset.words) return answer(form, given.num_refused ? "warn" : "good", summary(form, given));
  if (form.dataset.then && form.dataset.then !== "reload") location.assign(form.dataset.then);
  else location.reload();
}

/** An upload's body is the file itself; the other fields go into the address. */
function withFields(path, form) {
  return `${path}?${new URLSearchParams(gather({ elements: [...form.elements].filter((field) => field.type !== "file") }))}`;
}

function summary(form, given) {
  const refused = (given.refused ?? []).join("\n");
  return form.dataset.words.replace(/\{(\w+)\}/g, (_, name) => given[name]) + (refused && `\n${refused}`);
}

/** A form may have words of its own for a status; else the server's are shown, after ours. */
function problemWords(form, error) {
  if (!(error instanceof Refusal)) return say("no_server");
  const own = form.dataset[error.status] ?? (error.status === 401 ? say("session") : null);
  return own ?? [say("refused"), error.message].filter(Boolean).join(" ");
}

for (const form of document.querySelectorAll("form[data-send]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
    const buttons = [...form.querySelectorAll("button")];
    for (const button of buttons) button.disabled = true;
    try {
      await send(form, event.submitter);
    } catch (error) {
      answer(form, "bad", problemWords(form, error));
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
}
