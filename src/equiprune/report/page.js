// Draws every figure of the page, in the colours of the theme, and records what goes wrong where a test finds it.
(function () {
  "use strict";
  const root = document.documentElement;

  function failed(what) {
    root.dataset.error = [root.dataset.error, what].filter(Boolean).join("; ");
  }
  window.addEventListener("error", (event) => failed(event.message));
  window.addEventListener("unhandledrejection", (event) => failed(String(event.reason)));
  document.addEventListener("securitypolicyviolation", (event) =>
    failed(event.violatedDirective + " blocked " + event.blockedURI));

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const element = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(element(id).textContent);
  const specs = new Map(); // by id of the plot: as drawn last, with names for colours
  let theme = "light";
  let paper = 0; // width in pixels when printing, else 0

  // Names of the palette stand only under keys that hold a colour, so a group called "ink" stays as it is.
  function painted(value, colours, key) {
    if (Array.isArray(value)) return value.map((item) => painted(item, colours, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, painted(inner, colours, name)]));
    }
    return typeof value === "string" && /color(scale)?$/.test(key) && Object.hasOwn(colours, value) ? colours[value] : value;
  }

  function draw(plot) {
    if (!specs.has(plot.id)) specs.set(plot.id, read("spec-" + plot.id));
    const spec = painted(specs.get(plot.id), read("palette")[theme], "");
    if (paper) spec.layout.width = plot.classList.contains("wide") ? paper : Math.floor(paper / 2) - 8;
    const config = { displayModeBar: false, displaylogo: false, responsive: true, showTips: false };
    return Plotly.react(plot, spec.data, spec.layout, config);
  }

  const plots = () => [...document.querySelectorAll(".plot")];

  // One after the other, with a breath between: what is drawn first can be used while the rest is drawn.
  async function onScreen() {
    theme = dark.matches ? "dark" : "light";
    paper = 0;
    for (const plot of plots()) {
      await draw(plot);
      if (plot.id === "explorer") explorer(plot);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.drawn = String(plots().length);
  }

  // A figure that can show something else: the same traces at other heights.
  function choosing(box) {
    const found = read("heights-" + box.dataset.heights);
    box.addEventListener("change", () => {
      for (const [id, heights] of Object.entries(found.heights[box.value])) {
        const data = specs.get(id).data;
        heights.forEach((values, place) => { data[found.first + place].y = values; });
        draw(element(id));
      }
    });
  }

  function rows(body, cells) {
    body.replaceChildren(...cells.map((row) => {
      const line = document.createElement("tr");
      line.append(...row.map((text, place) => {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        cell.textContent = text;
        return cell;
      }));
      return line;
    }));
  }

  // The explorer: metric, gap and model are chosen in boxes; a click on a point chooses its model.
  function explorer(plot) {
    if (plot.dataset.ready) return;
    plot.dataset.ready = "yes";
    const data = read("explorer-data");
    const [metric, gap, model] = ["metric", "gap", "model"].map((name) => element("explorer-" + name));
    const titles = () => [gap.selectedOptions[0].text + " (lower is better)", metric.selectedOptions[0].text + " (higher is better)"];

    function bars(ends, places) {
      const length = (far, value) => (far === null || value === null ? 0 : Math.max(0, far - value));
      return {
        array: places.map((at) => length(ends.high[at], ends.value[at])),
        arrayminus: places.map((at) => length(ends.value[at], ends.low[at])),
      };
    }

    function place(trace, x, y, pair) {
      if (trace.meta === "fate") { [trace.x, trace.y] = pair.fate; return; }
      if (trace.meta === "front") trace.customdata = pair.front;
      if (trace.meta === "chosen") trace.customdata = [Number(model.value)];
      trace.x = trace.customdata.map((at) => x.value[at]);
      trace.y = trace.customdata.map((at) => y.value[at]);
      if (trace.meta === "chosen") trace.text = [model.selectedOptions[0].text.replace(/&/g, "&amp;").replace(/</g, "&lt;")];
      if (trace.error_x) Object.assign(trace.error_x, bars(x, trace.customdata));
      if (trace.error_y) Object.assign(trace.error_y, bars(y, trace.customdata));
    }

    function update() {
      const spec = specs.get("explorer");
      const pair = data.pairs[metric.value + " " + gap.value];
      for (const trace of spec.data) place(trace, data.gaps[gap.value], data.metrics[metric.value], pair);
      const [x, y] = titles();
      Object.assign(spec.layout.xaxis, { range: pair.x, title: { ...spec.layout.xaxis.title, text: x } });
      Object.assign(spec.layout.yaxis, { range: pair.y, title: { ...spec.layout.yaxis.title, text: y } });
      const details = data.details[Number(model.value)];
      element("explorer-name").textContent = model.selectedOptions[0].text;
      element("explorer-settings").textContent = details.settings;
      rows(element("explorer-groups"), details.groups);
      rows(element("explorer-gaps"), details.gaps);
      return draw(plot);
    }

    for (const box of [metric, gap, model]) box.addEventListener("change", update);
    plot.on("plotly_click", (event) => {
      const chosen = event.points[0].customdata;
      if (chosen === undefined) return;
      model.value = String(chosen);
      update();
    });
  }

  // A table is sorted by a button in its heading: by number where the cells begin with one, else by letter.
  function sortable(table) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, place) => {
      const text = row.cells[place].textContent.trim();
      const number = parseFloat(text.replace("−", "-").replace("< ", "").replace(/,(?=\d{3})/g, ""));
      return Number.isNaN(number) ? text : number;
    };
    const before = (one, other) => {
      if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1; // numbers first, either way
      return typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
    };
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map((row) => [value(row, place), row]);
        keyed.sort(([one], [other]) => {
          const order = before(one, other);
          return down && typeof one === typeof other ? -order : order;
        });
        body.replaceChildren(...keyed.map(([, row]) => row));
      });
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    onScreen().catch((error) => failed(String(error)));
    dark.addEventListener("change", onScreen);
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("select[data-heights]").forEach(choosing);
    for (const button of document.querySelectorAll("button[data-plot]")) {
      button.addEventListener("click", () =>
        Plotly.downloadImage(button.dataset.plot, { format: "svg", filename: button.dataset.plot, width: 700, height: 450 }));
    }
  });

  // Paper is white and cannot be unfolded: light colours, a width that fits, every short table open.
  const folded = () => document.querySelectorAll("details:not([open]):not(.long)");
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...folded()];
    for (const part of opened) part.open = true;
    theme = "light";
    paper = 680;
    plots().forEach(draw); // at once: printing waits for nothing
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    onScreen();
  });
})();
