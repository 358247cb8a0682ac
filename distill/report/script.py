"""What reads charts out: the value under the pointer, or where the arrow keys have got to."""

SCRIPT = r"""
"use strict";
(() => {
const SVG = "http://www.w3.org/2000/svg";

function brief(value, percent) {
  if (percent) return (100 * value).toFixed(2) + "%";
  const size = Math.abs(value);
  if (size && size < 1e-4) return value.toExponential(2);
  return Number(value.toPrecision(5)).toLocaleString("en", { maximumSignificantDigits: 6 });
}

function nearest(sorted, value) {
  let best = 0;
  sorted.forEach((one, n) => {
    if (Math.abs(one - value) < Math.abs(sorted[best] - value)) best = n;
  });
  return best;
}

// Of each kind of chart: how many things there are, which one is at a place, where a key leads,
// what is said of one, and the shapes that mark it in a drawing.
const KINDS = {
  lines: (data, isLog) => ({
    count: data.x.length,
    at: (x) => nearest(data.at, x),
    say: (n) => [`${data.unit} ${brief(data.x[n])}`, ...data.series.filter((s) => s.y[n] !== null)
      .map((s) => `${s.name} ${brief(s.y[n], data.percent)}`)].join(" · "),
    mark: (n) => {
      const [slope, offset, log] = data.scales[isLog() ? "log" : "linear"];
      const x = data.at[n], shapes = [["line", { x1: x, x2: x, y1: 12, y2: 204 }]];
      for (const one of data.series) {
        if (one.y[n] === null) continue;
        const cy = slope * (log ? Math.log10(one.y[n]) : one.y[n]) + offset;
        shapes.push(["circle", { cx: x, cy, r: 4 }]);
      }
      return shapes;
    },
  }),
  bars: (data) => ({
    count: data.y.length,
    at: (x, y) => nearest(data.y, y),
    say: (n) => data.labels[n],
    mark: (n) => [["rect", { x: 1, y: data.y[n] - data.row / 2, width: 438, height: data.row }]],
  }),
  cells: (data) => ({
    count: data.size ** 2,
    columns: data.size,
    at: (x, y) => {
      const place = (one, start) =>
        Math.min(Math.max(Math.floor((one - start) / data.cell), 0), data.size - 1);
      return place(y, data.top) * data.size + place(x, data.left);
    },
    say: (n) => data.labels[n],
    mark: (n) => [["rect", {
      x: data.left + data.cell * (n % data.size),
      y: data.top + data.cell * Math.floor(n / data.size),
      width: data.cell - 1, height: data.cell - 1,
    }]],
  }),
  points: (data) => ({
    count: data.labels.length,
    at: (x, y, panel) => {
      const [xs, ys] = data.panels[panel];
      let best = 0;
      const far = (n) => (xs[n] - x) ** 2 + (ys[n] - y) ** 2;
      for (let n = 1; n < xs.length; n++) if (far(n) < far(best)) best = n;
      return best;
    },
    say: (n) => data.labels[n],
    mark: (n, panel) =>
      [["circle", { cx: data.panels[panel][0][n], cy: data.panels[panel][1][n], r: 7 }]],
  }),
};

function chart(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot"), out = figure.querySelector(".readout");
  const drawings = [...plot.querySelectorAll("svg")];
  const kind = KINDS[data.kind](data, () => drawings[0].classList.contains("is-log"));
  let current = -1;

  function clear() {
    plot.querySelectorAll(".mark").forEach((one) => one.remove());
    out.textContent = "";
    current = -1;
  }
  function show(n) {
    clear();
    current = Math.min(Math.max(n, 0), kind.count - 1);
    out.textContent = kind.say(current);
    drawings.forEach((svg, panel) => {
      for (const [shape, attributes] of kind.mark(current, panel)) {
        const mark = document.createElementNS(SVG, shape);
        mark.setAttribute("class", "mark");
        for (const [name, value] of Object.entries(attributes)) mark.setAttribute(name, value);
        svg.append(mark);
      }
    });
  }
  drawings.forEach((svg, panel) => {
    // Browsers show a title where the pointer rests, over what is read out.
    const title = svg.querySelector("title"), said = svg.querySelector("desc");
    svg.setAttribute("aria-label", `${title.textContent}: ${said.textContent}`);
    title.remove();
    const follow = (event) => {
      const place = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      show(kind.at(place.x, place.y, panel));
    };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", clear);
  });
  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", "Values, by arrow keys");
  out.setAttribute("aria-live", "polite");
  plot.addEventListener("keydown", (event) => {
    const down = kind.columns || 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -down, ArrowDown: down };
    const far = Math.max(1, Math.round(kind.count / 20));
    if (event.key in steps) show(current < 0 ? 0 : current + steps[event.key]);
    else if (event.key === "PageUp") show(current - far);
    else if (event.key === "PageDown") show(current + far);
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(kind.count - 1);
    else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
  });
  plot.addEventListener("blur", clear);
  if (data.scales && data.scales.log) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "toggle", textContent: "log scale" });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const isLog = drawings[0].classList.toggle("is-log");
      button.setAttribute("aria-pressed", isLog);
      clear();
    });
    figure.prepend(button);
  }
}

window.readOut = (root) => root.querySelectorAll("figure.chart").forEach(chart);
window.readOut(document);
})();
"""
