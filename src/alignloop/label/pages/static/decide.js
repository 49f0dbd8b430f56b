// A key presses what shows it: [data-key] is a button, a link, a choice or a field to write in.

/** The key by what it prints; letters of other scripts and digits by their place on the keyboard. */
function nameOf(event) {
  const place = /^(?:Key|Digit|Numpad)(.)$/.exec(event.code)?.[1]?.toLowerCase();
  if (/^[a-z0-9=]$/i.test(event.key)) return event.key.toLowerCase();
  if (event.key.length > 1) return event.key; // Enter, Backspace, and the number pad's arrows
  return place ?? event.key;
}

function press(target) {
  if (target.matches("textarea")) target.focus();
  else target.click();
}

addEventListener("keydown", (event) => {
  if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
  const inText = event.target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
  if (inText) return event.key === "Escape" ? event.target.blur() : undefined;
  const name = nameOf(event);
  // What is in focus is pressed by Enter itself.
  if (name === "Enter" && event.target.matches("button, a, summary")) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(name)}"]`);
  if (!wanted || wanted.disabled) return;
  event.preventDefault();
  if (!event.repeat) press(wanted);
});

/** Rankings: each press of an answer puts it next; "=" ties the next one with the last. */
function bindRanking(form) {
  const answers = [...form.querySelectorAll("[data-letter]")];
  const done = form.querySelector('[data-rank="done"]');
  const letters = new Map(answers.map((one) => [one.dataset.rank, one.dataset.letter]));
  let tiers = [];
  let tied = false;
  const placed = () => tiers.flat();

  function show() {
    for (const one of answers) one.setAttribute("aria-pressed", String(placed().includes(one.dataset.rank)));
    const words = tiers.map((tier) => tier.map((id) => letters.get(id)).join(" = ")).join(" > ");
    form.querySelector("[data-ranked]").value = words + (tied ? " =" : "");
    done.disabled = placed().length < answers.length;
    done.value = JSON.stringify({ verdict: tiers.length > 1 ? "choice" : "tie", ranking: tiers });
  }

  function place(id) {
    if (placed().includes(id)) return;
    if (tied) tiers.at(-1).push(id);
    else tiers.push([id]);
    tied = false;
  }

  function back() {
    if (!tied) tiers.at(-1)?.pop();
    tiers = tiers.filter((tier) => tier.length);
    tied = false;
  }

  form.addEventListener("click", (event) => {
    const wish = event.target.closest("[data-rank]")?.dataset.rank;
    if (!wish || wish === "done") return;
    if (wish === "tie") tied = tiers.length > 0 && placed().length < answers.length;
    else if (wish === "back") back();
    else place(wish);
    show();
  });
  show();
}

document.querySelectorAll("form[data-ranking]").forEach(bindRanking);
