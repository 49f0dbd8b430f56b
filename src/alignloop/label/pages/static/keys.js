// The keyboard: which key asks for which action. What an action does is label.js's business.

const LETTERS = { t: "tie", n: "both_bad" };
const ACTIONS = { d: "difference", e: "earlier", g: "guideline", c: "comment", u: "undo", s: "skip", w: "written", "?": "help", r: "rate_next" };
const STRONGEST_KEY = 9; // 6 7 8 9 are the four strengths, the strongest last
const SIGNS = ["?", "=", "+"];

/**
 * What a press means on any keyboard: "a" to "z", "0" to "9", "flag 1" (Shift and a number), "?",
 * "=", "+", or the key's name ("Enter"). The one rule: what is typed counts, and where that is no
 * Latin letter and no digit, the key's place does.
 */
export function meaning({ key, code, shiftKey }) {
  const typed = key.length === 1 ? key.normalize("NFKC") : key;
  if (/^\d$/.test(typed)) return typed; // on a French keyboard with Shift
  if (code.startsWith("Numpad") && key.length > 1 && key !== "Enter") return ""; // NumLock is off: no digit, no arrow
  const digit = /^Digit(\d)$/.exec(code)?.[1];
  if (digit && !shiftKey) return digit; // on a French keyboard it types a letter or a sign
  if (SIGNS.includes(typed)) return typed;
  if (digit) return `flag ${digit}`;
  if (/^[a-z]$/i.test(typed)) return typed.toLowerCase(); // as printed on the key: Dvorak, AZERTY, QWERTZ
  const isOtherScript = key === "Process" || (/^\p{L}/u.test(typed) && !/\p{Script=Latin}/u.test(typed));
  if (isOtherScript && code.startsWith("Key")) return code.at(-1).toLowerCase();
  return key;
}

/** `state()` gives {task, draft, dialog}; `act(name, value)` does it and says whether it applied. */
export function bindKeys(state, act) {
  let isFlagging = false; // H was pressed: the next number flags
  addEventListener("keydown", (event) => {
    const { task, draft, dialog } = state();
    const target = event.target;
    if (event.isComposing || event.altKey) return;
    if (target.matches("textarea")) return inComment(event, act);
    if (event.ctrlKey || event.metaKey || ["Shift", "CapsLock"].includes(event.key)) return;
    const key = meaning(event);
    const flags = isFlagging && /^\d$/.test(key) ? `flag ${key}` : key;
    isFlagging = !dialog && task && key === "h" && !isFlagging;
    const wish = dialog ? inDialog(key, dialog) : task ? onTask(event, flags, task, draft) : onNothing(event, key);
    if (!wish) return;
    event.preventDefault();
    if (!event.repeat || wish[0] === "strength") act(...wish);
  });
}

function inComment(event, act) {
  if (event.key === "Escape") event.target.blur();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) act("submit");
  else return;
  event.preventDefault();
}

/** Escape closes by itself; a number presses the button that shows it. */
function inDialog(key, dialog) {
  if (dialog.id === "help" && key === "?") return ["close"];
  if (dialog.id === "contradiction" && key === "k") return ["confirm"];
  const reason = dialog.querySelectorAll('[data-act="skip_reason"]')[Number(key) - 1];
  return reason && ["skip_reason", reason.dataset.value];
}

function onNothing(event, key) {
  if (event.target.matches("button, a")) return null;
  return { Enter: ["again"], u: ["undo"], w: ["written"], "?": ["help"] }[key];
}

function onTask(event, key, task, draft) {
  const flagged = /^flag (\d)$/.exec(key);
  if (flagged) return task.answers[flagged[1] - 1] && ["harmful", task.answers[flagged[1] - 1].id];
  if (key === "h") return ["harm_which"];
  const digit = /^\d$/.test(key) ? Number(key) : NaN;
  const nth = task.answers[digit - 1];
  const card = event.target.closest?.(".rating")?.closest(".answer");
  if (card && digit >= 0) return ["rate", { id: card.dataset.id, value: digit || 10 }];
  if (card && key.startsWith("Arrow")) return null; // radio buttons have arrows of their own
  // Right after Escape the focus may still be on a button of the dialog that has closed.
  const pressable = event.target.matches("button, a, summary") && !event.target.closest("dialog");
  if (key === "Enter") return pressable ? null : ["submit"];
  if (key === "Escape") return ["leave"];
  if (ACTIONS[key]) return [ACTIONS[key]];
  return task.kind === "comparison" ? onPair(key, digit, task, draft) : task.kind === "ranking" ? onRanking(key, nth) : null;
}

function onPair(key, digit, task, draft) {
  const [first, second] = task.answers;
  if (key === "a" || digit === 1 || key === "ArrowLeft") return ["choose", first.id];
  if (key === "b" || digit === 2 || key === "ArrowRight") return ["choose", second.id];
  if (LETTERS[key]) return ["verdict", LETTERS[key]];
  if (!task.strength || draft.verdict !== "choice") return null; // the arrows scroll
  if (digit > STRONGEST_KEY - 4) return ["strength", digit - STRONGEST_KEY + 3];
  if (key === "ArrowUp") return ["strength", Math.min(3, (draft.strength ?? 1) + 1)];
  if (key === "ArrowDown") return ["strength", Math.max(0, (draft.strength ?? 2) - 1)];
  return null;
}

function onRanking(key, nth) {
  if (nth) return ["place", nth.id];
  if (key === "=" || key === "+") return ["tie_last"];
  if (key === "Backspace") return ["unplace_last"];
  return null;
}
