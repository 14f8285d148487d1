// The page: its state, which the address holds, and what it shows of the data for that state.
const DASH = "\u2013", PANELS = 6, ROWS = 25, FILTERS = ["dataset", "algorithm", "loss"];
const WISHES = ["error", "seconds", "memory"], NONE = " (the bar above leaves nothing)";
const BLANK = {
  run: "0", dataset: "", algorithm: "", loss: "", without: [], focus: "", error: "", seconds: "",
  memory: "", y: "relative_error", x: "depth", yscale: "auto", xscale: "auto", spread: "band",
  case: "", page: "0", section: "",
};
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
let DATA, state;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const button = (label, click, more = {}) =>
  element("button", { type: "button", click, ...more }, label);
// After a bracket or a comma within it a long name may be broken.
const breakable = (name) =>
  name.split(/(?<=\w\(|,)/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
function named(name, text = name) {
  const place = DATA.names.indexOf(name), look = element("span");
  const code = element(name === text ? "code" : "span", {}, ...breakable(text));
  const use = `<use href="#look-${place}"/>`;
  look.innerHTML = `<svg class="look" viewBox="0 0 36 14" aria-hidden="true">${use}</svg>`;
  const about = Object.hasOwn(DATA.meanings, name) ? { title: DATA.meanings[name] } : {};
  return element("span", { class: "est", ...about }, ...(place < 0 ? [] : [look.firstChild]), code);
}
// Words between backticks are code.
const sentence = (text) => text.split(/`([^`]*)`/)
  .map((part, index) => (index % 2 ? element("code", {}, part) : part));
function link(text, change) {
  const click = (event) => { event.preventDefault(); set(change); };
  const href = `#?${address({ ...state, ...change })}`;
  return element("a", { href, click }, ...breakable(text));
}

// -- state

function address(of) {
  const kept = Object.entries(of)
    .filter(([key, value]) => key in BLANK && String(value) !== String(BLANK[key]));
  const pairs = kept.flatMap(([key, value]) => [value].flat().map((one) => [key, one]));
  return new URLSearchParams(pairs);
}

function recall() {
  const words = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  state = { ...BLANK, ...Object.fromEntries(words), without: words.getAll("without") };
  if (!DATA.runs[state.run]) state.run = BLANK.run;
}

function set(change) {
  const page = FILTERS.some((key) => key in change) ? BLANK.page : state.page;
  state = { ...state, page, ...change };
  show();
  if (change.section) document.getElementById(change.section)?.scrollIntoView();
}

const run = () => DATA.runs[state.run];
const cases = () => run().cases
  .filter((item) => FILTERS.every((key) => !state[key] || item[key] === state[key]));
const opened = () => run().cases.find((item) => item.name === state.case);
const dimmed = (name) => Boolean(state.focus) && state.focus !== name;
// Whether the filters leave a row of a figure.
const keeps = (row) => !state.without.includes(row.estimator)
  && (!row.goal || row.goal === state.error)
  && (!row.case || cases().some((item) => item.name === row.case));

// -- tables

// A cell is text, or an object with its text, a key to sort by, details, an estimator, a case ...
const full = (cell) => (typeof cell === "string" ? { text: cell } : cell);

// A table that sorts and turns pages, of the rows that the filters leave.
function table(host, { caption, columns, rows }) {
  const known = run().cases.map((item) => item.name), chosen = cases().map((item) => item.name);
  const { at, order: [column, direction] = [-1, 1] } = host;
  const again = (change) => table(Object.assign(host, change), { caption, columns, rows });
  const kept = rows.map((row) => row.map(full)).filter((row) => {
    const cell = (name) => row[columns.indexOf(name)], of = cell("problem") ?? cell("case");
    const owner = cell("estimator")?.text ?? row[0].estimator, name = of?.case ?? of?.text;
    return (!known.includes(name) || chosen.includes(name)) && !state.without.includes(owner);
  });
  const head = columns.map((name, place) => {
    const sort = () => {
      again({ order: [place, place === column ? -direction : 1], at: 0 });
      $$("thead button", host)[place].focus();
    };
    const sorts = place === column ? (direction > 0 ? "ascending" : "descending") : null;
    const title = Object.hasOwn(DATA.headings, name) ? DATA.headings[name] : null;
    return element("th", { scope: "col", "aria-sort": sorts }, button(name, sort, { title }));
  });
  const ordered = column < 0 ? kept : sorted(kept, column, direction);
  const [page, pager] = paged(ordered, at, ROWS, "rows", (next) => again({ at: next }));
  const body = page.map((row) =>
    element("tr", {}, ...row.map((cell, place) => shownCell(cell, columns[place], place))));
  const made = element("table", {}, element("caption", {}, caption, kept.length ? "" : NONE),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  const region = { class: "scroll", role: "region", tabindex: "0", "aria-label": caption };
  host.replaceChildren(element("div", region, made), ...pager);
}

function shownCell(cell, column, place) {
  const { text, key, details = [], best, estimator, case: name = text, badge } = cell;
  const opens = (column === "case" || cell.case) && run().cases.some((one) => one.name === name);
  const owner = column === "estimator" ? text : estimator;
  const shown = owner ? [named(owner, text)]
    : opens ? [link(text, { case: name, section: "case" })] : sentence(text);
  const mark = badge ? [" ", element("span", { class: "badge", title: DATA.limit }, badge)] : [];
  const content = [...shown, ...mark,
    ...details.flatMap((detail) => [" ", element("small", {}, ...breakable(detail))])];
  const parts = best ? [element("strong", {}, ...content)] : content;
  if (!place) return element("th", { scope: "row" }, ...parts);
  const bad = column === "status" && !["ok", "certified", "limit", DASH].includes(text);
  const look = bad ? "bad" : text.length > 40 ? "long" : null;
  return element("td", { class: look, "data-key": key, "data-column": column }, ...parts);
}

// Numbers come before words, and what is not known last in either order.
function sorted(rows, column, direction) {
  const value = ({ text, key = null }) => (key === null ? text.trim() : Number(key));
  const unknown = (one) => one === "" || one === DASH, word = (one) => typeof one === "string";
  const compare = (one, two) => word(one) - word(two)
    || (word(one) ? one.localeCompare(two, undefined, { numeric: true }) : one - two || 0);
  return rows.map((row) => [value(row[column]), row])
    .sort(([one], [two]) => unknown(one) - unknown(two) || direction * compare(one, two))
    .map(([, row]) => row);
}

// One page of items, and what turns the pages, if there are several.
function paged(items, at, size, what, turn) {
  const last = Math.max(Math.ceil(items.length / size) - 1, 0), now = Math.min(at ?? 0, last);
  const page = items.slice(now * size, (now + 1) * size);
  const to = (label, next) =>
    button(label, () => turn(next), next < 0 || next > last ? { disabled: "" } : {});
  const ends = `${now * size + 1} to ${now * size + page.length} of ${items.length}`;
  const where = element("span", {}, ` ${what} ${ends} `);
  const turns = [to("previous", now - 1), where, to("next", now + 1)];
  const printed = element("p", { class: "printed" }, `Printed: ${what} ${ends}.`);
  return [page, last ? [element("p", { class: "pager" }, ...turns), printed] : []];
}

// -- what is shown

function showTables() {
  for (const host of $$("[data-table]")) {
    const [where, name] = host.dataset.table.split(":");
    const { tables } = where === "run" ? run() : DATA;
    const known = tables[name + state.algorithm] ?? tables[name];
    if (known?.rows.length) table(host, known);
    else host.replaceChildren(element("p", { class: "soft" }, host.dataset.none ?? "Nothing."));
  }
  if (!$("#answers")) return;
  const item = opened(), wish = WISHES.map((key) => state[key]).join();
  const rows = run().answers[state.algorithm]?.[wish] ?? [];
  const starred = JSON.stringify(rows).includes("*") ? ` (${DATA.answers.starred})` : "";
  table($("#answer-table"), { ...DATA.answers, caption: DATA.answers.caption + starred, rows });
  const recommended = run().recommendations[state.algorithm]?.[wish] ?? [];
  $("#recommendations").replaceChildren(
    ...recommended.map((line) => element("li", {}, ...sentence(line))));
  $("#case-body").hidden = !item;
  if (!item) return;
  $("#case-facts").textContent = item.facts;
  $("#case-findings").replaceChildren(...sentence(item.findings));
  table($("#case-table"), item.tables[state.error]);
}

const boxes = new Map();
async function showFigures() {
  const token = (showFigures.token = {}), chosen = cases(), item = opened();
  const turn = (next) => set({ page: String(next) });
  const [panels, pager] = paged(chosen, Number(state.page), PANELS, "cases", turn);
  $("#panel-pages")?.replaceChildren(...pager);
  const drawn = new Set(panels.flatMap(({ figure }) => Object.keys(figure.looks)));
  for (const one of $$("#legend button")) {
    one.hidden ||= !drawn.has(one.value) && state.focus !== one.value;
  }
  const others = [...DATA.charts, ...run().charts, ...(item?.charts ?? [])];
  const work = [
    ...panels.map(({ figure, name }, place) =>
      [`panel ${place}`, "#panels", () => chartOf(figure, { open: name })]),
    ...(item?.figure.y ?? []).map(({ column, title }) =>
      [`case ${column}`, "#case-figures", () => chartOf(item.figure, { y: column, title })]),
    ...others.map((figure, place) =>
      [`${figure.host} ${place}`, figure.host, () => chartOf(figure)]),
  ].map(([name, host, make]) => [name, host, make()])
    .filter(([, host, { data }]) => $(host) && (data.rows.length || host === "#panels"));
  const kept = new Set(work.map(([name]) => name));
  for (const [name, box] of boxes) if (!kept.has(name)) { box.remove(); boxes.delete(name); }
  for (const [name, host] of work) if (!boxes.has(name)) boxes.set(name, new Box($(host)));
  for (const [name, , chart] of work) {
    // A later change of the state makes the rest obsolete; between two charts the page responds.
    if (showFigures.token !== token) return;
    await boxes.get(name).draw(chart);
    await new Promise((done) => setTimeout(done));
  }
  const { dataset } = document.documentElement;
  dataset.drawn = String(Number(dataset.drawn ?? 0) + 1);
}

function showControls() {
  const missed = [];
  for (const control of $$("[data-key]")) {
    const { key } = control.dataset;
    control.value = state[key];
    // An address of another report chooses what there is of it; no choice at all is "".
    if (control.selectedIndex < 0) {
      missed.push(`${key} ${state[key] || "(empty)"} is no choice here. `);
      control.value = state[key] = BLANK[key];
    }
  }
  const inputs = $$("input[name=estimator]"), chosen = cases().map((item) => item.name);
  for (const box of inputs) box.checked = !state.without.includes(box.value);
  for (const option of $$("#choose-case option")) {
    option.hidden = option.value && !chosen.includes(option.value);
  }
  const left = inputs.filter((box) => box.checked).length, all = run().cases.length;
  $(".bar summary span").textContent = left < inputs.length ? `${left} of ${inputs.length}` : left;
  const counted = `${chosen.length} of ${all} case${all === 1 ? "" : "s"}`;
  $(".bar output").textContent = missed.join("") + (all ? counted : "");
  for (const one of $$("#legend button")) {
    one.hidden = state.without.includes(one.value) || !run().estimators.includes(one.value);
    one.setAttribute("aria-pressed", String(state.focus === one.value));
  }
  for (const item of $$("[data-estimator]")) {
    item.classList.toggle("off", state.without.includes(item.dataset.estimator));
  }
}

function show() {
  showControls();
  // What is no choice here has left the state, and leaves the address.
  const words = String(address(state)), stated = location.hash.startsWith("#?");
  const next = words ? `#?${words}` : location.pathname + location.search;
  if (words || stated) history.replaceState(null, "", next);
  showTables();
  showFigures();
}

async function start() {
  const packed = Uint8Array.from(atob($("#data").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  DATA = await new Response(stream).json();
  BLANK.error = DATA.error;
  const menu = $(".bar details");
  const unchecked = () => $$("input[name=estimator]:not(:checked)").map((box) => box.value);
  const on = (selector, event, act) => {
    for (const one of $$(selector)) one.addEventListener(event, act);
  };
  on("[data-key]", "change", ({ target }) => set({ [target.dataset.key]: target.value }));
  on("input[name=estimator]", "change", () => set({ without: unchecked() }));
  on("#legend button", "click", ({ currentTarget: { value } }) =>
    set({ focus: state.focus === value ? "" : value }));
  on("#all", "click", () => set({ ...BLANK, run: state.run }));
  on("nav a", "click", (event) => {
    event.preventDefault();
    set({ section: event.target.hash.slice(1) });
  });
  on("#large button", "click", () => $("#large").close());
  document.addEventListener("click", ({ target }) => { menu.open &&= menu.contains(target); });
  on(".bar details", "keydown", ({ key }) => {
    if (key === "Escape") { menu.open = false; $("summary", menu).focus(); }
  });
  window.addEventListener("hashchange", () => {
    if (location.hash.startsWith("#?")) { recall(); show(); }
  });
  let wide = innerWidth;
  window.addEventListener("resize", () => {
    if (innerWidth !== wide) { wide = innerWidth; showFigures(); }
  });
  for (const hidden of $$("[data-script]")) hidden.hidden = false;
  recall();
  show();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
}
start();
