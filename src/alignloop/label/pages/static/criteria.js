// What a project asks for besides the choice: scales for each answer, flags of its own, a rationale.

import { say } from "./words.js";

/** The digit that a press types, on a French keyboard with Shift or without; NaN for other keys. */
export function digitOf({ key, code, shiftKey }) {
  const typed = key.normalize("NFKC");
  if (/^\d$/.test(typed)) return Number(typed);
  const place = shiftKey ? null : /^Digit(\d)$/.exec(code);
  return place ? Number(place[1]) : NaN;
}

export const blankAsked = () => ({ scores: {}, flags: {}, spans: [] });

/** `state()` gives {task, draft, dialog}; `change(patch)` changes the draft. */
export function bindCriteria(holder, state, change) {
  // Before the window's listener, which takes every key for the choice.
  document.addEventListener("keydown", (event) => {
    const { task, dialog } = state();
    if (dialog?.id === "first" && event.key === "Enter" && !event.target.matches("button")) return dialog.querySelector("button").click();
    if (dialog || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    if (!task?.root.querySelector(".criterion") || event.target.matches("textarea, .mark-comment")) return;
    const row = event.target.closest?.(".rating");
    const digit = digitOf(event);
    const scores = row && digit >= 0;
    if (!scores && event.key.toLowerCase() !== "r") return;
    if (!scores || score(row, digit || 10)) toNext(task, row);
    event.preventDefault();
    event.stopPropagation();
  });
  holder.addEventListener("change", ({ target }) => {
    const { score: id, of } = target.dataset;
    const { draft } = state();
    if (of) change({ scores: { ...draft.scores, [id]: { ...draft.scores[id], [of]: Number(target.value) } } });
  });
}

/** Press a number of a scale, as with the pointer; false for a number beyond its end. */
function score(row, value) {
  const radio = row.querySelector(`input[value="${value}"]`);
  if (!radio) return false;
  radio.checked = true;
  return radio.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Go on to the next scale, of this answer and then of the next; after the last to none. */
function toNext(task, row) {
  const rows = [...task.root.querySelectorAll(".rating")];
  const next = rows[rows.indexOf(row) + 1];
  if (!next) return document.activeElement.blur();
  (next.querySelector("input:checked") ?? next.querySelector("input")).focus();
}

/** The flags of an answer with one of them put on or off; `named` is "flag answer". */
export function toggledFlag(flags, named) {
  const [flag, id] = named.split(" ");
  const own = flags[id] ?? [];
  return { ...flags, [id]: own.includes(flag) ? own.filter((one) => one !== flag) : [...own, flag] };
}

export function paintCriteria(task, draft) {
  for (const radio of task.root.querySelectorAll("[data-of]")) {
    radio.checked = draft.scores[radio.dataset.score]?.[radio.dataset.of] === Number(radio.value);
  }
  for (const button of task.root.querySelectorAll(".own-flag")) {
    const [flag, id] = button.dataset.value.split(" ");
    button.setAttribute("aria-pressed", Boolean(draft.flags[id]?.includes(flag)));
  }
}

/** What is still to be scored or written, in words, or null. */
export function missingAsked(task, draft) {
  for (const { id, name, card } of task.answers) {
    for (const { dataset } of card.querySelectorAll('.criterion[data-required="yes"]')) {
      if (!draft.scores[id]?.[dataset.criterion]) return say("need_score", { name, criterion: dataset.named });
    }
  }
  const { rationale, rationaleMin } = task.root.dataset;
  const short = [...draft.comment.trim()].length < Number(rationaleMin);
  return rationale === "required" && short ? say("need_rationale", { n: Number(rationaleMin) }) : null;
}

/** One answer is ahead on every criterion, and the other one is chosen: in words. */
export function contradictionOf(task, draft, chosen, better) {
  const name = (id) => task.answers.find((one) => one.id === id).name;
  const rows = [...task.answers[0].card.querySelectorAll(".criterion")];
  const both = rows.filter(({ dataset }) => draft.scores[chosen]?.[dataset.criterion] && draft.scores[better]?.[dataset.criterion]);
  const scores = both.map(({ dataset: { criterion, named } }) =>
    say("score_pair", { criterion: named, high: draft.scores[better][criterion], low: draft.scores[chosen][criterion] }),
  );
  const values = { chosen: name(chosen), better: name(better), scores: new Intl.ListFormat(document.documentElement.lang).format(scores) };
  return say(draft.verdict === "tie" ? "contradiction_criteria_tie" : "contradiction_criteria", values);
}
