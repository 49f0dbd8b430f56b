// The keyboard: which key asks for which action. What an action does is label.js's business.

const LETTERS = { t: "tie", n: "both_bad" };
const ACTIONS = { d: "difference", g: "guideline", c: "comment", u: "undo", s: "skip", "?": "help", "？": "help", r: "rate_next" };
const STRONGEST_KEY = 9; // 6 7 8 9 are the four strengths, the strongest last

/** `state()` gives {task, draft, dialog}; `act(name, value)` does it and says whether it applied. */
export function bindKeys(state, act) {
  addEventListener("keydown", (event) => {
    const { task, draft, dialog } = state();
    const target = event.target;
    if (event.isComposing || event.altKey) return;
    if (target.matches("textarea")) return inComment(event, act);
    if (event.ctrlKey || event.metaKey) return;
    const wish = dialog ? inDialog(event, dialog) : task ? onTask(event, task, draft) : onNothing(event);
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
function inDialog(event, dialog) {
  if (dialog.id === "help" && "?？".includes(event.key)) return ["close"];
  if (dialog.id === "contradiction" && event.key.toLowerCase() === "k") return ["confirm"];
  const reason = dialog.querySelectorAll('[data-act="skip_reason"]')[Number(event.key) - 1];
  return reason && ["skip_reason", reason.dataset.value];
}

function onNothing(event) {
  if (event.target.matches("button, a")) return null;
  return { Enter: ["again"], u: ["undo"], "?": ["help"] }[event.key];
}

function onTask(event, task, draft) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = event.code.startsWith("Digit") || event.code.startsWith("Numpad") ? Number(event.code.at(-1)) : NaN;
  const nth = task.answers[digit - 1];
  if (event.shiftKey && nth) return ["harmful", nth.id];
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
