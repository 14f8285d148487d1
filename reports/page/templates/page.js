// The page: its state, which the address holds, and what it shows of the data for that state.
const FILTERS = ["dataset", "algorithm", "loss"];
const BLANK = {
  run: "0", dataset: "", algorithm: "", loss: "", without: [], focus: "", error: "", seconds: "", memory: "",
  y: "relative_error", x: "depth", yscale: "log", xscale: "auto", spread: "band", case: "", page: "0", section: "",
};
const PANELS = 6, ROWS = 25, CELLS = 40;
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
let DATA, state;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const button = (label, click, more = {}) => element("button", { type: "button", click, ...more }, label);
function look(name) {
  const place = Object.keys(DATA.looks).indexOf(name), made = element("span");
  made.innerHTML = `<svg class="look" viewBox="0 0 36 14" aria-hidden="true"><use href="#look-${place}"/></svg>`;
  return place < 0 ? "" : made.firstChild;
}
const breakable = (name) => name.split(/(?<=[(,])/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
function named(name, tag = "code", text = name) {
  return element("span", { class: "est" }, look(name), element(tag, {}, ...breakable(text)));
}
// Words between backticks are code.
const sentence = (text) => text.split(/`([^`]*)`/).map((part, index) => (index % 2 ? element("code", {}, part) : part));
function link(text, change) {
  const click = (event) => { event.preventDefault(); set(change); };
  return element("a", { href: `#?${address({ ...state, ...change })}`, click }, ...breakable(text));
}

// -- state

function address(of) {
  const kept = Object.entries(of).filter(([key, value]) => key in BLANK && String(value) !== String(BLANK[key]));
  return new URLSearchParams(kept.flatMap(([key, value]) => [value].flat().map((one) => [key, one])));
}

function recall() {
  const words = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  state = { ...BLANK, ...Object.fromEntries(words), without: words.getAll("without") };
  if (!DATA.runs[state.run]) state.run = BLANK.run;
}

function set(change) {
  const page = FILTERS.some((key) => key in change) ? BLANK.page : state.page;
  state = { ...state, page, ...change };
  history.replaceState(null, "", String(address(state)) ? `#?${address(state)}` : location.pathname + location.search);
  show();
  if (change.section) document.getElementById(change.section)?.scrollIntoView();
}

// "1e-4", "20 ms", "3 MiB"; what is no such number is no limit.
const UNITS = { s: 1, ms: 1e-3, "\u00b5s": 1e-6, us: 1e-6, gib: 2 ** 30, mib: 2 ** 20, kib: 2 ** 10, b: 1 };
function amount(text, unit = 1) {
  const [, digits, word] = /^\s*([\d.]+(?:e[+-]?\d+)?)\s*([a-z\u00b5]*)\s*$/i.exec(text) ?? [];
  const value = Number(digits) * (word ? UNITS[word.toLowerCase()] : unit);
  return value > 0 ? value : null;
}
const wanted = () => ({
  error: amount(state.error) ?? DATA.error, seconds: amount(state.seconds) ?? Infinity,
  memory: amount(state.memory, 2 ** 20) ?? Infinity,
});
const run = () => DATA.runs[state.run];
const cases = () => run().cases.filter((item) => FILTERS.every((key) => !state[key] || item[key] === state[key]));
const opened = () => run().cases.find((item) => item.name === state.case);
const shownNames = () => run().estimators.filter((name) => !state.without.includes(name));
// Times span decades; layers and bytes do not.
const xIsLog = () => (state.xscale === "auto" ? state.x === "seconds" : state.xscale === "log");
const dimmed = (name) => Boolean(state.focus) && state.focus !== name;

// -- tables

// A cell is text, or an object with its text, a key to sort by, details, an estimator and whether it is the best.
const full = (cell) => (typeof cell === "string" ? { text: cell } : cell);

// A table that sorts and turns pages, of the rows that the filters leave.
function table(host, { caption, columns, rows }) {
  const known = run().cases.map((item) => item.name), chosen = cases().map((item) => item.name);
  const { at, order: [column, direction] = [-1, 1] } = host;
  const again = (change) => { Object.assign(host, change); table(host, { caption, columns, rows }); };
  const kept = rows.map((row) => row.map(full)).filter((row) => {
    const of = Object.fromEntries(columns.map((name, place) => [name, row[place].text]));
    const owner = of.estimator ?? row[0].estimator;
    return (!known.includes(of.case) || chosen.includes(of.case)) && !state.without.includes(owner);
  });
  const head = columns.map((name, place) => {
    const sort = () => {
      again({ order: [place, place === column ? -direction : 1], at: 0 });
      $$("thead button", host)[place].focus();
    };
    const sorts = place === column ? (direction > 0 ? "ascending" : "descending") : null;
    return element("th", { scope: "col", "aria-sort": sorts }, button(name, sort));
  });
  const ordered = column < 0 ? kept : sorted(kept, column, direction);
  const [page, pager] = paged(ordered, at, ROWS, "rows", (next) => again({ at: next }));
  const body = page.map((row) => element("tr", {}, ...row.map((cell, place) => shownCell(cell, columns[place], !place))));
  const made = element("table", { class: "sorts" }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  const box = element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, made);
  host.replaceChildren(box, ...pager);
}

function shownCell({ text, key = null, details = [], best, estimator }, column, first) {
  const known = column === "case" && run().cases.some((item) => item.name === text);
  const shown = column === "estimator" ? [named(text)] : known ? [link(text, { case: text, section: "case" })]
    : estimator ? [named(estimator, "span", text)] : sentence(text);
  const content = [...shown, ...details.map((detail) => element("small", {}, detail))];
  const parts = best ? [element("strong", {}, ...content)] : content;
  if (first) return element("th", { scope: "row" }, ...parts);
  const bad = column === "status" && !["ok", "certified", "limit", DASH].includes(text);
  return element("td", { class: bad ? "bad" : text.length > 40 ? "long" : null, "data-key": key }, ...parts);
}

// Numbers come before words, and what is not known last in either order.
function sorted(rows, column, direction) {
  const value = ({ text, key = null }) => (key === null ? text.trim() : Number(key));
  const unknown = (one) => one === "" || one === DASH, word = (one) => typeof one === "string";
  const compare = (one, two) => word(one) - word(two)
    || (word(one) ? one.localeCompare(two, undefined, { numeric: true }) : one - two || 0);
  return rows.map((row) => [value(row[column]), row])
    .sort(([one], [two]) => unknown(one) - unknown(two) || direction * compare(one, two)).map(([, row]) => row);
}

// One page of items, and what turns the pages, if there are several.
function paged(items, at, size, what, turn) {
  const last = Math.max(Math.ceil(items.length / size) - 1, 0), now = Math.min(at ?? 0, last);
  const page = items.slice(now * size, (now + 1) * size);
  const to = (label, next) => button(label, () => turn(next), next < 0 || next > last ? { disabled: "" } : {});
  const where = element("span", {}, ` ${what} ${now * size + 1} to ${now * size + page.length} of ${items.length} `);
  return [page, last ? [element("p", { class: "pager" }, to("previous", now - 1), where, to("next", now + 1))] : []];
}

// -- answers and budgets

const LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified";
function showAnswers() {
  const wish = wanted(), host = $("#answers tbody"), turn = (next) => { host.at = next; showAnswers(); };
  const [page, pager] = paged(cases(), host.at, ROWS, "cases", turn);
  host.replaceChildren(...page.map((item) => {
    const found = answer(run(), item, wish), title = link(item.dataset, { case: item.name, section: "case" });
    const badge = item.badge ? [" ", element("span", { class: "badge", title: LIMIT }, item.badge)] : [];
    const cell = (label, ...value) => element("td", { class: "number", "data-label": label }, ...value);
    const range = found.range ? [" ", element("small", {}, found.range)] : [];
    return element("tr", { "data-case": item.name },
      element("th", { scope: "row" }, title, ...badge, element("small", {}, `${item.algorithm}, ${item.loss} loss`)),
      element("td", { class: "use" }, found.name ? named(found.name) : "no answer"), cell("error", found.error),
      cell("layers", found.depth), cell("time", found.time, ...range), cell("memory", found.memory),
      element("td", { class: "why" }, ...sentence(found.short)));
  }));
  $("#answer-pages").replaceChildren(...pager);
  const either = (limit, several) => (limit === Infinity ? several : [limit]), { limits } = run();
  const goals = [...new Set([wish.error, 1e-1, 1e-6])].sort((one, two) => two - one);
  const wishes = [
    ...goals.map((error) => [`error ${number(error, 1)}`, { error }]),
    ...either(wish.seconds, limits.seconds).map((limit) => [`within ${seconds(limit)}`, { seconds: limit }]),
    ...either(wish.memory, limits.memory).map((limit) => [`within ${memory(limit)}`, { memory: limit }]),
  ];
  const rows = page.map((item) => [item.name, ...wishes.map(([, one]) => {
    const [name, value] = budget(run(), item, one);
    return name ? { text: name, estimator: name, details: [value] } : value;
  })]);
  const columns = ["case", ...wishes.map(([title]) => title)];
  table($("#budget-table"), { caption: "Which estimator at which budget", columns, rows });
}

// -- figures

// The rows of a case's curves; a logarithm has no place for zero.
function curveRows(item, metric) {
  const xLog = xIsLog(), yLog = state.yscale === "log", [, unit] = DATA.axes[state.x];
  return shownNames().flatMap((name) => {
    const place = run().estimators.indexOf(name), spread = item[metric][place];
    const point = (line, depth, y, more) => {
      const [time, space] = [item.seconds[place], item.memory[place]].map((cost) => costInside(cost, depth));
      const x = { depth, seconds: time, memory: space }[state.x] / unit;
      if (y === null || !(x >= 0) || (xLog && x <= 0) || (yLog && y <= 0)) return [];
      return [{ name, estimator: name, line: `${name} ${line}`, case: item.name, depth, x, y, order: depth, value: number(y),
        exact: y, ...more, time: seconds(time), memory: memory(space), dim: dimmed(name) }];
    };
    if (state.spread === "seeds" && !run().condensed) return item.seeds.flatMap((seed, column) => spread
      .flatMap(({ depth, values }) => point(seed, depth, values[column], { seed, range: "", status: "ok" })));
    return spread.flatMap(({ depth, middle, least, greatest, status = "ok" }) => {
      const wide = state.spread === "band" && greatest > least && (!yLog || least > 0);
      const ends = { range: range(least, greatest), least, greatest, ...(wide ? { low: least, high: greatest } : {}) };
      return point("median", depth, middle, { seed: "median", status, ...ends });
    });
  });
}

function errorChart(item, metric, height) {
  const names = shownNames(), rows = curveRows(item, metric), [xTitle] = DATA.axes[state.x], yTitle = DATA.metrics[metric];
  const yLog = state.yscale === "log", plain = metric === "relative_error" && yLog;
  const slopes = item.theory.filter(({ estimator }) => names.includes(estimator) && !dimmed(estimator));
  const onDepth = state.x === "depth" && state.spread !== "none";
  const near = Math.min(...rows.map(({ y }) => y)) < item.bound * 1e3;
  const level = { y: item.bound, label: item.badge ? "estimated error of the limit" : "certified bound" };
  const ends = names.map((name) => rows.findLast((row) => row.name === name)).filter(Boolean);
  const last = ends.map(({ name, value, depth }) => `${name} ${value} at depth ${depth}`).join("; ");
  return {
    title: item.name, open: item.name, height, note: rows.length ? "" : "Nothing was measured here.",
    about: `${item.name}: ${yTitle} against ${xTitle}. Last values: ${last}.`, file: `${metric}-${state.x}-${item.name}`,
    spec: filled({ kind: "lines", xTitle, yTitle, xLog: xIsLog(), yLog }),
    data: { rows, theory: plain && onDepth ? slopes : [], levels: plain && near ? [level] : [] },
  };
}

// Time to the wanted error, over that of the fastest: estimators by cases.
function overview() {
  const goal = wanted().error, names = shownNames(), shown = cases().filter((item) => !item.badge).slice(0, CELLS);
  const rows = shown.flatMap((item) => {
    const found = names.map((name) => ({ name, ...reach(item, run().estimators.indexOf(name), goal) }));
    const fastest = Math.min(...found.map(({ seconds: [time] }) => time).filter((time) => time > 0));
    return found.map(({ name, place, depth, seconds: time, memory: space }) => {
      const reached = Number.isFinite(depth), value = reached && time[0] > 0 ? time[0] / fastest : null;
      const missing = item.relative_error[place].length ? "not reached" : item.status[place] || DASH;
      const mark = value !== null ? number(value) : reached ? "time?" : missing;
      return { x: item.name, y: name, case: item.name, estimator: name, value, shown: mark,
        text: shown.length > 12 && value === null ? "" : mark, depth: reached ? depth : "not reached",
        time: seconds(...time), memory: memory(...space) };
    });
  });
  // The darker half of the scale has white text.
  const slowest = Math.max(...rows.map((row) => row.value ?? 1), 10), { spec } = structuredClone(DATA.specs.matrix);
  for (const row of rows) row.light = row.value ** 2 > slowest;
  spec.encoding.x.sort = shown.map((item) => item.name);
  spec.encoding.y.sort = names;
  spec.layer[0].encoding.color.scale.domain = [1, slowest];
  const left = cases().some((item) => item.badge) ? "Cases that are scored against a limit are left out." : "";
  const cut = `The first ${CELLS} of ${cases().length} cases: narrow the filter to see others.`;
  const title = `Time to an error of ${number(goal, 1)}, over that of the fastest`;
  return {
    title, about: `${title}, of every estimator on each case.`, file: "time-to-goal", spec, data: { rows },
    note: cases().length > CELLS ? cut : left, height: Math.max(110 + 24 * names.length, 250), wide: cases().length > 3,
    least: 200 + 26 * shown.length,
  };
}

// A chart whose rows Python has made: what is left are filters, and what the horizontal axis shows.
function given(chart) {
  const [field, xTitle] = chart.x.find(([name]) => name === state.x) ?? chart.x[0], xLog = chart.xLog ?? xIsLog();
  const chosen = cases().map((item) => item.name), keeps = (row) => !row.case || chosen.includes(row.case);
  const rows = chart.rows.filter((row) => keeps(row) && !state.without.includes(row.estimator ?? row.name))
    .map((row) => ({ ...row, x: row[field], dim: dimmed(row.name) })).filter(({ x }) => x !== null && !(xLog && x <= 0));
  return { ...chart, spec: chart.spec ?? filled({ ...chart, xTitle, xLog }), data: { ...chart.data, rows } };
}

// Over runs, machine by machine: the error at the deepest depth, and time and memory to the wanted error.
function trends() {
  const item = opened() ?? cases()[0], goal = wanted().error, host = $("#trends");
  if (!item || !host) return [];
  const machines = [...new Set(DATA.runs.map((of) => of.machine))];
  const dated = [...DATA.runs].sort((one, two) => (one.date < two.date ? -1 : 1));
  const deepest = (one, place) => one.relative_error[place].at(-1)?.middle;
  const to = (cost) => (one, place) => reach(one, place, goal)[cost][0];
  const measures = [
    ["error", [""], "relative error at the deepest depth", 1, deepest, number],
    ["time", machines, `time to ${number(goal, 1)} (ms)`, 1e-3, to("seconds"), seconds],
    ["memory", machines, "memory there (MiB)", 2 ** 20, to("memory"), memory],
  ];
  return measures.flatMap(([measure, places, yTitle, unit, find, text]) => places.map((machine) => {
    const order = dated.filter((of) => !machine || of.machine === machine);
    const rows = order.flatMap((of, x) => shownNames().flatMap((name) => {
      const place = of.estimators.indexOf(name), same = of.cases.find((one) => one.name === item.name);
      const value = same && place >= 0 ? find(same, place) : NaN;
      const origin = { run: of.label, commit: of.commit, date: of.date.slice(0, 10), machine: of.machine };
      return value > 0 ? [{ name, estimator: name, line: name, x, y: value / unit, order: x, value: text(value), ...origin,
        dim: dimmed(name) }] : [];
    }));
    const spec = filled({ kind: "trend", xTitle: "runs, from the oldest", yTitle, xLog: false, yLog: true });
    const labelExpr = `${JSON.stringify(order.map(({ label }) => label))}[datum.value]`, values = [...order.keys()];
    spec.encoding.x.scale = { domain: [-0.3, order.length - 0.7] };
    spec.encoding.x.axis = { values, labelExpr, grid: false };
    const title = `${item.name}: ${measure}${machine ? ` on ${machine}` : ""}`;
    return [`trend-${measure}-${machine}`, host, () => ({ title, about: `${title}, over runs.`, spec, data: { rows } })];
  }));
}

const figures = new Map();
async function showFigures() {
  const token = (showFigures.token = {}), chosen = cases(), item = opened();
  const [panels, pager] = paged(chosen, Number(state.page), PANELS, "cases", (next) => set({ page: String(next) }));
  $("#panel-pages")?.replaceChildren(...pager);
  const metrics = item ? Object.keys(DATA.metrics).filter((metric) => item[metric]) : [];
  const charts = [...DATA.charts, ...run().charts, ...(item?.charts ?? [])].map(given);
  const work = [
    ...panels.map((one, place) => [`panel-${place}`, $("#panels"), () => errorChart(one, state.y, 250)]),
    ...(chosen.length ? [["overview", $("#across"), overview]] : []),
    ...metrics.map((metric) => [`case-${metric}`, $("#case-figures"),
      () => ({ ...errorChart(item, metric, 300), title: DATA.metrics[metric], open: null })]),
    ...charts.map((one, place) => [`${one.host} ${place}`, one.data.rows.length ? $(one.host) : null, () => one]),
    ...trends(),
  ].filter(([, host]) => host);
  const kept = new Set(work.map(([name]) => name));
  for (const [name, one] of figures) if (!kept.has(name)) { one.remove(); figures.delete(name); }
  for (const [name, host] of work) if (!figures.has(name)) figures.set(name, new Figure(host));
  for (const [name, , make] of work) {
    // A later change of the state makes the rest of this one obsolete; between two charts the page stays responsive.
    if (showFigures.token !== token) return;
    await figures.get(name).draw(make());
    await new Promise((done) => setTimeout(done));
  }
  document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
}

// -- one case

function showCase() {
  const item = opened(), wish = wanted(), goal = number(wish.error, 1);
  $("#case-body").hidden = !item;
  if (!item) return;
  const facts = `${item.dataset}, ${item.algorithm}, ${item.loss} loss, against ${item.target}, ${counted(item.seeds.length, "seed")}.`;
  $("#case-facts").textContent = item.badge ? `${facts} ${LIMIT}.` : facts;
  $("#case-findings").replaceChildren(...sentence(`${answer(run(), item, wish).short} ${item.findings}`));
  const rows = run().estimators.map((name, place) => {
    const found = reach(item, place, wish.error), known = Number.isFinite(found.depth);
    const last = item.relative_error[place].at(-1);
    const cell = (text, key, details = []) => ({ text, key: Number.isNaN(key) ? null : String(key), details });
    const [time, space] = known ? [found.seconds, found.memory] : [[NaN], [NaN]];
    const ends = last?.greatest > last?.least ? [`(${range(last.least, last.greatest)})`] : [];
    return [
      name, last ? cell(number(last.middle), last.middle, [...ends, ...(last.status ? [last.status] : [])]) : DASH,
      last ? cell(String(last.depth), last.depth) : DASH,
      cell(known ? found.depth.toFixed(0) : last ? "not reached" : DASH, found.depth), cell(seconds(...time), time[0]),
      cell(memory(...space), space[0]), item.status[place] || DASH, item.reason[place] || DASH,
    ];
  });
  const columns = ["estimator", "error at its deepest depth", "deepest depth", `layers to ${goal}`, `time to ${goal}`,
    "memory there", "status", "reason"];
  table($("#case-table"), { caption: `Every estimator on ${item.name}`, columns, rows });
}

// -- everything

function showControls() {
  for (const control of $$("[data-key]")) {
    const { key } = control.dataset;
    control.value = state[key];
    // An address of another report chooses what there is of it.
    if (control.value !== state[key]) control.value = state[key] = BLANK[key];
  }
  for (const key of ["error", "seconds", "memory"]) {
    $(`#want-${key}`)?.setAttribute("aria-invalid", String(state[key] !== "" && amount(state[key]) === null));
  }
  const boxes = $$("input[name=estimator]"), chosen = cases().map((item) => item.name);
  for (const box of boxes) box.checked = !state.without.includes(box.value);
  for (const option of $$("#choose-case option")) option.hidden = option.value && !chosen.includes(option.value);
  const left = boxes.filter((box) => box.checked).length;
  $(".bar summary span").textContent = left < boxes.length ? `${left} of ${boxes.length}` : left;
  $(".bar output").textContent = run().cases.length ? `${chosen.length} of ${counted(run().cases.length, "case")}` : "";
  for (const one of $$("#legend button")) {
    one.hidden = !shownNames().includes(one.value);
    one.setAttribute("aria-pressed", String(state.focus === one.value));
  }
  for (const item of $$("[data-estimator]")) item.classList.toggle("off", state.without.includes(item.dataset.estimator));
}

function show() {
  showControls();
  if ($("#answers")) { showAnswers(); showCase(); }
  for (const host of $$("[data-table]")) {
    const [where, name] = host.dataset.table.split(":"), found = (where === "run" ? run() : DATA).tables[name];
    if (found?.rows.length) table(host, found);
    else host.replaceChildren(element("p", { class: "soft" }, host.dataset.none ?? "Nothing."));
  }
  showFigures();
}

async function start() {
  const packed = Uint8Array.from(atob($("#data").textContent), (letter) => letter.charCodeAt(0));
  DATA = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  const menu = $(".bar details"), unchecked = () => $$("input[name=estimator]:not(:checked)").map((box) => box.value);
  const on = (selector, event, act) => { for (const one of $$(selector)) one.addEventListener(event, act); };
  on("[data-key]", "change", ({ target }) => set({ [target.dataset.key]: target.value }));
  on("input[name=estimator]", "change", () => set({ without: unchecked() }));
  on("#legend button", "click", ({ currentTarget: { value } }) => set({ focus: state.focus === value ? "" : value }));
  on("#all", "click", () => set({ ...BLANK, run: state.run }));
  on("nav a", "click", (event) => { event.preventDefault(); set({ section: event.target.hash.slice(1) }); });
  on("#large button", "click", () => $("#large").close());
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  on(".bar details", "keydown", ({ key }) => { if (key === "Escape") { menu.open = false; $("summary", menu).focus(); } });
  window.addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) { recall(); show(); } });
  let wide = innerWidth;
  window.addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; showFigures(); } });
  for (const hidden of $$("[data-script]")) hidden.hidden = false;
  recall();
  show();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
}
start();
