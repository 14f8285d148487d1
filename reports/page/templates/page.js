// The page: its state, which the address holds, and what it shows of the data for that state.
const FILTERS = ["dataset", "algorithm", "loss"];
const BLANK = {
  run: "0", dataset: "", algorithm: "", loss: "", without: [], focus: "", error: "", seconds: "", memory: "", y: "relative_error",
  x: "depth", yscale: "log", xscale: "auto", spread: "band", case: "", page: "0", section: "",
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
const named = (name) => element("span", { class: "est" }, look(name), element("code", {}, ...breakable(name)));
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
  const [caseAt, nameAt] = ["case", "estimator"].map((name) => columns.indexOf(name));
  const known = run().cases.map((item) => item.name), chosen = cases().map((item) => item.name);
  const { at, order: [column, direction] = [-1, 1] } = host;
  const again = (change) => { Object.assign(host, change); table(host, { caption, columns, rows }); };
  const kept = rows.map((row) => row.map(full)).filter((row) => {
    const name = row[caseAt]?.text, owner = nameAt < 0 ? row[0].estimator : row[nameAt].text;
    return (!known.includes(name) || chosen.includes(name)) && !state.without.includes(owner);
  });
  const head = columns.map((name, place) => {
    const sort = () => {
      again({ order: [place, place === column ? -direction : 1], at: 0 });
      $$("thead button", host)[place].focus();
    };
    const sorts = place === column ? (direction > 0 ? "ascending" : "descending") : null;
    return element("th", { scope: "col", "aria-sort": sorts }, button(name, sort));
  });
  const [page, pager] = paged(column < 0 ? kept : sorted(kept, column, direction), at, ROWS, "rows", (next) => again({ at: next }));
  const body = page.map((row) => element("tr", {}, ...row.map((cell, place) => shownCell(cell, columns[place], !place, known))));
  const made = element("table", { class: "sorts" }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  host.replaceChildren(element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, made), ...pager);
}

function shownCell({ text, key = null, details = [], best, estimator }, column, first, known) {
  const plain = estimator ? [element("span", { class: "est" }, look(estimator), element("span", {}, ...breakable(text)))] : sentence(text);
  const content = [...(column === "estimator" ? [named(text)] : plain), ...details.map((detail) => element("small", {}, detail))];
  if (first && column === "case" && known.includes(text)) return element("th", { scope: "row" }, link(text, { case: text, section: "case" }));
  const parts = best ? [element("strong", {}, ...content)] : content;
  if (first) return element("th", { scope: "row" }, ...parts);
  const bad = column === "status" && !["ok", "certified", "limit", DASH].includes(text);
  return element("td", { class: bad ? "bad" : null, "data-key": key }, ...parts);
}

// Numbers come before words, and what is not known last in either order.
function sorted(rows, column, direction) {
  const value = ({ text, key = null }) => (key === null ? text.trim() : Number(key));
  const rank = (one) => (one === "" || one === DASH ? 2 : 0);
  const compare = (one, two) => (typeof one !== typeof two ? (typeof one === "number" ? -1 : 1)
    : typeof one === "number" ? one - two || 0 : one.localeCompare(two, undefined, { numeric: true }));
  return rows.map((row) => [value(row[column]), row])
    .sort(([one], [two]) => rank(one) - rank(two) || direction * compare(one, two)).map(([, row]) => row);
}

// One page of items, and what turns the pages, if there are several.
function paged(items, at, size, what, turn) {
  const last = Math.max(Math.ceil(items.length / size) - 1, 0), now = Math.min(at ?? 0, last);
  const page = items.slice(now * size, (now + 1) * size);
  const to = (label, next) => button(label, () => turn(next), next < 0 || next > last ? { disabled: "" } : {});
  const where = ` ${what} ${now * size + 1} to ${now * size + page.length} of ${items.length} `;
  return [page, last ? [element("p", { class: "pager" }, to("previous", now - 1), element("span", {}, where), to("next", now + 1))] : []];
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
    return element("tr", { "data-case": item.name },
      element("th", { scope: "row" }, title, ...badge, element("small", {}, `${item.algorithm}, ${item.loss} loss`)),
      element("td", { class: "use" }, found.name ? named(found.name) : "no answer"), cell("error", found.error),
      cell("layers", found.depth), cell("time", found.time, ...(found.range ? [" ", element("small", {}, found.range)] : [])),
      cell("memory", found.memory), element("td", { class: "why" }, ...sentence(found.short)));
  }));
  $("#answer-pages").replaceChildren(...pager);
  const either = (limit, several) => (limit === Infinity ? several : [limit]), { limits } = run();
  const wishes = [
    ...[...new Set([wish.error, 1e-1, 1e-6])].sort((one, two) => two - one).map((error) => [`error ${number(error, 1)}`, { error }]),
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

const X = {
  depth: ["depth (layers)", 1], seconds: ["time of one gradient (ms)", 1e-3],
  memory: ["peak memory above the problem's (MiB)", 2 ** 20],
};
const tips = (titles) => Object.entries(titles).map(([field, title]) => ({ field, title }));
const TIPS = tips({
  estimator: "estimator", depth: "depth", value: "value", range: "over seeds", seed: "seed", time: "time", memory: "memory",
  status: "status",
});

// The rows of a case's curves; a logarithm has no place for zero.
function curveRows(item, metric) {
  const xLog = xIsLog(), yLog = state.yscale === "log", [, unit] = X[state.x];
  return shownNames().flatMap((name) => {
    const place = run().estimators.indexOf(name), spread = item[metric][place], dim = dimmed(name);
    const point = (line, depth, y, more) => {
      const [time, space] = [item.seconds[place], item.memory[place]].map((cost) => costInside(cost, depth));
      const x = { depth, seconds: time, memory: space }[state.x] / unit, drawn = x >= 0 && (!xLog || x > 0) && (!yLog || y > 0);
      return y !== null && drawn ? [{ name, estimator: name, line: `${name} ${line}`, case: item.name, depth, x, y, order: depth,
        value: number(y), exact: y, ...more, time: seconds(time), memory: memory(space), dim }] : [];
    };
    if (state.spread === "seeds" && !run().condensed) return item.seeds.flatMap((seed, column) => spread
      .flatMap(({ depth, values }) => point(seed, depth, values[column], { seed, range: "", status: "ok" })));
    return spread.flatMap(({ depth, middle, least, greatest, status = "ok" }) => {
      const band = state.spread === "band" && greatest > least && (!yLog || least > 0) ? { low: least, high: greatest } : {};
      return point("median", depth, middle, { seed: "median", range: range(least, greatest), least, greatest, status, ...band });
    });
  });
}

function errorChart(item, metric, height) {
  const names = shownNames(), rows = curveRows(item, metric), [xTitle] = X[state.x], yLog = state.yscale === "log";
  const plain = metric === "relative_error" && yLog, lowest = Math.min(...rows.map(({ y }) => y));
  const slopes = item.theory.filter(({ estimator }) => names.includes(estimator) && !dimmed(estimator));
  const level = { y: item.bound, label: item.badge ? "estimated error of the limit" : "certified bound" };
  const ends = names.map((name) => rows.findLast((row) => row.name === name)).filter(Boolean);
  const last = ends.map(({ name, value, depth }) => `${name} ${value} at depth ${depth}`).join("; ");
  return {
    title: item.name, open: item.name, height, note: rows.length ? "" : "Nothing was measured here.",
    about: `${item.name}: ${DATA.metrics[metric]} against ${xTitle}. Last values: ${last}.`, file: `${metric}-${state.x}-${item.name}`,
    spec: filled({ kind: "lines", xTitle, yTitle: DATA.metrics[metric], xLog: xIsLog(), yLog, tooltip: TIPS }),
    data: { rows, theory: plain && state.x === "depth" && state.spread !== "none" ? slopes : [],
      levels: plain && lowest < item.bound * 1e3 ? [level] : [] },
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
      return { x: item.name, y: name, case: item.name, estimator: name, value, text: shown.length > 12 && value === null ? "" : mark,
        shown: mark, depth: reached ? depth : "not reached", time: seconds(...time), memory: memory(...space) };
    });
  });
  // The darker half of the scale has white text.
  const slowest = Math.max(...rows.map((row) => row.value ?? 1), 10), { spec } = structuredClone(DATA.specs.matrix);
  for (const row of rows) row.light = row.value ** 2 > slowest;
  spec.encoding.x.sort = shown.map((item) => item.name);
  spec.encoding.y.sort = names;
  spec.layer[0].encoding.color.scale.domain = [1, slowest];
  const cut = cases().length > CELLS ? `The first ${CELLS} of ${cases().length} cases: narrow the filter to see others.` : "";
  const left = cases().some((item) => item.badge) ? "Cases that are scored against a limit are left out." : "";
  const title = `Time to an error of ${number(goal, 1)}, over that of the fastest`;
  return { title, about: `${title}, of every estimator on each case.`, file: "time-to-goal", spec, data: { rows }, note: cut || left,
    height: Math.max(110 + 24 * names.length, 250), wide: cases().length > 3, least: 200 + 26 * shown.length };
}

// A chart whose rows Python has made: what is left are filters, and what the horizontal axis shows.
function given(chart) {
  const { x: [field, xTitle] = [], xLog = xIsLog() } = { ...chart, x: chart.x.find(([name]) => name === state.x) ?? chart.x[0] };
  const chosen = cases().map((item) => item.name), keeps = (row) => !row.case || chosen.includes(row.case);
  const rows = chart.rows.filter((row) => keeps(row) && !state.without.includes(row.estimator ?? row.name))
    .map((row) => ({ ...row, x: row[field], dim: dimmed(row.name) })).filter(({ x }) => x !== null && !(xLog && x <= 0));
  return { ...chart, spec: chart.spec ?? filled({ ...chart, xTitle, xLog }), data: { ...chart.data, rows } };
}

// Over runs, machine by machine: the error at the deepest depth, and time and memory to the wanted error.
function trends() {
  const item = opened() ?? cases()[0], goal = wanted().error, machines = [...new Set(DATA.runs.map((one) => one.machine))];
  if (!item || !$("#trends")) return [];
  const to = (cost) => (one, place) => reach(one, place, goal)[cost][0];
  const measures = [
    ["error", [""], "relative error at the deepest depth", 1, (one, place) => one.relative_error[place].at(-1)?.middle, number],
    ["time", machines, `time to ${number(goal, 1)} (ms)`, 1e-3, to("seconds"), (value) => seconds(value)],
    ["memory", machines, "memory there (MiB)", 2 ** 20, to("memory"), (value) => memory(value)],
  ];
  return measures.flatMap(([measure, places, yTitle, unit, find, text]) => places.map((machine) => {
    const order = DATA.runs.filter((of) => !machine || of.machine === machine).sort((one, two) => (one.date < two.date ? -1 : 1));
    const rows = order.flatMap(({ label, commit, date, machine: origin, estimators, cases: found }, x) => shownNames().flatMap((name) => {
      const place = estimators.indexOf(name), same = found.find((one) => one.name === item.name);
      const value = same && place >= 0 ? find(same, place) : NaN;
      return value > 0 ? [{ name, estimator: name, line: name, x, y: value / unit, order: x, value: text(value), run: label, commit,
        date: date.slice(0, 10), machine: origin, dim: dimmed(name) }] : [];
    }));
    const tooltip = tips({ estimator: "estimator", run: "run", commit: "commit", date: "date", machine: "machine", value: "value" });
    const spec = filled({ kind: "lines", xTitle: "runs, from the oldest", yTitle, xLog: false, yLog: true, tooltip });
    const labelExpr = `${JSON.stringify(order.map(({ label }) => label))}[datum.value]`, values = [...order.keys()];
    Object.assign(spec.encoding.x, { scale: { domain: [-0.3, order.length - 0.7] }, axis: { values, labelExpr, grid: false } });
    const title = `${item.name}: ${measure}${machine ? ` on ${machine}` : ""}`;
    return [`trend-${measure}-${machine}`, $("#trends"), () => ({ title, about: `${title}, over runs.`, spec, data: { rows } })];
  }));
}

const figures = new Map();
async function showFigures() {
  const token = (showFigures.token = {}), chosen = cases(), item = opened();
  const [panels, pager] = paged(chosen, Number(state.page), PANELS, "cases", (next) => set({ page: String(next) }));
  $("#panel-pages")?.replaceChildren(...pager);
  const metrics = item ? Object.keys(DATA.metrics).filter((metric) => item[metric]) : [];
  const charts = [...DATA.charts, ...run().charts, ...(item?.charts ?? [])].map(given).filter(({ data }) => data.rows.length);
  const work = [
    ...panels.map((one, place) => [`panel-${place}`, $("#panels"), () => errorChart(one, state.y, 250)]),
    ...(chosen.length ? [["overview", $("#across"), overview]] : []),
    ...metrics.map((metric) => [`case-${metric}`, $("#case-figures"),
      () => ({ ...errorChart(item, metric, 300), title: DATA.metrics[metric], open: null })]),
    ...charts.map((chart) => [`${chart.host} ${chart.title}`, $(chart.host), () => chart]),
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
  const badge = item.badge ? ` ${LIMIT}.` : "", facts = `${item.dataset}, ${item.algorithm}, ${item.loss} loss, against ${item.target}`;
  $("#case-facts").textContent = `${facts}, ${item.seeds.length} seeds.${badge}`;
  $("#case-findings").replaceChildren(...sentence(`${answer(run(), item, wish).short} ${item.findings}`));
  const rows = run().estimators.map((name, place) => {
    const found = reach(item, place, wish.error), last = item.relative_error[place].at(-1), known = Number.isFinite(found.depth);
    const cell = (text, key, details = []) => ({ text, key: Number.isNaN(key) ? null : String(key), details });
    const details = last ? [last.greatest > last.least && `(${range(last.least, last.greatest)})`, last.status].filter(Boolean) : [];
    const [time, space] = known ? [found.seconds, found.memory] : [[NaN], [NaN]];
    return [
      name, last ? cell(number(last.middle), last.middle, details) : DASH, last ? cell(String(last.depth), last.depth) : DASH,
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
  $(".bar summary span").textContent = state.without.length ? `${$$("input:checked").length} of ${boxes.length}` : boxes.length;
  $(".bar output").textContent = run().cases.length ? `${chosen.length} of ${run().cases.length} cases` : "";
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
  const menu = $(".bar details"), on = (selector, event, act) => $$(selector).forEach((one) => one.addEventListener(event, act));
  on("[data-key]", "change", ({ target }) => set({ [target.dataset.key]: target.value }));
  on("input[name=estimator]", "change", () => set({ without: $$("input[name=estimator]:not(:checked)").map((one) => one.value) }));
  on("#legend button", "click", ({ currentTarget: { value } }) => set({ focus: state.focus === value ? "" : value }));
  on("#all", "click", () => set({ ...BLANK, run: state.run }));
  on("nav a", "click", (event) => { event.preventDefault(); set({ section: event.target.hash.slice(1) }); });
  on("#large button", "click", () => $("#large").close());
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", ({ key }) => { if (key === "Escape") { menu.open = false; $("summary", menu).focus(); } });
  window.addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) { recall(); show(); } });
  let wide = innerWidth;
  window.addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; showFigures(); } });
  for (const hidden of $$("[data-script]")) hidden.hidden = false;
  recall();
  show();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
}
start();
