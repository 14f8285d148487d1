// Filters and sorting. Without this script the page shows everything, in the order it was written.
(() => {
  "use strict";
  const bar = document.querySelector(".bar");
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const keys = ["dataset", "algorithm", "loss"];
  const selects = Object.fromEntries(keys.map((key) => [key, document.getElementById(`filter-${key}`)]));
  const boxes = [...document.querySelectorAll("input[name=estimator]")];
  const count = bar.querySelector("output");
  const chosen = bar.querySelector("summary span");

  function apply() {
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    const cases = new Set(Object.keys(facts).filter((name) =>
      keys.every((key) => !selects[key].value || facts[name][key] === selects[key].value)));
    // An item without a case, such as an experiment, is shown for every choice of cases.
    const other = (name) => name !== undefined && name in facts && !cases.has(name);
    for (const item of document.querySelectorAll("[data-case]")) item.classList.toggle("off", other(item.dataset.case));
    for (const item of document.querySelectorAll("[data-estimator]")) {
      item.classList.toggle("off", other(item.dataset.case) || hidden.has(item.dataset.estimator));
    }
    // A front over all estimators is wrong for some of them.
    for (const item of document.querySelectorAll("[data-together]")) item.classList.toggle("off", hidden.size > 0);
    for (const group of document.querySelectorAll("[data-group]")) {
      group.classList.toggle("off", !group.querySelector("[data-case]:not(.off), figure:not([data-case])"));
    }
    const total = Object.keys(facts).length;
    chosen.textContent = `${boxes.length - hidden.size} of ${boxes.length}`;
    count.textContent = total ? `${cases.size} of ${total} cases` : "";
    remember(hidden);
  }

  // The choice is kept in the address, so that a link shows what its sender saw.
  function remember(hidden) {
    const state = new URLSearchParams();
    for (const key of keys) if (selects[key].value) state.append(key, selects[key].value);
    for (const name of hidden) state.append("without", name);
    const text = state.toString();
    if (text || location.hash.startsWith("#?")) history.replaceState(null, "", text ? `#?${text}` : "#");
  }

  function recall() {
    const state = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
    for (const key of keys) {
      const wanted = state.get(key) ?? "";
      selects[key].value = [...selects[key].options].some((option) => option.value === wanted) ? wanted : "";
    }
    const without = state.getAll("without");
    for (const box of boxes) box.checked = !without.includes(box.value);
    apply();
  }

  function sort(table, column, header) {
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.key === undefined ? cell.textContent.trim() : Number(cell.dataset.key);
    };
    const unknown = (item) => item === "" || item === "\u2013";
    const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
    rows.sort(([one], [two]) => {
      // Unknown values come last in either order; numbers come before words.
      if (unknown(one) || unknown(two)) return unknown(one) - unknown(two);
      const order = typeof one !== typeof two ? (typeof one === "number" ? -1 : 1)
        : typeof one === "number" ? (one < two ? -1 : one > two ? 1 : 0) : one.localeCompare(two, undefined, { numeric: true });
      return descending ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.sorts")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, column, header));
    });
  }

  for (const control of [...Object.values(selects), ...boxes]) control.addEventListener("change", apply);
  bar.querySelector("button").addEventListener("click", () => {
    for (const key of keys) selects[key].value = "";
    for (const box of boxes) box.checked = true;
    apply();
  });
  const menu = bar.querySelector("details");
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) { menu.open = false; menu.querySelector("summary").focus(); }
  });
  window.addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) recall(); });
  bar.hidden = false;
  recall();
})();
