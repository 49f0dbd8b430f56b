// Marks on parts of the texts. They are made in the view of the texts as written, whose characters
// are exactly those that the server has; offsets count Unicode code points.

import { digitOf } from "./criteria.js";
import { announce, say } from "./words.js";

const MOST = 100; // of one judgement, and the longest quotation: the server takes no more
const LONGEST = 20_000;
const words = new Intl.Segmenter(document.documentElement.lang, { granularity: "word" });
const COLOURS = ["red", "amber", "green", "blue", "violet", "grey"];
let last = null; // the text that was selected in latest, and the range in it

/** `state()` gives {task, draft, dialog}; `change(patch)` changes the draft. */
export function bindSpans(holder, state, change) {
  document.addEventListener("keydown", (event) => {
    const { task, dialog } = state();
    if (!task?.root.querySelector(".original") || dialog || event.isComposing) return;
    const done = event.target.matches(".mark-comment") ? inNote(event) : onText(event, task, state, change);
    if (done === undefined) return;
    event.stopPropagation();
    if (done) event.preventDefault();
  });
  // A press on a button must leave the selection as it is.
  holder.addEventListener("mousedown", (event) => event.target.closest(".kind") && event.preventDefault());
  holder.addEventListener("input", ({ target }) => {
    if (!target.matches(".mark-comment")) return;
    const spans = state().draft.spans.map((one, n) => (n === Number(target.dataset.nth) ? { ...one, comment: target.value } : one));
    change({ spans });
  });
  document.addEventListener("selectionchange", () => {
    const found = selected();
    if (found) last = found;
  });
}

/** In a mark's comment every key types, but for those that lead back to the text. */
function inNote(event) {
  const leaves = event.key === "Enter" || event.key === "Escape";
  if (leaves) event.target.closest(".marks").previousElementSibling.focus();
  return leaves;
}

/** True if the key is done with, false if the browser has it, undefined if it is none of ours. */
function onText(event, task, state, change) {
  const { key, target } = event;
  if (event.altKey || event.metaKey || target.matches("textarea, input:not([type=radio])")) return undefined;
  if (key.toLowerCase() === "m" && !event.ctrlKey) return toggleMarking(task), true;
  if (!target.matches(".original")) return undefined;
  const kind = task.root.querySelectorAll(".kind")[digitOf(event) - 1];
  if (kind) return mark(kind.dataset.value, state, change), true;
  if (key === "Escape") return toggleMarking(task), true;
  if (key === "Backspace" || key === "Delete") return removeHere(target, state, change), true;
  if (key === "ArrowRight" || key === "ArrowLeft") return move(target, key === "ArrowRight" ? 1 : -1, event), true;
  if (key === "ArrowUp" || key === "ArrowDown") return toText(task, target, key === "ArrowDown" ? 1 : -1), true;
  return undefined;
}

/** Go to the previous or next text. */
function toText(task, element, step) {
  const texts = [...task.root.querySelectorAll(".original")];
  texts[texts.indexOf(element) + step]?.focus();
}

/** Show the texts as written, to be marked, or go back to reading them. */
export function toggleMarking(task) {
  const on = task.root.classList.toggle("marking");
  task.root.querySelector('[data-act="marking"]').setAttribute("aria-pressed", on);
  if (!on) return document.activeElement.blur();
  task.root.querySelector(".original[data-answer]").focus();
  announce(say("marking"));
}

/** Mark the selected part; gives a field for a comment on it. */
export function mark(kind, state, change) {
  const { task, draft } = state();
  const found = selected() ?? last;
  if (!found?.element.isConnected || found.start === found.end) return announce(say("nothing_selected"));
  const { element, start, end } = found;
  const whole = element.textContent;
  const text = whole.slice(start, end);
  const from = points(whole.slice(0, start));
  const size = points(text);
  if (draft.spans.length >= MOST || size > LONGEST) return announce(say("mark_too_much"));
  const place = element.dataset.answer ? { answer: element.dataset.answer, turn: null } : { answer: null, turn: Number(element.dataset.turn) };
  change({ spans: [...draft.spans, { ...place, start: from, end: from + size, text, kind, comment: "" }] });
  getSelection().removeAllRanges();
  last = null;
  task.root.querySelector(`.mark-comment[data-nth="${draft.spans.length}"]`)?.focus();
}

/** Remove the newest mark of this text that the selection touches, or else its newest. */
function removeHere(element, state, change) {
  const { draft } = state();
  const here = draft.spans.map((one, n) => ({ one, n })).filter(({ one }) => isIn(one, element));
  const now = selected();
  const whole = element.textContent;
  const touched = now && here.filter(({ one }) => units(whole, one.start) < now.end && now.start < units(whole, one.end));
  const gone = (touched?.length ? touched : here).at(-1);
  if (gone) change({ spans: draft.spans.filter((_, n) => n !== gone.n) });
}

/** Select the next or previous word; with Shift make the selection longer or shorter, with Ctrl by a character. */
function move(element, step, { shiftKey, ctrlKey }) {
  const text = element.textContent;
  const now = selected()?.element === element ? selected() : null;
  if (shiftKey && now) return select(element, now.start, Math.max(now.start, edge(text, now.end, step, ctrlKey)));
  const parts = [...words.segment(text)].filter((one) => one.isWordLike);
  const next = step > 0 ? parts.find(({ index }) => index >= (now?.end ?? 0)) : parts.findLast((one) => one.index < (now?.start ?? Infinity));
  if (next) select(element, next.index, next.index + next.segment.length);
}

/** Where a selection ends that is one word, or one character, longer or shorter. */
function edge(text, end, step, byCharacter) {
  if (byCharacter) return step > 0 ? end + String.fromCodePoint(text.codePointAt(end) ?? 0).length * (end < text.length) : end - [...text.slice(0, end)].at(-1).length;
  const ends = [...words.segment(text)].filter((one) => one.isWordLike).map((one) => one.index + one.segment.length);
  return (step > 0 ? ends.find((one) => one > end) : ends.findLast((one) => one < end)) ?? end;
}

function select(element, start, end) {
  const range = rangeOf(element, start, end);
  getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.endContainer, range.endOffset);
  range.startContainer.parentElement?.scrollIntoView({ block: "nearest" });
}

/** What is selected in a text as written: {element, start, end} in code units, or null. */
function selected() {
  const selection = getSelection();
  const node = selection.anchorNode;
  const element = (node?.nodeType === Node.ELEMENT_NODE ? node : node?.parentElement)?.closest(".original");
  if (!element || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0).cloneRange();
  // A third click reaches into the next box.
  if (!element.contains(range.startContainer)) range.setStart(element, 0);
  if (!element.contains(range.endContainer)) range.setEnd(element, element.childNodes.length);
  const before = document.createRange();
  before.setStart(element, 0);
  before.setEnd(range.startContainer, range.startOffset);
  const text = element.textContent;
  const start = before.toString().length;
  const end = start + range.toString().length;
  return { element, start: isInside(text, start) ? start - 1 : start, end: isInside(text, end) ? end + 1 : end };
}

/** Whether a place is between the halves of a character. */
const isInside = (text, at) => /[\udc00-\udfff]/.test(text[at] ?? "") && /[\ud800-\udbff]/.test(text[at - 1] ?? "");

const points = (text) => [...text].length;

/** The number of code units before code point `at`. */
function units(text, at) {
  let found = 0;
  for (const one of text) {
    if (at-- <= 0) break;
    found += one.length;
  }
  return found;
}

/** The range of some code units of an element's text. */
function rangeOf(element, start, end) {
  const range = document.createRange();
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let at = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const next = at + node.length;
    if (start >= at && start <= next) range.setStart(node, start - at);
    if (end >= at && end <= next) {
      range.setEnd(node, end - at);
      break;
    }
    at = next;
  }
  return range;
}

const isIn = (span, { dataset }) => (dataset.answer ? span.answer === dataset.answer : span.turn === Number(dataset.turn));

/** Colour the marks, and list them below their texts; comments that are being typed stay. */
export function paintSpans(task, draft) {
  const kinds = Object.fromEntries([...task.root.querySelectorAll(".kind")].map(({ dataset }) => [dataset.value, dataset]));
  const shape = JSON.stringify(draft.spans.map(({ comment, ...where }) => where));
  if (task.marksShown === shape) return;
  task.marksShown = shape;
  const ranges = Object.fromEntries(COLOURS.map((colour) => [colour, []]));
  for (const element of task.root.querySelectorAll(".original")) {
    const text = element.textContent;
    const mine = draft.spans.map((span, nth) => ({ span, nth })).filter(({ span }) => isIn(span, element) && kinds[span.kind]);
    for (const { span } of mine) ranges[kinds[span.kind].colour].push(rangeOf(element, units(text, span.start), units(text, span.end)));
    const list = element.nextElementSibling;
    list.hidden = mine.length === 0;
    list.replaceChildren(...mine.map(({ span, nth }) => entry(span, nth, kinds[span.kind])));
  }
  // Browsers without highlights have the lists.
  for (const colour of COLOURS) globalThis.CSS?.highlights?.set(`mark-${colour}`, new Highlight(...ranges[colour]));
}

function entry(span, nth, { named, colour }) {
  const made = (tag, fields) => Object.assign(document.createElement(tag), fields);
  const row = document.createElement("li");
  const note = made("input", { className: "mark-comment", value: span.comment, maxLength: 2000, placeholder: say("mark_comment"), ariaLabel: say("mark_comment") });
  note.dataset.nth = nth;
  const remove = made("button", { type: "button", className: "plain", textContent: "×", ariaLabel: say("mark_remove") });
  Object.assign(remove.dataset, { act: "unmark", value: nth });
  row.append(made("span", { className: `kind-name kind-${colour}`, textContent: named }), made("q", { textContent: span.text, dir: "auto" }), note, remove);
  return row;
}
