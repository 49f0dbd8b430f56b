// Ranking of three to nine answers: a list of tiers, the best first; answers in one tier are equal.
// The functions on rankings are pure; `Board` shows one and lets it be dragged.

import { say } from "./words.js";

const without = (ranking, id) => ranking.map((tier) => tier.filter((one) => one !== id)).filter((tier) => tier.length);

/** Put an answer behind all others. */
export const append = (ranking, id) => [...without(ranking, id), [id]];

/** Take an answer out. */
export const remove = without;

/** Make the last answer equal to the one before it, or no longer equal. */
export function toggleTie(ranking) {
  const last = ranking.at(-1);
  if (!last) return ranking;
  if (last.length > 1) return [...ranking.slice(0, -1), last.slice(0, -1), last.slice(-1)];
  if (ranking.length < 2) return ranking;
  return [...ranking.slice(0, -2), [...ranking.at(-2), ...last]];
}

/** Move an answer before tier `at`, or into it where `tie`. Places are those before the move. */
export function move(ranking, id, at, tie) {
  const tiers = ranking.map((tier) => tier.filter((one) => one !== id));
  if (tie) tiers[at] = [...tiers[at], id];
  else tiers.splice(at, 0, [id]);
  return tiers.filter((tier) => tier.length);
}

/** One step towards the best (-1) or the last (+1): out of a tier first, then into the next. */
export function step(ranking, id, by) {
  const at = ranking.findIndex((tier) => tier.includes(id));
  if (at < 0) return ranking;
  if (ranking[at].length > 1) return move(ranking, id, by < 0 ? at : at + 1, false);
  const next = at + by;
  return next < 0 || next >= ranking.length ? ranking : move(ranking, id, next, true);
}

/** The place of an answer, 1 for the best: equal ones share theirs, as in sports. */
export function placeOf(ranking, id) {
  const at = ranking.findIndex((tier) => tier.includes(id));
  return at < 0 ? null : 1 + ranking.slice(0, at).flat().length;
}

/** Shows a ranking within `root` and reports the one that a drag or a key made of it. */
export class Board {
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.tiers = root.querySelector(".tiers");
    this.waiting = root.querySelector(".waiting");
    this.chips = new Map([...root.querySelectorAll(".chip")].map((chip) => [chip.dataset.chip, chip]));
    this.waiting.dataset.drop = "waiting";
    root.addEventListener("pointerdown", (event) => this.grab(event));
    root.addEventListener("keydown", (event) => this.nudge(event));
  }

  show(ranking) {
    this.ranking = ranking;
    const focused = document.activeElement;
    const rows = ranking.map((tier, at) => this.tier(tier, at));
    this.tiers.replaceChildren(this.gap(0), ...rows.flatMap((row, at) => [row, this.gap(at + 1)]));
    for (const [id, chip] of this.chips) if (!ranking.flat().includes(id)) this.waiting.append(chip);
    this.waiting.hidden = ranking.flat().length === this.chips.size;
    if (this.chips.has(focused?.dataset?.chip)) focused.focus();
  }

  tier(ids, at) {
    const row = document.createElement("li");
    row.className = "tier";
    row.dataset.place = placeOf(this.ranking, ids[0]);
    row.dataset.drop = `tier ${at}`;
    row.setAttribute("aria-label", say("rank_place", { n: placeOf(this.ranking, ids[0]) }));
    row.append(...ids.map((id) => this.chips.get(id)));
    return row;
  }

  gap(at) {
    const gap = document.createElement("li");
    gap.className = "gap";
    gap.dataset.drop = `gap ${at}`;
    gap.setAttribute("aria-hidden", "true");
    return gap;
  }

  /** Left and right move the answer that has the focus. */
  nudge(event) {
    const id = event.target.dataset?.chip;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!id || !by) return;
    event.preventDefault();
    event.stopPropagation();
    this.onChange(step(this.ranking, id, by));
    this.chips.get(id).focus();
  }

  grab(down) {
    const chip = down.target.closest(".chip");
    if (!chip || down.button !== 0) return;
    let over = null;
    let dragged = false;
    const follow = (event) => {
      const [x, y] = [event.clientX - down.clientX, event.clientY - down.clientY];
      dragged ||= Math.hypot(x, y) > 6;
      if (!dragged) return;
      chip.classList.add("dragged");
      chip.style.transform = `translate(${x}px, ${y}px)`;
      chip.style.pointerEvents = "none"; // so that what lies below it is found
      const below = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-drop]");
      over?.classList.remove("over");
      over = this.root.contains(below) ? below : null;
      over?.classList.add("over");
    };
    const end = (event) => {
      for (const name of ["pointermove", "pointerup", "pointercancel"]) removeEventListener(name, name === "pointermove" ? follow : end);
      chip.classList.remove("dragged");
      chip.style.transform = chip.style.pointerEvents = "";
      over?.classList.remove("over");
      if (!dragged) return;
      chip.blur(); // so that Enter submits
      addEventListener("click", swallow, { capture: true, once: true }); // the drag's end is no press
      setTimeout(() => removeEventListener("click", swallow, { capture: true }));
      if (over && event.type === "pointerup") this.drop(chip.dataset.chip, over.dataset.drop);
    };
    addEventListener("pointermove", follow);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  drop(id, where) {
    const [kind, at] = where.split(" ");
    this.onChange(kind === "waiting" ? remove(this.ranking, id) : move(this.ranking, id, Number(at), kind === "tier"));
  }
}

function swallow(event) {
  event.stopPropagation();
  event.preventDefault();
}
