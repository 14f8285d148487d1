// Charts: the specifications that charting.py has made, filled in, and figures that hold one chart each with its downloads.
function filled({ kind, xTitle, yTitle, xLog, yLog, tooltip }) {
  const { spec, log, linear } = structuredClone(DATA.specs[kind]), shown = spec.layer.at(-1).encoding;
  spec.encoding.x = { field: "x", title: xTitle, ...(xLog ? log : linear) };
  spec.encoding.y = { field: "y", title: yTitle, ...(yLog ? log : linear) };
  shown.tooltip = tooltip ?? shown.tooltip;
  return spec;
}

async function embed(place, { about, spec, data }, height) {
  const size = { width: Math.max(place.clientWidth, 240), height, autosize: { type: "fit", contains: "padding" } };
  const datasets = { theory: [], levels: [], ...data }, tooltip = { disableDefaultStyle: true };
  const options = { ast: true, renderer: "svg", actions: false, mode: "vega-lite", logLevel: 1, tooltip };
  const full = { ...size, config: DATA.specs.config, description: about, datasets, ...spec };
  return (await vegaEmbed(place, full, options)).view;
}

// A figure with one chart. `draw` shows data; a chart of the same specification keeps its view and only gets new rows.
class Figure {
  constructor(host) {
    this.title = element("strong");
    this.tools = element("span", { class: "tools" }, button("enlarge", () => this.enlarge()),
      ...["SVG", "PNG", "CSV"].map((kind) => button(kind, () => this.save(kind))));
    this.place = element("div", { class: "place" });
    this.box = element("div", { class: "scroll" }, this.place);
    this.note = element("p", { class: "soft note" });
    const caption = element("figcaption", {}, this.title, this.tools);
    this.node = element("figure", { class: "chart" }, caption, this.box, this.note);
    host.append(this.node);
  }

  // One after the other: a chart that is still being made must not replace a later one.
  draw(chart) {
    this.last = Promise.resolve(this.last).then(() => this.render(chart));
    return this.last;
  }

  async render(chart) {
    const { title, about, spec, data, height = 250, note = "", open, wide = false, least = 0 } = (this.shown = chart);
    this.title.replaceChildren(open ? link(title, { case: open, section: "case" }) : title);
    for (const tool of this.tools.children) tool.setAttribute("aria-label", `${tool.textContent}: ${title}`);
    this.note.textContent = note;
    this.note.hidden = !note;
    this.node.classList.toggle("wide", wide);
    // What needs more width than there is scrolls, by keyboard as well.
    this.place.style.minWidth = `${least}px`;
    if (least) Object.assign(this.box, { tabIndex: 0, role: "region", ariaLabel: title });
    const key = JSON.stringify([spec, this.place.clientWidth, height]), content = JSON.stringify(data);
    if (key === this.key && content === this.content) return;
    this.content = content;
    if (key !== this.key) {
      this.key = key;
      this.view?.finalize();
      this.view = await embed(this.place, chart, height);
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
    const tidy = () => { view.finalize(); place.replaceChildren(); this.tools.firstElementChild.focus(); };
    dialog.addEventListener("close", tidy, { once: true });
  }

  async save(kind) {
    const name = `${(this.shown.file ?? this.shown.title).replace(/[^A-Za-z0-9]+/g, "-")}.${kind.toLowerCase()}`;
    if (kind === "PNG") return element("a", { href: await this.view.toImageURL("png", 2), download: name }).click();
    const content = kind === "CSV" ? csv(this.shown.data.rows) : await this.view.toSVG();
    const href = URL.createObjectURL(new Blob([content], { type: kind === "CSV" ? "text/csv" : "image/svg+xml" }));
    element("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  }
}

function csv(rows) {
  const hidden = ["dim", "order", "line", "x", "y", "low", "high", "light", "text", "hollow"];
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => !hidden.includes(name));
  const cell = (value) => {
    const plain = String(value ?? "");
    // Before what a spreadsheet would take for a formula stands an apostrophe, as in the tidy table.
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => `${row.map(cell).join(",")}\n`).join("");
}
