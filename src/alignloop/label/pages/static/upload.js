// An upload: bytes as they leave, rows as they are read and filed, a report, and a way to stop it.

import { call, Refusal } from "./api.js";
import { say } from "./words.js";

const LOOK_EVERY_MS = 500;

/** Send a file; `onBytes` gets the share sent. XMLHttpRequest, since fetch tells no upload progress. */
function sendFile(path, file, onBytes, stop) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "json";
    request.setRequestHeader("X-CSRF-Token", document.querySelector('meta[name="csrf"]').content);
    request.setRequestHeader("Accept-Language", document.documentElement.lang);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onBytes(event.loaded / event.total));
    request.addEventListener("load", () =>
      request.status < 300 ? resolve(request.response) : reject(new Refusal(request.status, request.response ?? {})),
    );
    request.addEventListener("error", () => reject(new TypeError("network")));
    request.addEventListener("abort", () => resolve(null));
    stop.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

class Upload {
  constructor(form) {
    this.form = form;
    this.bar = form.querySelector("progress");
    this.status = form.querySelector(".status");
    this.cancel = form.querySelector("[data-cancel]");
    this.stop = new AbortController();
    this.job = null;
    this.cancel.onclick = () => this.end();
  }

  own(name, values = {}) {
    return this.form.dataset[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
  }

  show(words, share) {
    this.status.textContent = words;
    if (share === undefined) this.bar.removeAttribute("value");
    else this.bar.value = share;
  }

  async end() {
    this.cancel.disabled = true;
    if (this.job) await call("DELETE", `${this.form.dataset.upload}/${this.job.id}`);
    else this.stop.abort();
  }

  async run() {
    const file = this.form.querySelector('input[type="file"]').files[0];
    if (file.size > Number(this.form.dataset.limit)) throw new Refusal(413, { detail: this.own("tooLarge") });
    const fields = new URLSearchParams({ name: file.name });
    for (const select of this.form.querySelectorAll("select")) fields.set(select.name, select.value);
    const sent = (share) => this.show(this.own("sending", { percent: Math.floor(100 * share) }), share);
    sent(0);
    this.job = await sendFile(`${this.form.dataset.upload}?${fields}`, file, sent, this.stop.signal);
    if (!this.job) return this.report({ state: "cancelled", result: { added: 0, duplicates: 0, num_refused: 0, refused: [] } });
    while (["reading", "filing"].includes(this.job.state)) {
      const { state, rows, num_rows } = this.job;
      this.show(this.own(state, { rows, num_rows }), state === "filing" ? rows / Math.max(1, num_rows) : undefined);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      this.job = await call("GET", `${this.form.dataset.upload}/${this.job.id}`);
    }
    this.report(this.job);
  }

  /** What was added and refused, line by line, in texts that only ever become text. */
  report(job) {
    const { result } = job;
    if (job.state === "failed") throw new Refusal(422, { detail: job.problem, fix: job.fix });
    const lines = [this.own("done", result)];
    if (job.state === "cancelled") lines.unshift(this.own("cancelled"));
    if (result.elsewhere) lines.push(this.own("elsewhere", result));
    if (result.judged) lines.push(this.own("judged", result));
    lines.push(...result.refused);
    if (result.num_refused > result.refused.length) lines.push(this.own("more", { more: result.num_refused - result.refused.length }));
    answer(this.form, result.num_refused || job.state === "cancelled" ? "warn" : "good", lines.join("\n"));
  }
}

function answer(form, kind, words) {
  const place = form.querySelector(".answer");
  place.className = `answer whole message ${kind}`;
  place.replaceChildren(words);
}

/** The table of batches as it is now: its numbers of items have changed. */
async function refreshTable() {
  const response = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const cell of document.querySelectorAll("[data-count]")) {
    const now = fresh.querySelector(`[data-count="${cell.dataset.count}"]`);
    if (now) cell.textContent = now.textContent;
  }
}

for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const upload = new Upload(form);
    const running = form.querySelector(".running");
    const start = form.querySelector("button.primary");
    start.disabled = true;
    running.hidden = upload.cancel.disabled = false;
    answer(form, "quiet", "");
    try {
      await upload.run();
    } catch (error) {
      answer(form, "bad", error instanceof Refusal ? [say("refused"), error.message].join(" ") : say("no_server"));
    } finally {
      start.disabled = false;
      running.hidden = true;
      await refreshTable().catch(() => {});
    }
  });
}
