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
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  // Names of the palette stand only under keys that hold a colour, so a group called "ink" stays as it is.
  function painted(value, colours, key) {
    if (Array.isArray(value)) return value.map((item) => painted(item, colours, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, painted(inner, colours, name)]));
    }
    return typeof value === "string" && /color$/.test(key) && Object.hasOwn(colours, value) ? colours[value] : value;
  }

  function draw(theme, width) {
    const colours = read("palette")[theme];
    const drawn = [...document.querySelectorAll(".plot")].map((plot) => {
      const spec = painted(read("spec-" + plot.id), colours, "");
      if (width) spec.layout.width = plot.classList.contains("wide") ? width : Math.floor(width / 2) - 8;
      const config = { displayModeBar: false, displaylogo: false, responsive: true, showTips: false };
      return Plotly.react(plot, spec.data, spec.layout, config);
    });
    return Promise.all(drawn).then(() => { root.dataset.drawn = String(drawn.length); });
  }
  const onScreen = () => draw(dark.matches ? "dark" : "light", 0);

  document.addEventListener("DOMContentLoaded", () => {
    onScreen().catch((error) => failed(String(error)));
    dark.addEventListener("change", onScreen);
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
    draw("light", 680);
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    onScreen();
  });
})();
