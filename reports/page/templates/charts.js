// Charts: figures as Python has made them (figures/record.py), drawn by Vega-Lite.

// Columns as rows.
function rowsOf(columns) {
  const names = Object.keys(columns);
  return (columns[names[0]] ?? []).map((_, place) =>
    Object.fromEntries(names.map((name) => [name, columns[name][place]])));
}

function brief(value) {
  if (typeof value !== "number") return value ?? DASH;
  const short = Number(value.toPrecision(3)), size = Math.abs(short);
  const plain = !short || (size >= 0.01 && size < 1e4);
  return plain ? String(short) : short.toExponential().replace("+", "");
}

// A name in lines that leave room for cells in a narrow window, broken after a hyphen or a comma.
const LINE = /.{1,25}(?:[-,] ?|$)|.{1,26}/g;
const linesOf = (name) => (innerWidth < 640 ? name.match(LINE) ?? [name] : [name]);

// A figure as the state of the page wants it: a column on each axis, and the rows that are left.
function chartOf(figure, { y: upward = state.y, ...more } = {}) {
  const pick = (axes, column) => axes.find((axis) => axis.column === column) ?? axes[0];
  const x = pick(figure.x, state.x), y = pick(figure.y, upward), free = figure.mark === "line";
  const scaled = (axis, wish) =>
    (free && wish !== "auto" && axis.scale !== "ordinal" ? wish : axis.scale);
  const xScale = scaled(x, state.xscale), yScale = scaled(y, state.yscale);
  // A logarithm has no place for zero.
  const fits = (value, scale) => value != null && (scale !== "log" || value > 0);
  const end = (row, axis, which, scale) => {
    const value = row[`${axis.column}_${which}`];
    return (state.spread === "band" || !free) && fits(value, scale) ? value : null;
  };
  const seeds = state.spread === "seeds" && figure.seeds, { series, color } = figure;
  const tips = { [series]: series, ...figure.tips, ...(seeds ? { seed: "seed" } : {}),
    ...Object.fromEntries([...figure.x, y, ...(color ? [color] : [])].map((axis) =>
      [axis.column, axis.title])),
    ...(`${y.column}_low` in figure.rows && !seeds
      ? { [`${y.column}_low`]: "least of the seeds", [`${y.column}_high`]: "greatest" } : {}) };
  const known = Object.keys(tips).filter((column) => column in (seeds || figure.rows));
  const all = rowsOf(seeds || figure.rows), kept = all.filter(keeps);
  const rows = kept.map((row, order) => ({
    ...row, ...figure.looks[row[series]], line: `${row[series]} ${row.seed ?? ""}`, order,
    // A band needs points in the order of their places, which is that of the first axis.
    band: x === figure.x[0], dim: dimmed(row.estimator), x: row[x.column], y: row[y.column],
    value: row[color?.column], xLow: end(row, x, "low", xScale), xHigh: end(row, x, "high", xScale),
    yLow: end(row, y, "low", yScale), yHigh: end(row, y, "high", yScale),
    ...Object.fromEntries(known.map((column, place) => [`tip${place}`, brief(row[column])])),
  })).filter((row) => fits(row.x, xScale) && fits(row.y, yScale));
  const first = y === figure.y[0] && yScale === y.scale;
  const guides = (first && x === figure.x[0] ? rowsOf(figure.guides) : [])
    .filter((guide) => !guide.estimator || (keeps(guide) && !dimmed(guide.estimator)));
  const notes = [figure.note, figure.notes[`${x.column} ${y.column}`],
    first && figure.most?.[1]];
  const levels = (first ? figure.levels : []).map(([y, label]) => ({ y, label }));
  // Vega refuses data that a specification does not name.
  const sets = { line: { rows, guides, levels }, point: { rows }, cell: { rows } };
  const data = sets[figure.mark];

  const spec = structuredClone(DATA.specs[figure.mark]), across = new Set(rows.map((row) => row.x));
  const encode = (axis, channel, scale) => {
    const own = spec.encoding[channel], shared = DATA.specs.scales[scale];
    spec.encoding[channel] = { ...shared, ...own, field: channel, title: axis.title || null,
      axis: { ...shared.axis, ...own.axis }, scale: { ...shared.scale, ...own.scale } };
  };
  encode(x, "x", xScale);
  encode(y, "y", yScale);
  if (first && figure.most) spec.encoding.y.scale.domainMax = figure.most[0];
  // Points that lie close together would seem to lie far apart: a logarithmic axis has a decade.
  for (const [channel, scale] of [["x", xScale], ["y", yScale]]) {
    const sizes = rows.map((row) => row[channel]);
    const [low, high] = [Math.min(...sizes), Math.max(...sizes)], widen = Math.sqrt(10 * low / high);
    if (figure.mark === "point" && scale === "log" && widen > 1) {
      spec.encoding[channel].scale.domain = [low / widen, high * widen];
    }
  }
  const tooltip = known.map((column, place) => ({ field: `tip${place}`, title: tips[column] }));
  if (color) {
    spec.encoding.tooltip = tooltip;
    spec.layer[0].encoding.color.title = color.title;
  } else {
    spec.layer.at(-1).encoding.tooltip = tooltip;
    spec.params = [{ name: "size", value: rows.length > 300 ? 7 : 34 }];
  }
  // Beside the cells of a narrow window long names take several lines.
  const names = figure.wide ? rows.map((row) => String(row.y)) : [];
  const lines = Object.fromEntries(names.map((name) => [name, linesOf(name)]));
  const several = Object.values(lines).filter(({ length }) => length > 1).length;
  if (several) spec.encoding.y.axis.labelExpr = `(${JSON.stringify(lines)})[datum.label]`;
  // The room of the longest line, by about six pixels a letter.
  const longest = Math.max(0, ...Object.values(lines).flat().map(({ length }) => length));
  const named = 60 + 6 * longest;
  return {
    ...figure, ...more, spec, data, about: `${y.title} against ${x.title}. ${figure.about}`,
    height: figure.height + 8 * several,
    least: figure.wide ? named + (all.some(({ text }) => text?.[5]) ? 76 : 26) * across.size : 0,
    note: notes.filter(Boolean).join(" "), wide: figure.wide && across.size > 3, columns: Object.keys(figure.rows),
    blank: all.length && !kept.length ? "No estimator is chosen." : "Nothing was measured here.",
  };
}

async function embed(place, { about, spec, data }, height) {
  const width = Math.max(place.clientWidth, 240);
  const size = { width, height, autosize: { type: "fit", contains: "padding" } };
  const full = { ...size, config: DATA.specs.config, description: about, datasets: data, ...spec };
  const options = { ast: true, renderer: "svg", actions: false, mode: "vega-lite", logLevel: 1,
    tooltip: { disableDefaultStyle: true } };
  return (await vegaEmbed(place, full, options)).view;
}

// A box with one chart. A chart of the same specification keeps its view and only gets new rows.
class Box {
  constructor(host) {
    this.title = element("strong");
    this.tools = element("span", { class: "tools" }, button("enlarge", () => this.enlarge()),
      ...["SVG", "PNG", "CSV"].map((kind) => button(kind, () => this.save(kind))));
    this.place = element("div", { class: "place" });
    this.scroll = element("div", { class: "scroll" }, this.place);
    this.note = element("p", { class: "soft note" });
    this.edges = element("div", { class: "edges" }, this.scroll);
    this.scroll.addEventListener("scroll", () => this.shade(), { passive: true });
    const caption = element("figcaption", {}, this.title, this.tools);
    this.node = element("figure", { class: "chart" }, caption, this.edges, this.note);
    host.append(this.node);
  }

  // A shadow lies on the sides where a chart goes on.
  shade() {
    const { scrollLeft, clientWidth, scrollWidth } = this.scroll;
    this.edges.classList.toggle("before", scrollLeft > 1);
    this.edges.classList.toggle("after", scrollLeft + clientWidth < scrollWidth - 1);
  }

  // One after the other: a chart that is still being made must not replace a later one.
  draw(chart) {
    this.last = Promise.resolve(this.last).then(() => this.render(chart));
    return this.last;
  }

  async render(chart) {
    const { title, about, spec, data, height, open, wide, least } = (this.shown = chart);
    this.title.replaceChildren(open ? link(title, { case: open, section: "case" }) : title);
    for (const tool of this.tools.children) {
      tool.setAttribute("aria-label", `${tool.textContent}: ${title}`);
    }
    this.note.textContent = chart[data.rows.length ? "note" : "blank"];
    this.note.hidden = !this.note.textContent;
    this.node.classList.toggle("wide", Boolean(wide));
    // What needs more width than there is scrolls, by keyboard as well.
    this.place.style.minWidth = `${least}px`;
    if (least) Object.assign(this.scroll, { tabIndex: 0, role: "region", ariaLabel: title });
    const key = JSON.stringify([spec, this.place.clientWidth, height]);
    const content = JSON.stringify(data);
    this.shade();
    if (key === this.key && content === this.content) return;
    this.content = content;
    if (key !== this.key) {
      this.key = key;
      this.view?.finalize();
      this.view = await embed(this.place, chart, height);
      this.shade();
      return;
    }
    for (const [name, rows] of Object.entries(data)) this.view.data(name, rows);
    this.place.setAttribute("aria-label", about);
    await this.view.runAsync();
  }

  remove() {
    this.view?.finalize();
    this.node.remove();
  }

  async enlarge() {
    const dialog = $("#large"), place = $(".place", dialog);
    $("strong", dialog).textContent = this.shown.title;
    dialog.showModal();
    const view = await embed(place, this.shown, Math.round(window.innerHeight * 0.68));
    const tidy = () => {
      view.finalize();
      place.replaceChildren();
      this.tools.firstElementChild.focus();
    };
    dialog.addEventListener("close", tidy, { once: true });
  }

  async save(kind) {
    const { name, columns, data } = this.shown, download = `${name}.${kind.toLowerCase()}`;
    const type = { SVG: "image/svg+xml", CSV: "text/csv" }[kind];
    const content = { CSV: () => csv(columns, data.rows), SVG: () => this.view.toSVG() }[kind];
    const href = type ? URL.createObjectURL(new Blob([await content()], { type }))
      : await this.view.toImageURL("png", 2);
    element("a", { href, download }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  }
}

function csv(columns, rows) {
  const cell = (value) => {
    const plain = String(value ?? "");
    // An apostrophe before what a spreadsheet would take for a formula, as in the tidy table.
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
    .map((row) => `${row.map(cell).join(",")}\n`).join("");
}
