// A judgement on its way. It is kept in the browser until the server has it, and sent again with
// the same key: however often the network drops, it counts once.

import { call, Refusal } from "./api.js";

const LONGEST_WAIT_MS = 15_000;

/** Storage that may be full or forbidden; then only the open page remembers. */
export const memory = {
  get(key) {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      /* The page goes on without. */
    }
  },
};

/** The names below `prefix` under which something is kept. */
function kept(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

/** A new idempotency key; randomUUID is missing where the page is not served over TLS. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  /** `onWait(reason)` is told "offline" or "busy" before each wait, and null once it is through. */
  constructor(user, onWait) {
    // One place for each assignment: another tab may be waiting with a judgement of its own.
    this.places = `alignloop:outbox:${user}:`;
    this.onWait = onWait;
    this.wake = () => {};
    addEventListener("online", () => this.wake());
  }

  /** What an earlier page could not deliver: {assignment, body}, or null. */
  get waiting() {
    const mine = kept(this.places).find((key) => /^\d+$/.test(key.slice(this.places.length)));
    return mine ? memory.get(mine) : null;
  }

  /** Keep, send, and send again. Throws the `Refusal` where the server does not want it. */
  async deliver(assignment, body) {
    memory.set(this.places + assignment, { assignment, body });
    for (let wait = 1000; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      try {
        const given = await call("POST", `/api/v1/assignments/${assignment}/judgement`, body);
        this.forget(assignment);
        return given;
      } catch (error) {
        if (error instanceof Refusal && !error.passes) {
          if (error.status !== 401) this.forget(assignment); // after signing in again it is sent once more
          throw error;
        }
        this.onWait(error instanceof Refusal ? "busy" : "offline");
        await this.pause(wait);
      }
    }
  }

  /** The judgement is delivered, or will never be. */
  forget(assignment) {
    memory.set(this.places + assignment, null);
    this.onWait(null);
  }

  pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
