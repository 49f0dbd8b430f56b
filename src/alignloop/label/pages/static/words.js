// The script's texts, in the page's language; they come with the page.

const texts = JSON.parse(document.body.dataset.texts);

/** The text of `key` with its {names} filled in; `n` chooses between one and many. */
export function say(key, values = {}) {
  const entry = texts[key];
  const form = typeof entry === "string" ? entry : (values.n === 1 && entry.one) || entry.other;
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Tell those who do not see the screen. */
export function announce(words) {
  document.querySelector("#toast").textContent = words;
}
