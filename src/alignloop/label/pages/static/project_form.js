// Rows of a form that can be added and removed: criteria, kinds of marks, flags of a new project.

for (const list of document.querySelectorAll("[data-list]")) {
  const add = list.querySelector("[data-add-row]");
  const count = () => list.querySelectorAll("[data-row]").length;
  add.addEventListener("click", () => {
    const row = list.querySelector("template").content.firstElementChild.cloneNode(true);
    add.before(row);
    add.disabled = count() >= Number(list.dataset.most);
    row.querySelector("input").focus();
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[data-remove-row]")?.closest("[data-row]");
    if (!row) return;
    row.remove();
    add.disabled = false;
    add.focus();
  });
  list.addEventListener("input", ({ target }) => {
    const key = target.closest("[data-row]").querySelector("[data-key]");
    if (target === key) key.dataset.own = "yes";
    else if ("names" in target.dataset && !key.dataset.own) key.value = keyOf(target.value);
  });
}

/** A key for files from an English name: "Wrong fact" becomes "wrong_fact". */
function keyOf(name) {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^[^a-z]+|_+$/g, "").slice(0, 32);
}
