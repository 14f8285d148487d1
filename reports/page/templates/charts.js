// Charts: specifications for Vega-Lite, and figures that hold one chart each with its downloads.

const CONFIG = {
  background: null, font: "system-ui, sans-serif", view: { stroke: null },
  axis: {
    labelColor: "currentColor", titleColor: "currentColor", domainColor: "currentColor", tickColor: "currentColor",
    gridColor: "currentColor", gridOpacity: 0.1, domainOpacity: 0.45, tickOpacity: 0.45, labelFontSize: 11, titleFontSize: 12,
    titleFontWeight: "normal", titlePadding: 8, labelOverlap: "greedy",
  },
  text: { color: "currentColor" }, rule: { color: "currentColor" },
};
// With Shift the wheel zooms, so that it still scrolls the page without; dragging moves, a double click shows all again.
const ZOOM = {
  name: "zoom", bind: "scales",
  select: { type: "interval", zoom: "wheel![event.shiftKey]", translate: "[mousedown, window:mouseup] > window:mousemove!" },
};
const X = {
  depth: { title: "depth (layers)", unit: 1 },
  seconds: { title: "time of one gradient (ms)", unit: 1e-3 },
  memory: { title: "peak memory above the problem's (MiB)", unit: 2 ** 20 },
};
const range = (low, high) => `${number(low)} to ${number(high)}`;

function axis(title, log) {
  // Between whole decades a logarithmic axis has hints of lines only.
  const decade = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6";
  const labels = log ? { format: ".0e", labelExpr: "datum.value == 1 ? '1' : replace(datum.label, 'e+', 'e')",
    gridOpacity: { condition: { test: decade, value: 1 }, value: 0.15 } } : {};
  return { title, tickCount: 6, ...labels };
}

const quantity = (field, title, log) => ({ field, type: "quantitative", axis: axis(title, log), scale: log ? { type: "log" } : { zero: false } });

function styled(names, dim) {
  const looks = names.map((name) => DATA.looks[name] ?? DATA.looks[""]);
  const scale = (values) => ({ domain: names, range: values });
  return {
    color: { field: "name", type: "nominal", legend: null, scale: scale(looks.map((look) => look.color)) },
    shape: { field: "name", type: "nominal", legend: null, scale: scale(looks.map((look) => look.shape)) },
    strokeDash: { field: "name", type: "nominal", legend: null, scale: scale(looks.map((look) => look.dashes)) },
    opacity: { condition: { test: "datum.dim", value: 0.1 }, value: dim ?? 1 },
  };
}

// Lines with a band or one line per seed, markers, and what stands behind them: slopes of theory, the bound, goals.
function linesSpec({ names, xTitle, yTitle, xLog, yLog, tooltip, behind = [], markers = true }) {
  const x = quantity("x", xTitle, xLog), y = quantity("y", yTitle, yLog);
  const { color, shape, strokeDash, opacity } = styled(names);
  const shared = { x, y, color, opacity, detail: [{ field: "line" }] };
  const rows = { data: { name: "rows" } };
  return {
    layer: [
      ...behind,
      { ...rows, transform: [{ filter: "isValid(datum.low)" }], mark: { type: "area", tooltip: false, aria: false },
        encoding: { ...shared, y: { ...y, field: "low" }, y2: { field: "high" },
          opacity: { condition: { test: "datum.dim", value: 0.02 }, value: 0.14 } } },
      { ...rows, mark: { type: "line", strokeWidth: 1.7, tooltip: false }, encoding: { ...shared, strokeDash, order: { field: "order" } } },
      { ...rows, mark: { type: "point", filled: true, size: markers ? 34 : 7, tooltip: false }, encoding: { ...shared, shape } },
      // What a pointer hits is larger than what is seen.
      { ...rows, params: [ZOOM], mark: { type: "point", filled: true, size: 260 }, encoding: { x, y, opacity: { value: 0 },
        tooltip: tooltip.map(([field, title]) => ({ field, title })) } },
    ],
  };
}

const THEORY = { data: { name: "theory" }, mark: { type: "line", strokeDash: [4, 3], strokeWidth: 1.2, opacity: 0.55, color: "currentColor", tooltip: false, aria: false },
  encoding: { x: { field: "x", type: "quantitative" }, y: { field: "y", type: "quantitative" }, detail: [{ field: "law" }] } };
const LAW = { data: { name: "theory" }, transform: [{ filter: "datum.label" }], mark: { type: "text", align: "left", dx: 5, dy: -4, fontSize: 11, aria: false },
  encoding: { x: { field: "x", type: "quantitative" }, y: { field: "y", type: "quantitative" }, text: { field: "law" } } };
const LEVEL = { data: { name: "levels" }, mark: { type: "rule", strokeDash: [2, 3], opacity: 0.6, aria: false }, encoding: { y: { field: "y", type: "quantitative" } } };
const LEVEL_TEXT = { data: { name: "levels" }, mark: { type: "text", align: "left", baseline: "bottom", dx: 4, dy: -2, fontSize: 10, aria: false },
  encoding: { x: { value: 0 }, y: { field: "y", type: "quantitative" }, text: { field: "label" } } };

function scatterSpec({ xTitle, yTitle, xLog, yLog, names, tooltip, diagonal }) {
  // A few points that differ little fill the chart; whole decades would put them into a corner.
  const close = (found) => ({ ...found, axis: { ...found.axis, format: ".3~g" }, scale: { ...found.scale, nice: false, padding: 24 } });
  const x = close(quantity("x", xTitle, xLog)), y = close(quantity("y", yTitle, yLog));
  const { color, shape, opacity } = styled(names);
  const bars = (field) => ({ data: { name: "rows" }, mark: { type: "rule", opacity: 0.6, tooltip: false, aria: false },
    encoding: { x, y, [field]: { ...(field === "x" ? x : y), field: `${field}Low` }, [`${field}2`]: { field: `${field}High` }, color } });
  return { layer: [
    ...(diagonal ? [{ ...THEORY, encoding: { x: { ...x, field: "x" }, y: { ...y, field: "y" } } }] : []), bars("x"), bars("y"),
    { data: { name: "rows" }, params: [ZOOM], mark: { type: "point", size: 80 }, encoding: { x, y, color, shape, opacity,
      fill: { condition: { test: "datum.hollow", value: "transparent" }, field: "name", type: "nominal", legend: null, scale: color.scale },
      tooltip: tooltip.map(([field, title]) => ({ field, title })) } },
  ] };
}

function matrixSpec({ xTitle, yTitle, xSort, ySort, valueTitle, tooltip, domain }) {
  const x = { field: "x", type: "nominal", sort: xSort, axis: { title: xTitle, labelAngle: xTitle ? 0 : -25, labelOverlap: Boolean(xTitle), grid: false, domain: false, ticks: false, labelLimit: 190 }, scale: { paddingInner: 0.04 } };
  const y = { field: "y", type: "nominal", sort: ySort, axis: { title: yTitle, grid: false, domain: false, ticks: false, labelLimit: 200 }, scale: { paddingInner: 0.06 } };
  return { data: { name: "rows" }, encoding: { x, y, tooltip: tooltip.map(([field, title]) => ({ field, title })) }, layer: [
    { mark: { type: "rect", cornerRadius: 2 },
      encoding: { color: { condition: { test: "!isValid(datum.value)", value: "#8884" }, field: "value", type: "quantitative",
        scale: { scheme: "cividis", reverse: Boolean(domain), type: "log", ...(domain ? { domain, clamp: true } : {}) },
        legend: valueTitle && { title: valueTitle, orient: "top", direction: "horizontal", gradientLength: 160, gradientThickness: 9,
          labelColor: "currentColor", titleColor: "currentColor", titleFontWeight: "normal", format: ".0e", tickCount: 4 } } } },
    { mark: { type: "text", fontSize: 10 }, encoding: { text: { field: "text" }, color: { condition: [{ test: "datum.light", value: "#fff" }, { test: "isValid(datum.value)", value: "#000" }],
      value: "currentColor" }, opacity: { condition: { test: "isValid(datum.value)", value: 1 }, value: 0.75 } } },
  ] };
}

// A figure with one chart. `draw` shows data; a chart of the same specification keeps its view and only gets new rows.
class Figure {
  constructor(host, name) {
    this.host = host;
    this.name = name;
    this.node = element("figure", { class: "chart" });
    this.title = element("strong");
    const action = (label, run) => { const made = element("button", { type: "button" }, label); made.addEventListener("click", run); return made; };
    this.tools = element("span", { class: "tools" },
      action("enlarge", () => this.enlarge()), ...["SVG", "PNG", "CSV"].map((kind) => action(kind, () => this.save(kind))));
    this.place = element("div", { class: "place" });
    this.note = element("p", { class: "soft note" });
    this.node.append(element("figcaption", {}, this.title, this.tools), this.place, this.note);
    host.append(this.node);
    this.last = Promise.resolve();
  }

  // One after the other: a chart that is still being made must not replace a later one.
  draw(chart) {
    this.last = this.last.then(() => this.render(chart));
    return this.last;
  }

  async render({ title, about, spec, data, height = 270, note = "", open = null }) {
    this.shown = { title, about, spec, data, height, note };
    this.title.replaceChildren(open ? link(title, open) : title);
    for (const button of this.tools.children) button.setAttribute("aria-label", `${button.textContent}: ${title}`);
    this.note.textContent = note;
    this.note.hidden = !note;
    const width = Math.max(this.place.clientWidth, 240), key = JSON.stringify([spec, width, height]), content = JSON.stringify(data);
    if (key === this.key && content === this.content) return;
    this.content = content;
    if (key === this.key && this.view) {
      for (const [name, rows] of Object.entries(data)) this.view.data(name, rows);
      this.place.setAttribute("aria-label", about);
      await this.view.runAsync();
      return;
    }
    this.key = key;
    this.view?.finalize();
    this.view = await embed(this.place, this.shown, width, height);
  }

  async enlarge() {
    const dialog = document.getElementById("large"), place = dialog.querySelector(".place");
    dialog.querySelector("strong").textContent = this.shown.title;
    dialog.showModal();
    const view = await embed(place, this.shown, place.clientWidth, Math.round(window.innerHeight * 0.68));
    dialog.addEventListener("close", () => { view.finalize(); place.replaceChildren(); this.tools.firstElementChild.focus(); }, { once: true });
  }

  async save(kind) {
    if (kind === "CSV") return download(`${this.name}.csv`, "text/csv", csv(this.shown.data.rows));
    if (kind === "SVG") return download(`${this.name}.svg`, "image/svg+xml", await this.view.toSVG());
    const address = await this.view.toImageURL("png", 2);
    element("a", { href: address, download: `${this.name}.png` }).click();
  }
}

async function embed(place, { about, spec, data }, width, height) {
  const full = { width, height, autosize: { type: "fit", contains: "padding" }, config: CONFIG, description: about, datasets: { ...data }, ...spec };
  const made = await vegaEmbed(place, full, { ast: true, renderer: "svg", actions: false, mode: "vega-lite", logLevel: 1, tooltip: { disableDefaultStyle: true } });
  return made.view;
}

function csv(rows) {
  const hidden = ["dim", "order", "line", "x", "y", "low", "high", "light", "text", "hollow"];
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => !hidden.includes(name));
  const cell = (value) => {
    const plain = value === null || value === undefined ? "" : String(value);
    // Before what a spreadsheet would take for a formula stands an apostrophe, as in the tidy table.
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function download(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
