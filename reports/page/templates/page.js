// The page: its state, which the address holds, and what it shows of the data for that state.
const KEYS = ["dataset", "algorithm", "loss"];
const BLANK = {
  run: "0", dataset: "", algorithm: "", loss: "", without: [], focus: "", error: "", seconds: "", memory: "", y: "relative_error",
  x: "depth", yscale: "log", xscale: "auto", spread: "band", case: "", page: "0", section: "",
};
const PANELS = 6, ROWS = 25, CELLS = 40;
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
let DATA, state = { ...BLANK };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function look(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS(svg.namespaceURI, "use");
  svg.setAttribute("class", "look");
  svg.setAttribute("viewBox", "0 0 36 14");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#look-${Object.keys(DATA.looks).indexOf(name)}`);
  svg.append(use);
  return svg;
}

function breakable(name) {
  return name.split(/(?<=[(_,])/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
}
const named = (name) => element("span", { class: "est" }, ...(name in DATA.looks ? [look(name)] : []), element("code", {}, ...breakable(name)));
// Words between backticks are code.
const sentence = (text) => text.split(/`([^`]*)`/).map((part, index) => (index % 2 ? element("code", {}, part) : part));
function link(text, change) {
  const made = element("a", { href: `#?${address({ ...state, ...change })}` }, text);
  made.addEventListener("click", (event) => { event.preventDefault(); set(change); });
  return made;
}

// -- state

function address(of) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(of)) {
    if (Array.isArray(value)) for (const one of value) words.append(key, one);
    else if (value !== BLANK[key]) words.append(key, value);
  }
  return words.toString();
}

function recall() {
  const words = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  state = Object.fromEntries(Object.entries(BLANK).map(([key, blank]) => [key, Array.isArray(blank) ? words.getAll(key) : words.get(key) ?? blank]));
  // An address of another report chooses what there is of it.
  if (!DATA.runs[state.run]) state.run = BLANK.run;
  for (const control of $$("select[data-key]")) {
    if (![...control.options].some((option) => option.value === state[control.dataset.key])) state[control.dataset.key] = BLANK[control.dataset.key];
  }
  if (state.case && !DATA.runs[state.run].cases.some((item) => item.name === state.case)) state.case = "";
}

function set(change) {
  state = { ...state, page: "0", ...change };
  const words = address(state);
  history.replaceState(null, "", words ? `#?${words}` : location.pathname + location.search);
  show();
  if ("section" in change) document.getElementById(change.section)?.scrollIntoView();
}

// "1e-4", "20 ms", "3 MiB"; what is no such number is no limit.
const UNITS = { s: 1, ms: 1e-3, "\u00b5s": 1e-6, us: 1e-6, gib: 2 ** 30, mib: 2 ** 20, kib: 2 ** 10, b: 1 };
function amount(text, unit) {
  const found = /^\s*([\d.]+(?:e[+-]?\d+)?)\s*([a-z\u00b5]*)\s*$/i.exec(text);
  const value = found ? Number(found[1]) * (found[2] ? UNITS[found[2].toLowerCase()] ?? NaN : unit) : NaN;
  return value > 0 ? value : null;
}
const wanted = () => ({
  error: amount(state.error, 1) ?? DATA.error, seconds: amount(state.seconds, 1) ?? Infinity,
  memory: amount(state.memory, 2 ** 20) ?? Infinity,
});
const run = () => DATA.runs[state.run];
const cases = () => run().cases.filter((item) => KEYS.every((key) => !state[key] || item[key] === state[key]));
const shownNames = () => run().estimators.filter((name) => !state.without.includes(name));
// Times span decades; layers and bytes do not.
const xIsLog = () => (state.xscale === "auto" ? state.x === "seconds" : state.xscale === "log");
const dimmed = (name) => Boolean(state.focus) && state.focus !== name;

// -- tables

// A table with sorting, whose rows are filtered and paged; cells are text or [text, key, details, best, estimator].
function table(host, { caption, columns, rows }, id) {
  const place = { case: columns.indexOf("case"), estimator: columns.indexOf("estimator") };
  const known = new Set(run().cases.map((item) => item.name)), chosen = new Set(cases().map((item) => item.name));
  const text = (cell) => (Array.isArray(cell) ? cell[0] : cell);
  const ownerOf = (row) => (place.estimator >= 0 ? text(row[place.estimator]) : Array.isArray(row[0]) ? row[0][4] : "");
  let kept = rows.filter((row) => (place.case < 0 || !known.has(text(row[place.case])) || chosen.has(text(row[place.case])))
    && !state.without.includes(ownerOf(row)));
  const order = host.order ?? [-1, 1], at = Math.min(host.at ?? 0, Math.max(Math.ceil(kept.length / ROWS) - 1, 0));
  if (order[0] >= 0) kept = sorted(kept, ...order);
  const page = kept.slice(at * ROWS, (at + 1) * ROWS);
  const again = (change) => { Object.assign(host, change); table(host, { caption, columns, rows }, id); };
  const head = columns.map((name, column) => {
    const button = element("button", { type: "button" }, name), direction = order[0] === column ? (order[1] > 0 ? "ascending" : "descending") : null;
    button.addEventListener("click", () => {
      again({ order: [column, order[0] === column ? -order[1] : 1], at: 0 });
      $$("thead button", host)[column].focus();
    });
    return element("th", { scope: "col", "aria-sort": direction }, button);
  });
  const body = page.map((row) => element("tr", {}, ...row.map((cell, column) => {
    const [shown, key, details, best, owner] = Array.isArray(cell) ? cell : [cell, null, [], 0, ""];
    const content = columns[column] === "estimator" ? named(shown) : owner ? element("span", { class: "est" }, look(owner), element("span", {}, shown)) : shown;
    const whole = [content, ...details.map((detail) => element("small", {}, detail))];
    const parts = best ? [element("strong", {}, ...whole)] : whole;
    if (column === 0) return element("th", { scope: "row" }, ...(columns[0] === "case" && known.has(shown) ? [link(shown, { case: shown, section: "case" })] : parts));
    const bad = columns[column] === "status" && !["ok", "certified", "limit", DASH].includes(shown);
    return element("td", { class: bad ? "bad" : null, "data-key": key }, ...parts);
  })));
  const made = element("table", { class: "sorts" }, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  const pager = kept.length > ROWS ? [turning(kept.length, at, ROWS, "rows", (next) => again({ at: next }))] : [];
  host.replaceChildren(element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, made), ...pager);
}

function sorted(rows, column, direction) {
  const value = (row) => { const cell = row[column]; return Array.isArray(cell) && cell[1] !== null ? Number(cell[1]) : (Array.isArray(cell) ? cell[0] : cell).trim(); };
  const unknown = (one) => one === "" || one === DASH;
  return rows.map((row) => [value(row), row]).sort(([one], [two]) => {
    // Unknown values come last in either order; numbers come before words.
    if (unknown(one) || unknown(two)) return unknown(one) - unknown(two);
    if (typeof one !== typeof two) return direction * (typeof one === "number" ? -1 : 1);
    return direction * (typeof one === "number" ? Math.sign(one - two) || 0 : one.localeCompare(two, undefined, { numeric: true }));
  }).map(([, row]) => row);
}

function turning(total, at, size, what, turn) {
  const last = Math.ceil(total / size) - 1;
  const button = (label, to) => {
    const made = element("button", { type: "button", ...(to < 0 || to > last ? { disabled: "" } : {}) }, label);
    made.addEventListener("click", () => turn(to));
    return made;
  };
  return element("p", { class: "pager" }, button("previous", at - 1),
    element("span", {}, ` ${what} ${at * size + 1} to ${Math.min((at + 1) * size, total)} of ${total} `), button("next", at + 1));
}

// -- answers and budgets

function showAnswers() {
  const wish = wanted(), chosen = cases(), host = $("#answers tbody");
  const at = host.at && host.at * ROWS < chosen.length ? host.at : 0;
  const rows = chosen.slice(at * ROWS, (at + 1) * ROWS).map((item) => {
    const answer = choose(run(), item, wish), name = run().estimators[answer.place];
    const title = link("", { case: item.name, section: "case" });
    title.append(...breakable(item.dataset));
    const badge = item.badge ? [" ", element("span", { class: "badge", title: "Scored against the limit of the iteration, whose error is estimated and not certified" }, item.badge)] : [];
    const cell = (label, value) => element("td", { class: "number", "data-label": label }, value);
    return element("tr", { "data-case": item.name },
      element("th", { scope: "row" }, title, ...badge, element("small", {}, `${item.algorithm}, ${item.loss} loss`)),
      element("td", { class: "use" }, name ? named(name) : "no answer"), cell("error", answer.error), cell("layers", answer.depth),
      cell("time", answer.time), cell("memory", answer.memory), element("td", { class: "why" }, ...sentence(answer.short)));
  });
  host.replaceChildren(...rows);
  $("#answer-pages").replaceChildren(...(chosen.length > ROWS ? [turning(chosen.length, at, ROWS, "cases", (next) => { host.at = next; showAnswers(); })] : []));
  const limits = run().limits, budgets = $("#budget-table");
  const wishes = [
    ...[...new Set([wish.error, 1e-1, 1e-6])].sort((one, two) => two - one).map((goal) => [`error ${number(goal, 1)}`, (item) => cheapest(run(), item, goal)]),
    ...(wish.seconds === Infinity ? limits.seconds : [wish.seconds]).map((limit) => [`within ${seconds(limit)}`, (item) => mostAccurate(run(), item, "seconds", limit)]),
    ...(wish.memory === Infinity ? limits.memory : [wish.memory]).map((limit) => [`within ${memory(limit)}`, (item) => mostAccurate(run(), item, "memory", limit)]),
  ];
  const found = chosen.slice(at * ROWS, (at + 1) * ROWS).map((item) => [[item.name, null, [], 0, ""], ...wishes.map(([, find]) => {
    const [place, value] = find(item);
    return place < 0 ? value : [run().estimators[place], null, [value], 0, run().estimators[place]];
  })]);
  table(budgets, { caption: "Which estimator at which budget", columns: ["case", ...wishes.map(([title]) => title)], rows: found });
}

// -- figures

const figures = new Map();
function figure(host, name) {
  if (!figures.has(name)) figures.set(name, new Figure(host, name));
  return figures.get(name);
}
function keep(host, names) {
  for (const [name, one] of figures) if (one.host === host && !names.includes(name)) { one.view?.finalize(); one.node.remove(); figures.delete(name); }
}
const fileName = (...parts) => parts.join("-").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "");

// The rows of a case's curves; a logarithm has no place for zero.
function curveRows(of, item, metric, names, tag = "") {
  const logs = [xIsLog(), state.yscale === "log"], unit = X[state.x].unit, rows = [];
  for (const name of names) {
    const place = of.estimators.indexOf(name);
    if (place < 0) continue;
    const push = (line, depth, y, more) => {
      const [time, space] = [item.seconds[place], item.memory[place]].map((cost) => costInside(cost, depth)), x = { depth, seconds: time / unit, memory: space / unit }[state.x];
      if (Number.isNaN(x) || (logs[0] && x <= 0) || (logs[1] && y <= 0)) return;
      rows.push({ name, estimator: tag ? `${name} (${tag})` : name, line: `${name} ${tag} ${line}`, case: item.name, depth, x, y, order: depth, value: number(y), exact: y, ...more,
        time: seconds(time), memory: memory(space), dim: dimmed(name) });
    };
    const spreads = spread(of, item, place, metric), seedCurves = state.spread === "seeds" && !of.condensed ? columns(of, item, place, metric) : [];
    seedCurves.forEach((curve, seed) => curve.forEach(([depth, y]) => push(`seed ${item.seeds[seed]}`, depth, y, { seed: item.seeds[seed], range: "", status: "ok" })));
    if (seedCurves.length) continue;
    for (const row of spreads) {
      const band = state.spread === "band" && row.greatest > row.least && (!logs[1] || row.least > 0) ? { low: row.least, high: row.greatest } : {};
      push("median", row.depth, row.middle, { seed: "median", range: range(row.least, row.greatest), least: row.least, greatest: row.greatest, status: row.floored, ...band });
    }
  }
  return rows;
}

function errorChart(item, metric, height) {
  const names = shownNames(), rows = curveRows(run(), item, metric, names);
  const plain = metric === "relative_error", onDepth = state.x === "depth" && state.spread !== "none";
  const theory = plain && onDepth && state.yscale === "log" ? item.theory.flatMap(({ law, estimator, depths, errors }) => (names.includes(estimator) && !dimmed(estimator)
    ? depths.map((x, place) => ({ law, x, y: errors[place], label: place === depths.length >> 1 })) : [])) : [];
  const lowest = rows.reduce((least, row) => Math.min(least, row.y), Infinity), near = plain && item.bound && lowest < item.bound * 1e3;
  const levels = near && state.yscale === "log" ? [{ y: item.bound, label: item.badge ? "estimated error of the limit" : "certified bound" }] : [];
  const last = names.flatMap((name) => { const own = rows.filter((row) => row.name === name); return own.length ? [`${name} ${own.at(-1).value} at depth ${own.at(-1).depth}`] : []; });
  const xLog = xIsLog(), yLog = state.yscale === "log";
  const tooltip = [["estimator", "estimator"], ["depth", "depth"], ["value", "value"], ["range", "over seeds"], ["seed", "seed"], ["time", "time"], ["memory", "memory"], ["status", "status"]];
  return {
    title: item.name, about: `${item.name}: ${DATA.metrics[metric]} against ${X[state.x].title}. Last values: ${last.join("; ")}.`, height,
    spec: linesSpec({ names, xTitle: X[state.x].title, yTitle: DATA.metrics[metric], xLog, yLog, tooltip, behind: [LEVEL, LEVEL_TEXT, THEORY, LAW] }),
    data: { rows, theory, levels }, note: rows.length ? "" : "Nothing was measured here.",
    open: { case: item.name, section: "case" },
  };
}

function overview() {
  const wish = wanted(), names = shownNames(), shown = cases().filter((item) => !item.badge).slice(0, CELLS);
  const cells = shown.flatMap((item) => {
    const found = run().estimators.map((name, place) => ({ name, ...reach(run(), item, place, wish.error) })).filter(({ name }) => names.includes(name));
    const fastest = Math.min(...found.map(({ seconds: [time] }) => time).filter((time) => time > 0));
    return found.map(({ name, place, depth, seconds: time, memory: space }) => {
      const ratio = Number.isFinite(depth) && time[0] > 0 ? Math.max(time[0] / fastest, 1) : null, scored = columns(run(), item, place).length > 0;
      const mark = ratio !== null ? number(ratio) : Number.isFinite(depth) ? "time?" : scored ? "not reached" : item.status[place] || DASH;
      return { x: item.name, y: name, case: item.name, estimator: name, value: ratio, text: shown.length > 12 && ratio === null ? "" : mark, shown: mark,
        depth: Number.isFinite(depth) ? depth : "not reached", time: starred(seconds(time[0]), time), memory: starred(memory(space[0]), space) };
    });
  });
  // The darker half of the scale has white text.
  const slowest = Math.max(...cells.map((row) => row.value ?? 1), 10);
  const rows = cells.map((row) => ({ ...row, light: (row.value ?? 1) ** 2 > slowest }));
  const tooltip = [["estimator", "estimator"], ["case", "case"], ["shown", "times the fastest"], ["depth", "layers"], ["time", "time"], ["memory", "memory"]];
  return { title: `Time to an error of ${number(wish.error, 1)}, over that of the fastest`, height: Math.max(110 + 24 * names.length, 250),
    about: `Matrix of estimators and cases: time to an error of ${number(wish.error, 1)} over that of the fastest on each case.`,
    spec: matrixSpec({ xTitle: null, yTitle: null, xSort: shown.map((item) => item.name), ySort: names, valueTitle: null, tooltip, domain: [1, slowest] }), data: { rows },
    note: cases().length > CELLS ? `The first ${CELLS} of ${cases().length} cases: narrow the filter to see others.` : cases().some((item) => item.badge) ? "Cases that are scored against a limit are left out." : "" };
}

function ratesChart() {
  const chosen = new Set(cases().map((item) => item.name)), names = shownNames();
  const rows = run().rates.filter((row) => chosen.has(row.case) && names.includes(row.estimator)).map((row) => ({
    name: row.estimator, estimator: row.estimator, case: row.case, x: row.predicted_rate, y: row.rate, predicted: number(row.predicted_rate, 3), fitted: number(row.rate, 3),
    xLow: row.predicted_rate_high, xHigh: row.predicted_rate_low, yLow: row.rate_high, yHigh: row.rate_low, hollow: !row.straight, dim: dimmed(row.estimator) }));
  if (!rows.length) return null;
  const ends = rows.flatMap((row) => [row.x, row.y]), theory = [Math.min(...ends), Math.max(...ends)].map((x) => ({ x, y: x }));
  return { title: "Fitted against predicted rates", about: `Error lost per layer, fitted against predicted: ${rows.map((row) => `${row.estimator} on ${row.case} ${row.fitted}, predicted ${row.predicted}`).join("; ")}.`,
    spec: scatterSpec({ xTitle: "predicted: error lost per layer (%)", yTitle: "fitted: error lost per layer (%)", names, tooltip: [["estimator", "estimator"], ["case", "case"], ["fitted", "fitted (%)"], ["predicted", "predicted (%)"]], diagonal: true }),
    data: { rows, theory }, note: "On the diagonal a rate is as theory predicts. Bars span the seeds; hollow markers belong to curves that are not straight." };
}

async function showFigures() {
  const token = (showFigures.token = {});
  const host = $("#panels"), chosen = cases(), at = Number(state.page) * PANELS < chosen.length ? Number(state.page) : 0;
  const panels = chosen.slice(at * PANELS, (at + 1) * PANELS), metric = state.y;
  keep(host, panels.map((_, place) => `panel-${place}`));
  $("#panel-pages").replaceChildren(...(chosen.length > PANELS ? [turning(chosen.length, at, PANELS, "cases", (next) => set({ page: String(next) }))] : []));
  const work = panels.map((item, place) => [figure(host, `panel-${place}`), () => errorChart(item, metric, 250), fileName(metric, state.x, item.name)]);
  if (chosen.length) figure($("#across"), "overview").node.classList.toggle("wide", chosen.length > 3);
  if (chosen.length) work.push([figure($("#across"), "overview"), overview, "time-to-goal"]);
  const rates = chosen.length ? ratesChart() : null;
  if (rates) work.push([figure($("#across"), "rates"), () => rates, "rates"]);
  keep($("#across"), [...(chosen.length ? ["overview"] : []), ...(rates ? ["rates"] : [])]);
  work.push(...caseWork(), ...trainingWork(), ...runsWork());
  for (const [one, make, name] of work) {
    // A later change of the state makes the rest of this one obsolete; between two charts the page stays responsive.
    if (showFigures.token !== token) return;
    one.name = name;
    await one.draw(make());
    await new Promise((done) => setTimeout(done));
  }
  document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
}

// -- one case

function caseWork() {
  const item = run().cases.find((one) => one.name === state.case), host = $("#case-figures");
  if (!item) { keep(host, []); return []; }
  const work = [];
  const add = (name, make) => work.push([figure(host, `case-${name}`), make, fileName(name, item.name)]);
  for (const metric of Object.keys(DATA.metrics)) if (item[metric]) add(metric, () => ({ ...errorChart(item, metric, 300), title: DATA.metrics[metric], open: null }));
  if (item.window_surface) {
    const rows = item.window_surface.map((row) => ({ ...row, x: row.depth, y: row.window, value: row.error, text: "", shown: number(row.error) }));
    const values = (name) => [...new Set(rows.map((row) => row[name]))].sort((one, two) => one - two);
    add("windows", () => ({ title: "Error over depth and window", about: `${item.name}: error of truncated backpropagation over depth and window.`, height: 300,
      spec: matrixSpec({ xTitle: "depth (layers)", yTitle: "window (layers differentiated)", xSort: values("x"), ySort: values("y").reverse(), valueTitle: "relative error", tooltip: [["depth", "depth"], ["window", "window"], ["shown", "error"]] }), data: { rows } }));
  }
  if (item.jacobian_error) {
    const rows = item.jacobian_error.map((row, order) => ({ name: "", line: "", x: row.depth, y: row.error, low: row.least, high: row.greatest, depth: row.depth, value: number(row.error), order }));
    add("burn-in", () => ({ title: "Burn-in: error of the unrolled Jacobian", about: `${item.name}: error of the unrolled Jacobian against depth; above one it is worse than none.`, height: 300,
      spec: linesSpec({ names: [""], xTitle: "depth (layers)", yTitle: "relative error of the Jacobian", xLog: false, yLog: true, tooltip: [["depth", "depth"], ["value", "error"]], behind: [LEVEL] }), data: { rows, levels: [{ y: 1 }] } }));
  }
  keep(host, work.map(([one]) => [...figures].find(([, made]) => made === one)[0]));
  return work;
}

function showCase() {
  const select = $("#case-choice"), item = run().cases.find((one) => one.name === state.case), wish = wanted();
  select.replaceChildren(element("option", { value: "" }, "choose a case"), ...cases().map((one) => element("option", { value: one.name }, one.name)));
  if (item && !cases().includes(item)) select.append(element("option", { value: item.name }, item.name));
  select.value = state.case;
  $("#case-body").hidden = !item;
  if (!item) return;
  const badge = item.badge ? " Scored against the limit of the iteration, whose error is estimated, not certified." : "";
  $("#case-facts").textContent = `${item.dataset}, ${item.algorithm}, ${item.loss} loss, against ${item.target}, ${item.seeds.length} seeds.${badge}`;
  $("#case-findings").replaceChildren(...sentence(`${choose(run(), item, wish).short} ${item.findings}`));
  const rows = run().estimators.map((name, place) => {
    const found = reach(run(), item, place, wish.error), last = spread(run(), item, place).at(-1), known = Number.isFinite(found.depth);
    const sort = (value) => (Number.isNaN(value) ? null : Number.isFinite(value) ? value : "Infinity");
    const time = known ? starred(seconds(found.seconds[0]), found.seconds) : DASH, space = known ? starred(memory(found.memory[0]), found.memory) : DASH;
    return [name, last ? [number(last.middle), last.middle, [...(last.greatest > last.least ? [`(${range(last.least, last.greatest)})`] : []), ...(last.floored === "ok" ? [] : [last.floored])], 0, ""] : DASH,
      last ? [String(last.depth), last.depth, [], 0, ""] : DASH, Number.isNaN(found.depth) ? DASH : [known ? found.depth.toFixed(0) : "not reached", sort(found.depth), [], 0, ""],
      [time, sort(found.seconds[0]), [], 0, ""], [space, sort(found.memory[0]), [], 0, ""], item.status[place] || DASH, item.reason[place] || DASH];
  });
  table($("#case-table"), { caption: `Every estimator on ${item.name}`, rows, columns: ["estimator", "error at its deepest depth", "deepest depth", `layers to ${number(wish.error, 1)}`, `time to ${number(wish.error, 1)}`, `memory there`, "status", "reason"] });
}

// -- trainings: what gradients buy

function trainingWork() {
  return Object.entries(DATA.trainings).flatMap(([key, chart]) => {
    const host = $(`[data-training="${key}"]`), seconds_ = state.x === "seconds" && chart.x.includes("seconds"), x = seconds_ ? "seconds" : chart.x[0];
    if (!host) return [];
    const kept = chart.series.filter(({ estimator }) => !state.without.includes(estimator));
    const rows = kept.flatMap(({ label, owner, points: found }) => found.flatMap((row, order) => {
      const y = row.median;
      if (row[x] === null || (chart.log && y <= 0) || (xIsLog() && row[x] <= 0)) return [];
      return [{ name: owner, method: label, line: label, x: row[x], y, order, value: number(y, 3), exact: y, step: row.step, dim: dimmed(owner), ...(row.greatest > row.least && (!chart.log || row.least > 0) ? { low: row.least, high: row.greatest } : {}) }];
    }));
    const names = [...new Set(chart.series.map(({ owner }) => owner))], levels = chart.goals.map((y) => ({ y, label: "" }));
    return [[figure(host, `training-${key}`), () => ({ title: chart.title, about: chart.about, height: 250, data: { rows, levels },
      spec: linesSpec({ names, xTitle: { epoch: "epochs", step: "steps", seconds: "seconds of computation" }[x], yTitle: chart.yTitle, xLog: xIsLog(), yLog: chart.log,
        tooltip: [["method", "method"], ["step", "step"], ["value", "value"]], behind: [LEVEL], markers: false }) }), fileName("training", chart.title)]];
  }).concat(DATA.bought.map((chart, place) => {
    const rows = chart.rows.filter((row) => !state.without.includes(row.estimator)).map((row) => ({ ...row, name: row.estimator, x: row.gradient_error, y: row.outcome, gradient: number(row.gradient_error), led: number(row.outcome, 3), dim: dimmed(row.estimator) }));
    return [figure($("#bought-figures"), `bought-${place}`), () => ({ title: chart.title, about: `${chart.title}: ${rows.map((row) => `${row.method} ${row.gradient} led to ${row.led}`).join("; ")}.`, height: 270, data: { rows, theory: [] }, note: chart.note,
      spec: scatterSpec({ xTitle: "relative error of the gradient", yTitle: chart.yTitle, xLog: true, yLog: chart.log, names: [...new Set(chart.rows.map((row) => row.estimator))], tooltip: [["method", "method"], ["gradient", "error of the gradient"], ["led", "led to"]] }) }), fileName("bought", chart.title)];
  }).filter(() => $("#bought-figures")));
}

// -- runs: over commits and machines

function runsWork() {
  const host = $("#trends");
  if (!host) return [];
  const wish = wanted(), chosen = new Set(cases().map((item) => item.name)), names = shownNames();
  const machines = [...new Set(DATA.runs.map((one) => one.machine))], item = run().cases.find((one) => one.name === state.case) ?? cases()[0];
  if (!item) return [];
  const measures = {
    error: ["relative error at the deepest depth", (of, one, place) => spread(of, one, place).at(-1)?.middle ?? NaN, number],
    time: [`time to ${number(wish.error, 1)} (ms)`, (of, one, place) => reach(of, one, place, wish.error).seconds[0] / 1e-3, (value) => seconds(value * 1e-3)],
    memory: ["memory there (MiB)", (of, one, place) => reach(of, one, place, wish.error).memory[0] / 2 ** 20, (value) => memory(value * 2 ** 20)],
  };
  const work = Object.entries(measures).flatMap(([measure, [title, find, text]]) => (measure === "error" ? [null] : machines).map((machine) => {
    const order = DATA.runs.map((of, place) => [of, place]).filter(([of]) => machine === null || of.machine === machine).sort(([one], [two]) => (one.date < two.date ? -1 : 1));
    const rows = order.flatMap(([of], x) => of.cases.filter((one) => one.name === item.name).flatMap((one) => names.flatMap((name) => {
      const place = of.estimators.indexOf(name), y = place < 0 ? NaN : find(of, one, place);
      return y > 0 ? [{ name, estimator: name, line: name, x, y, order: x, value: text(y), run: of.label, commit: of.commit, date: of.date.slice(0, 10), machine: of.machine, dim: dimmed(name) }] : [];
    })));
    const spec = linesSpec({ names, xTitle: "runs, from the oldest", yTitle: title, xLog: false, yLog: true, tooltip: [["estimator", "estimator"], ["run", "run"], ["commit", "commit"], ["date", "date"], ["machine", "machine"], ["value", "value"]] });
    const ticks = order.map(([of]) => of.label), x = { field: "x", type: "quantitative", scale: { domain: [-0.3, ticks.length - 0.7] },
      axis: { title: "runs, from the oldest", values: ticks.map((_, place) => place), labelExpr: `${JSON.stringify(ticks)}[datum.value]`, grid: false } };
    for (const layer of spec.layer) layer.encoding.x = x;
    return [figure(host, `trend-${measure}-${machine ?? ""}`), () => ({ title: `${item.name}: ${measure}${machine ? ` on ${machine}` : ""}`, about: `${title} of ${item.name} over ${order.length} runs.`, spec, data: { rows }, height: 240 }), fileName("trend", measure, machine ?? "")];
  }));
  keep(host, work.map(([one]) => [...figures].find(([, made]) => made === one)[0]));
  return work;
}

// -- everything

function showControls() {
  for (const control of $$("[data-key]")) if (control.value !== state[control.dataset.key]) control.value = state[control.dataset.key];
  for (const box of $$("input[name=estimator]")) box.checked = !state.without.includes(box.value);
  for (const [key, unit] of [["error", 1], ["seconds", 1], ["memory", 1]]) $(`#want-${key}`).setAttribute("aria-invalid", String(state[key] !== "" && amount(state[key], unit) === null));
  const all = run().cases.length, total = $$("input[name=estimator]").length;
  $(".bar summary span").textContent = state.without.length ? `${total - state.without.length} of ${total}` : total;
  $(".bar output").textContent = all ? `${cases().length} of ${all} cases` : "";
  for (const button of $$("#legend button")) {
    button.hidden = !shownNames().includes(button.value);
    button.setAttribute("aria-pressed", String(state.focus === button.value));
  }
  for (const item of $$("[data-estimator]")) item.classList.toggle("off", state.without.includes(item.dataset.estimator));
}

function show() {
  showControls();
  if (DATA.runs.some((one) => one.cases.length)) { showAnswers(); showCase(); }
  for (const host of $$("[data-table]")) {
    const [where, name] = host.dataset.table.split(":");
    const found = where === "run" ? run().tables[name] : DATA.tables[name];
    if (found && found.rows.length) table(host, found);
    else host.replaceChildren(element("p", { class: "soft" }, host.dataset.none ?? "Nothing."));
  }
  showFigures();
}

async function start() {
  const packed = Uint8Array.from(atob($("#data").textContent), (letter) => letter.charCodeAt(0));
  DATA = JSON.parse(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
  DATA.looks[""] = { color: "#6f6f6f", shape: "circle", dashes: [] };
  recall();
  for (const name of DATA.names) {
    const button = element("button", { type: "button", value: name, "aria-pressed": "false" }, ...named(name).childNodes);
    button.addEventListener("click", () => set({ focus: state.focus === name ? "" : name, page: state.page }));
    $("#legend")?.append(button);
  }
  for (const control of $$("[data-key]")) control.addEventListener("change", () => set({ [control.dataset.key]: control.value }));
  for (const box of $$("input[name=estimator]")) box.addEventListener("change", () => set({ without: $$("input[name=estimator]").filter((one) => !one.checked).map((one) => one.value) }));
  $("#case-choice")?.addEventListener("change", (event) => set({ case: event.target.value, page: state.page }));
  $("#all").addEventListener("click", () => set({ ...BLANK, run: state.run }));
  for (const anchor of $$("nav a")) anchor.addEventListener("click", (event) => { event.preventDefault(); set({ section: anchor.hash.slice(1), page: state.page }); });
  const menu = $(".bar details");
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && menu.open) { menu.open = false; $("summary", menu).focus(); } });
  $("#large button").addEventListener("click", () => $("#large").close());
  window.addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) { recall(); show(); } });
  let wide = innerWidth;
  window.addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; showFigures(); } });
  for (const hidden of $$("[data-script]")) hidden.hidden = false;
  show();
  if (state.section) document.getElementById(state.section)?.scrollIntoView();
}
start();
