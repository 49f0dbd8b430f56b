// The annotation screen: takes an item, lets it be judged by keys or by pointer, sends the judgement.
// The server renders the item; here is what the annotator has decided so far, and nothing else.

import { call, fragment, Refusal } from "./api.js";
import { bindKeys } from "./keys.js";
import { memory, newKey, Outbox } from "./outbox.js";
import { append, Board, placeOf, remove, toggleTie } from "./ranking.js";
import { announce, say } from "./words.js";

const workplace = document.querySelector("#workplace");
const slug = workplace.dataset.slug;
const user = document.body.dataset.user;
const holder = document.querySelector("#task");
const nothing = document.querySelector("#nothing");
const notice = document.querySelector("#notice");
const dialogs = Object.fromEntries([...document.querySelectorAll("dialog")].map((one) => [one.id, one]));
const outbox = new Outbox(user, showWaiting);
const CANNOT_BE_SHOWN = "cannot_be_shown"; // the reason of a skip that the server reports to the lead
const A_DAY_MS = 24 * 3600 * 1000; // the server takes no longer time: somebody went home with the page open

let task = null; // {id, kind, strength, answers: [{id, name, card}], root, board}
let draft = null; // what is decided so far: the body of the judgement, but for key and time
let busy = false; // something is on its way: until it is through, nothing may change
let visibleMs = 0;
let seenSince = null; // when the page became visible, or null while it is not

/* Items: taking the next one, showing it, taking the last one back */

async function next() {
  await attempt(async () => {
    for (let one = outbox.waiting; one; one = outbox.waiting) await deliver(one.assignment, one.body);
    await show(await call("POST", `/api/v1/projects/${slug}/claim`));
  });
}

async function undo() {
  if (busy) return;
  await attempt(async () => {
    const given = await call("POST", `/api/v1/projects/${slug}/undo`);
    if (!given) return tell(say("nothing_to_undo"));
    tell(null);
    await show(given);
    announce(say("undone"));
  }, false);
}

async function show(given) {
  nothing.hidden = given !== null;
  holder.hidden = given === null;
  if (given === null) {
    task = draft = null;
    holder.replaceChildren();
    document.querySelector("#pace").hidden = true;
    announce(nothing.querySelector("h2").textContent);
    return;
  }
  const html = await fragment(`/p/${slug}/task/${given.assignment_id}`).catch(unlessBroken);
  showPace(given.progress);
  scrollTo(0, 0);
  if (html === null) return showBroken(given.assignment_id);
  holder.innerHTML = html;
  const root = holder.querySelector(".task");
  const answers = [...root.querySelectorAll(".answer")].map((card) => ({ id: card.dataset.id, name: card.dataset.name, card }));
  task = { id: given.assignment_id, kind: root.dataset.kind, strength: root.dataset.strength === "yes", answers, root, board: null };
  if (task.kind === "ranking") task.board = new Board(root.querySelector(".ranking"), (ranking) => change({ ranking, verdict: null }));
  const kept = memory.get(draftPlace(task.id));
  startClock(kept?.visibleMs ?? 0);
  draft = { ...blank(), ...given.previous, ...kept?.draft };
  if (draft.verdict === "skip") draft.verdict = null; // a skip was taken back: now it is decided
  if (task.kind !== "comparison") draft.choice = null;
  if (draft.comment) root.querySelector(".comment").hidden = false;
  root.querySelector("#comment").value = draft.comment;
  document.querySelector("#guideline [data-place]").replaceChildren(...root.querySelector("[data-guideline]").children);
  measure(root);
  paint();
}

/** Null for an item that the server cannot render, or not in time; other errors pass: asking again may help. */
function unlessBroken(error) {
  if (error instanceof Refusal ? error.status === 500 : error.name === "TimeoutError") return null;
  throw error;
}

/** In place of an item that cannot be shown: it can be skipped, which the server reports to the lead. */
function showBroken(id) {
  holder.replaceChildren(document.querySelector("#broken").content.cloneNode(true));
  task = { id, kind: "broken", strength: false, answers: [], root: holder.querySelector(".task"), board: null };
  draft = blank();
  startClock(0);
  announce(say("cannot_show"));
}

/** Tell the style sheet how high the question and the decision are: heads of answers stick between them. */
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) workplace.style.setProperty(`--${target.classList[0]}-height`, `${target.offsetHeight}px`);
});

function measure(root) {
  sizes.disconnect();
  for (const part of root.querySelectorAll(".asked, .decision")) sizes.observe(part);
}

const blank = () => ({ verdict: null, choice: null, strength: null, ratings: {}, ranking: [], harmful: [], skip_reason: "", comment: "" });
const draftPlace = (id) => `alignloop:draft:${user}:${id}`;

function showPace(progress) {
  const pace = document.querySelector("#pace");
  pace.hidden = false;
  pace.querySelector('[data-pace="batch"]').textContent = say("pace_batch", { done: progress.batch_done, total: progress.batch_total });
  pace.querySelector('[data-pace="today"]').textContent = say("pace_today", { n: progress.today });
  Object.assign(pace.querySelector("progress"), { max: Math.max(1, progress.batch_total), value: progress.batch_done });
}

/* The draft, and how it looks */

function change(patch) {
  if (!task || busy || task.kind === "broken") return;
  draft = { ...draft, ...patch };
  keep();
  paint();
}

function keep() {
  memory.set(draftPlace(task.id), { draft, visibleMs: timeSeen() });
}

function paint() {
  const chosen = { choose: [draft.choice], verdict: [draft.verdict], strength: [draft.strength], harmful: draft.harmful };
  for (const button of task.root.querySelectorAll("button[aria-pressed]")) {
    const pressed = chosen[button.dataset.act];
    if (pressed) button.setAttribute("aria-pressed", pressed.some((one) => String(one) === button.dataset.value));
  }
  task.root.querySelector(".strengths")?.setAttribute("aria-disabled", draft.verdict !== "choice");
  for (const { id, card } of task.answers) {
    card.classList.toggle("chosen", draft.choice === id);
    card.querySelector(".chosen-badge").hidden = draft.choice !== id;
    card.classList.toggle("harmful", draft.harmful.includes(id));
    const place = card.querySelector(".place");
    const rank = placeOf(draft.ranking, id);
    place.hidden = rank === null;
    place.textContent = rank === null ? "" : say("rank_place", { n: rank });
    for (const radio of card.querySelectorAll("[data-rate]")) radio.checked = draft.ratings[id] === Number(radio.value);
  }
  task.board?.show(draft.ranking);
  const state = task.root.querySelector(".state");
  const words = missing() ?? summary();
  if (state.textContent !== words) state.textContent = words;
  task.root.querySelector('[data-act="submit"]').classList.toggle("unready", missing() !== null);
}

/** What is still to be decided, in words, or null. */
function missing() {
  if (task.kind === "rating") return task.answers.every(({ id }) => draft.ratings[id]) ? null : say("need_ratings");
  if (task.kind === "ranking") return draft.ranking.flat().length === task.answers.length ? null : say("need_ranking");
  if (!draft.verdict) return say("need_choice");
  if (draft.verdict === "choice" && task.strength && draft.strength === null) return say("need_strength");
  return null;
}

function summary() {
  if (task.kind === "rating") return say("ready");
  if (task.kind === "ranking") return draft.ranking.map((tier) => tier.map(nameOf).join(" = ")).join(" > ");
  if (draft.verdict !== "choice") return say(draft.verdict);
  return say(draft.strength === null ? "better" : `strength_${draft.strength}`, { name: nameOf(draft.choice) });
}

const nameOf = (id) => task.answers.find((one) => one.id === id).name;

/* Sending */

async function submit(confirmed = false) {
  if (!task || busy) return;
  if (task.kind === "broken") return next();
  const lacking = missing();
  if (lacking) return flash(lacking);
  // Of a ranking and of ratings the server draws the choice itself.
  await dispatch({ ...draft, verdict: task.kind === "comparison" ? draft.verdict : "choice", confirmed });
}

/** The ranking that the ratings make: where more than two answers are shown, one is asked for. */
function byRating() {
  const levels = [...new Set(Object.values(draft.ratings))].sort((a, b) => b - a);
  return levels.map((level) => task.answers.map(({ id }) => id).filter((id) => draft.ratings[id] === level));
}

async function dispatch(content) {
  if (busy) return;
  const isChoice = content.verdict === "choice";
  const ranking = content.verdict === "skip" ? [] : task.kind === "rating" ? byRating() : content.ranking;
  const decided = { ...content, ranking, choice: isChoice ? content.choice : null, strength: isChoice ? content.strength : null };
  const { id } = task;
  await attempt(async () => {
    const fate = await deliver(id, { ...decided, key: newKey(), visible_ms: Math.min(A_DAY_MS, Math.round(timeSeen())) });
    if (fate === "contradicted") return;
    if (fate === "kept") {
      tell(null);
      announce(say("saved"));
    }
    await show(await call("POST", `/api/v1/projects/${slug}/claim`));
  });
}

/** Send until it is "kept", "lost" since somebody else has the item, or "contradicted". */
async function deliver(assignment, body) {
  try {
    await outbox.deliver(assignment, body);
    memory.set(draftPlace(assignment), null);
    return "kept";
  } catch (error) {
    if (!(error instanceof Refusal) || ![404, 409].includes(error.status)) throw error;
    if (error.body.contradiction) return contradict(error.body);
    tell(say("lost"));
    return "lost";
  }
}

/** The ratings say otherwise than the choice: which of them is meant? */
function contradict({ chosen, better }) {
  if (!task?.answers.some(({ id }) => id === chosen)) return "contradicted";
  const values = { chosen: nameOf(chosen), better: nameOf(better), low: draft.ratings[chosen], high: draft.ratings[better] };
  const words = say(draft.verdict === "tie" ? "contradiction_tie" : "contradiction", values);
  dialogs.contradiction.querySelector("[data-words]").textContent = words;
  dialogs.contradiction.showModal();
  return "contradicted";
}

/** Do it, with everything else held up; where the network fails, say so and go on trying. */
async function attempt(what, again = true) {
  setBusy(true);
  try {
    await what();
    showWaiting(null);
  } catch (error) {
    const refused = error instanceof Refusal;
    if (refused && error.status === 401) return tell(say("session"), link(`/login?after=/p/${slug}`, say("sign_in")));
    if (refused && !error.passes) return tell(error.message || say("refused"), press("again", say("try_again")));
    if (!again) return tell(say("no_server")); // doing it twice would not be the same
    showWaiting(refused ? "busy" : "offline");
    await outbox.pause(3000);
    await next();
  } finally {
    setBusy(false);
  }
}

function setBusy(state) {
  busy = state;
  holder.setAttribute("aria-busy", state);
}

/* Words to the annotator */

function showWaiting(reason) {
  if (reason) tell(say(reason), press("retry", say("try_again")));
  else if (notice.dataset.waiting) tell(null);
  notice.dataset.waiting = reason ?? "";
}

function tell(words, ...more) {
  notice.hidden = words === null;
  const row = Object.assign(document.createElement("div"), { className: "row" });
  row.append(Object.assign(document.createElement("p"), { textContent: words ?? "" }), ...more);
  notice.replaceChildren(row);
}

function press(act, words) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: words });
  button.dataset.act = act;
  return button;
}

const link = (href, words) => Object.assign(document.createElement("a"), { href, textContent: words, className: "button" });

/** What is missing, so that nobody overlooks it. */
function flash(words) {
  const state = task.root.querySelector(".state");
  state.classList.add("missing-now");
  setTimeout(() => state.classList.remove("missing-now"), 1500);
  announce(words);
}

/* The clock runs while the page can be seen */

function startClock(from) {
  visibleMs = from;
  seenSince = document.visibilityState === "visible" ? performance.now() : null;
}

const timeSeen = () => visibleMs + (seenSince === null ? 0 : performance.now() - seenSince);

document.addEventListener("visibilitychange", () => {
  startClock(timeSeen());
  if (task) keep();
});

/* What can be done, by press or by key */

const actions = {
  choose: (id) => change({ verdict: "choice", choice: id }),
  verdict: (name) => change({ verdict: name, choice: null, strength: null }),
  strength: (step) => draft.verdict === "choice" && change({ strength: Number(step) }),
  harmful: (id) => change({ harmful: draft.harmful.includes(id) ? draft.harmful.filter((one) => one !== id) : [...draft.harmful, id] }),
  place: (id) => change({ ranking: draft.ranking.flat().includes(id) ? remove(draft.ranking, id) : append(draft.ranking, id) }),
  tie_last: () => change({ ranking: toggleTie(draft.ranking) }),
  unplace_last: () => draft.ranking.length && change({ ranking: remove(draft.ranking, draft.ranking.at(-1).at(-1)) }),
  rate: ({ id, value }) => {
    change({ ratings: { ...draft.ratings, [id]: value } });
    rateAfter(id);
  },
  rate_next: () => rateAfter(document.activeElement.closest?.(".answer")?.dataset.id),
  comment: () => {
    const box = task.root.querySelector(".comment");
    box.hidden = false;
    box.querySelector("textarea").focus();
  },
  harm_which: () => announce(say("harm_which")),
  difference,
  earlier: () => {
    const turns = task.root.querySelector(".earlier");
    if (turns) turns.open = !turns.open;
  },
  written: () => document.querySelector('[data-toggle="written"]').click(),
  guideline: () => {
    const aside = document.querySelector("#guideline");
    aside.hidden = !aside.hidden;
    document.querySelector('.bar [data-act="guideline"]').setAttribute("aria-pressed", !aside.hidden);
    if (!aside.hidden) aside.focus();
  },
  help: () => dialogs.help.showModal(),
  skip: () => {
    if (task.kind === "broken") return dispatch({ ...blank(), verdict: "skip", skip_reason: CANNOT_BE_SHOWN });
    if (task.root.querySelector('[data-act="skip"]')) dialogs.skip.showModal();
  },
  skip_reason: (reason) => {
    dialogs.skip.close();
    dispatch({ ...draft, verdict: "skip", skip_reason: reason });
  },
  confirm: () => {
    dialogs.contradiction.close();
    submit(true);
  },
  close: () => openDialog()?.close(),
  leave: () => document.activeElement.blur(),
  retry: () => outbox.wake(),
  again: () => {
    tell(null);
    next();
  },
  submit: () => submit(),
  undo,
};

/** Show where the answers differ; the server compares them when this is first asked for. */
async function difference() {
  const { root } = task;
  const button = root.querySelector('[data-act="difference"]');
  if (!button) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  const boxes = [...root.querySelectorAll(".compared")];
  if (on && !boxes[0].hasChildNodes()) {
    try {
      const parts = document.createElement("div");
      parts.innerHTML = await fragment(`/p/${slug}/task/${task.id}/differences`);
      [...parts.children].forEach((part, n) => boxes[n].replaceChildren(...part.childNodes));
    } catch {
      return tell(say("no_server"));
    }
  }
  button.setAttribute("aria-pressed", on);
  for (const text of root.querySelectorAll(".formatted")) text.hidden = on;
  for (const text of boxes) text.hidden = !on;
}

/** Go on to the rating of the answer after this one; after the last to none. */
function rateAfter(id) {
  const at = task.answers.findIndex((one) => one.id === id) + 1;
  const scale = task.answers[at]?.card.querySelectorAll("[data-rate]");
  if (!scale?.length) return document.activeElement.blur();
  ([...scale].find((radio) => radio.checked) ?? scale[0]).focus();
}

const openDialog = () => Object.values(dialogs).find((one) => one.open);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  actions[button.dataset.act](button.dataset.value);
  if (event.detail > 0 && !openDialog() && button.dataset.act !== "comment") button.blur(); // so that Enter submits
});
holder.addEventListener("change", (event) => {
  const { rate } = event.target.dataset;
  if (rate) change({ ratings: { ...draft.ratings, [rate]: Number(event.target.value) } });
});
holder.addEventListener("input", (event) => {
  if (event.target.id === "comment") change({ comment: event.target.value });
});
/** Who signs out gives their item back to the others, unless they have begun with it. */
document.querySelector('form[data-send$="/logout"]').addEventListener(
  "submit",
  async (event) => {
    if (!task || task.kind === "broken" || JSON.stringify(draft) !== JSON.stringify(blank())) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { id } = task;
    task = null;
    await call("POST", `/api/v1/assignments/${id}/release`).catch(() => {});
    event.target.requestSubmit();
  },
  { capture: true },
);

bindKeys(() => ({ task, draft, dialog: openDialog() }), (name, value) => actions[name](value));
next();
