// The plot: Vega draws score against cost, and says where a reader points.
"use strict";
// Okabe and Ito's colours, which colour-blind people can tell apart; shapes tell them twice.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8a8a"];
const SHAPES = {circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", cross: "✚",
  "triangle-down": "▼", "triangle-right": "▶", "triangle-left": "◀"};
const OPACITY = {on: 1, undecided: 0.65, dominated: 0.32};
const ZOOM = 1.4;
const NEAR_PX = 28; // a click this near to a point means it
const MODELS = [...new Set(FACTS.points.map(p => p.model))];
const colourOf = model => COLOURS[MODELS.indexOf(model) % COLOURS.length];
const shapeOf = model => Object.keys(SHAPES)[MODELS.indexOf(model) % 8];

// What Vega's source is packed as, unpacked and run once.
async function unpackVega() {
  const packed = atob(document.getElementById("vega").textContent);
  const bytes = Uint8Array.from(packed, letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const source = await new Response(stream).text();
  (0, eval)(source); // the page's policy lets nothing in but what is in the page
  const start = source.indexOf("(function (global");
  document.getElementById("licences").textContent = source.slice(0, Math.max(start, 0));
  return globalThis.vega;
}

// Rows for Vega: where each point stands, and how it looks.
function plotRows(points, state, found, front) {
  const {cost, need, log} = state, costs = points.map(p => costOf(p, cost, need.requests));
  const least = Math.min(...costs.filter(value => known(value) && value > 0));
  const floor = Number.isFinite(least) ? least / 3 : 1;
  // Points of one model and length differ by how they answer, which colour and shape do not tell.
  const several = new Set(points.map(p => p.inference)).size > 1;
  const labelOf = p => [p.seq_len, several ? p.inference : null].filter(part => part !== null
    && part !== undefined && part !== "").join(" ");
  return points.map((p, n) => ({p, cost: costs[n]}))
    .filter(({p, cost}) => known(cost) && known(p.score))
    .map(({p, cost}) => ({
      id: p.id, model: p.model, cost, score: p.score, x: log && cost <= 0 ? floor : cost,
      low: p.score_low ?? p.score, high: p.score_high ?? p.score, title: titleOf(p),
      opacity: OPACITY[front.get(p).status] ?? OPACITY.dominated, line: front.get(p).line,
      label: labelOf(p), zero: log && cost <= 0,
      able: broken(p, need) === "", chosen: p === found.chosen,
    }));
}

function padded(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (!Number.isFinite(low)) return log ? [0.1, 1] : [0, 1];
  if (log) return [low / 1.4, high * 1.4];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

const MOVED = name => [ // dragging from where the pointer went down, and the wheel
  {events: {signal: "delta"}, update: name === "xdom"
    ? "log ? panLog(xcur, delta[0] / width) : panLinear(xcur, delta[0] / width)"
    : "panLinear(ycur, -delta[1] / height)"},
  {events: {signal: "zoom"}, update: name === "xdom"
    ? "log ? zoomLog(xdom, anchor[0], zoom) : zoomLinear(xdom, anchor[0], zoom)"
    : "zoomLinear(ydom, anchor[1], zoom)"},
];

function signals(log, xdom, ydom) {
  return [
    {name: "log", value: log}, {name: "looked", value: ""}, {name: "compared", value: ""},
    {name: "down", value: null, on: [
      {events: "mousedown", update: "xy()"}, {events: "window:mouseup", update: "null"}]},
    {name: "xcur", value: null, on: [{events: "mousedown", update: "slice(xdom)"}]},
    {name: "ycur", value: null, on: [{events: "mousedown", update: "slice(ydom)"}]},
    {name: "delta", value: [0, 0], on: [{
      events: [{source: "window", type: "mousemove", consume: true, between: [
        {type: "mousedown"}, {source: "window", type: "mouseup"}]}],
      update: "down ? [x() - down[0], y() - down[1]] : [0, 0]"}]},
    {name: "anchor", value: [0, 0], on: [{
      events: {type: "wheel", filter: "event.ctrlKey"},
      update: "[invert('x', x()), invert('y', y())]"}]},
    {name: "zoom", value: 1, on: [{
      events: {type: "wheel", consume: true, filter: "event.ctrlKey"}, force: true,
      update: "pow(1.001, event.deltaY * pow(16, event.deltaMode))"}]},
    {name: "xdom", value: xdom, on: MOVED("xdom")}, {name: "ydom", value: ydom, on: MOVED("ydom")},
  ];
}

const axis = (orient, scale, title, ticks, format) => ({orient, scale, title, format, grid: true,
  tickCount: ticks, labelOverlap: true, labelSeparation: 8,
  labelColor: "currentColor", titleColor: "currentColor",
  titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 13, titlePadding: 8,
  domainColor: "currentColor", tickColor: "currentColor", gridColor: "currentColor",
  gridOpacity: 0.14});

const at = {x: {scale: "x", field: "x"}, y: {scale: "y", field: "score"}};
const MARKED = "(datum.chosen || datum.id === looked || datum.id === compared)";
const ring = (test, size, dash, colour = "currentColor") => ({type: "symbol",
  from: {data: "marked"}, interactive: false, encode: {update: {...at, fill: {value: null},
    size: {value: size}, stroke: {value: colour}, strokeWidth: {value: 2.5},
    strokeDash: {value: dash}, opacity: {signal: `${test} ? 1 : 0`}}}});

// Lines where the limits are that this plot can show.
const limit = (channel, span) => ({type: "rule", from: {data: `limit_${channel}`}, clip: true,
  interactive: false, encode: {update: {[channel]: {scale: channel, field: "at"},
    [span[0]]: {value: 0}, [`${span[0]}2`]: {signal: span[1]}, stroke: {value: "currentColor"},
    strokeDash: {value: [6, 4]}, opacity: {value: 0.75}}}});

function marks() {
  const front = {data: "front"};
  return [
    limit("x", ["y", "height"]), limit("y", ["x", "width"]),
    {type: "line", from: front, clip: true, interactive: false, encode: {update: {...at,
      stroke: {value: "currentColor"}, strokeWidth: {value: 1.4}, opacity: {value: 0.7},
      interpolate: {value: "step-after"}}}},
    {type: "rule", from: {data: "ranged"}, clip: true, interactive: false, encode: {update: {
      x: at.x, y: {scale: "y", field: "low"}, y2: {scale: "y", field: "high"},
      stroke: {scale: "colour", field: "model"}, strokeWidth: {value: 1.5},
      opacity: {signal: `${MARKED} ? 1 : 0.5`}}}},
    {type: "symbol", name: "dots", from: {data: "points"}, clip: true, encode: {update: {...at,
      shape: {scale: "shape", field: "model"}, size: {value: 110},
      fill: {scale: "colour", field: "model"}, fillOpacity: {field: "opacity"},
      stroke: {scale: "colour", field: "model"}, strokeWidth: {value: 1.4},
      strokeOpacity: {signal: "max(0.75, datum.opacity)"}, cursor: {value: "pointer"}}}},
    ring("datum.chosen", 430, []), ring("datum.id === compared", 430, [4, 3]),
    ring("datum.id === looked", 700, [2, 2], "#0072B2"),
    {type: "text", from: front, clip: true, interactive: false, encode: {update: {...at,
      text: {field: "label"}, dx: {value: -9}, dy: {value: -9}, align: {value: "right"},
      fill: {value: "currentColor"}, fontSize: {value: 12}}}},
  ];
}

function specification(width, height, state, rows, limits) {
  const xdom = padded(rows.map(row => row.x), state.log);
  const ydom = padded(rows.flatMap(row => [row.low, row.high]), false);
  const {title} = FACTS.costs[state.cost], unit = unitOf(state.cost);
  const front = rows.filter(row => row.line);
  return {
    description: "Score against cost", width, height, autosize: {type: "fit", contains: "padding"},
    padding: 4, signals: signals(state.log, xdom, ydom),
    data: [
      {name: "points", values: rows},
      {name: "marked", source: "points", transform: [{type: "filter", expr: MARKED}]},
      {name: "ranged", source: "points",
        transform: [{type: "filter", expr: `datum.line || ${MARKED}`}]},
      {name: "front", values: front.sort((a, b) => a.x - b.x)},
      {name: "limit_x", values: limits.x}, {name: "limit_y", values: limits.y}],
    scales: [
      {name: "x", type: state.log ? "log" : "linear", range: "width", zero: false,
        domain: {signal: "xdom"}},
      {name: "y", type: "linear", range: "height", zero: false, domain: {signal: "ydom"}},
      {name: "colour", type: "ordinal", domain: MODELS, range: MODELS.map(colourOf)},
      {name: "shape", type: "ordinal", domain: MODELS, range: MODELS.map(shapeOf)}],
    axes: [
      axis("bottom", "x", `${title} (${unit})`, Math.max(3, Math.round(width / 110)), "~g"),
      axis("left", "y", `Score (${scoreName(state.dataset)})`, 6)],
    marks: marks(), config: {font: "system-ui, sans-serif"},
  };
}

// The view in the document. What a reader points at goes to `on.look` and `on.compare`.
class Plot {
  constructor(place, on) {
    Object.assign(this, {place, on, view: null, drawn: "", rows: [], looked: ""});
    this.tip = Object.assign(document.createElement("div"), {className: "tip", hidden: true});
    place.addEventListener("keydown", event => this.key(event));
    place.addEventListener("mousemove", event => this.hover(event));
    place.addEventListener("mouseleave", () => { this.tip.hidden = true; });
    place.addEventListener("click", event => {
      const near = this.near(event);
      if (near && !this.dragged) { this.look(near.id); this.on.compare(near.id); }
    });
    place.addEventListener("mousedown", event => { this.start = [event.clientX, event.clientY]; });
    place.addEventListener("mouseup", event => {
      this.dragged = this.start && Math.hypot(event.clientX - this.start[0],
        event.clientY - this.start[1]) > 5;
    });
  }

  // Draw anew where the axes changed, else give the view its new rows.
  async show(state, rows, limits, compared) {
    const width = Math.max(260, this.place.clientWidth), height = width < 500 ? 320 : 430;
    const drawn = JSON.stringify([width, state.dataset, state.cost, state.log,
      state.need.requests]);
    this.rows = rows;
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.view?.finalize();
      const parsed = vega.parse(specification(width, height, state, rows, limits));
      this.view = new vega.View(parsed, {renderer: "svg", container: this.place});
    } else {
      const front = rows.filter(row => row.line).sort((a, b) => a.x - b.x);
      for (const [name, values] of Object.entries(
        {points: rows, front, limit_x: limits.x, limit_y: limits.y})) {
        this.view.data(name, values);
      }
    }
    if (!rows.some(row => row.id === this.looked)) this.looked = "";
    this.view.signal("looked", this.looked).signal("compared", compared);
    await this.view.runAsync();
    this.place.querySelector("svg").setAttribute("aria-hidden", "true");
    this.place.append(this.tip);
  }

  // Where a row stands in the document, from the plot's corner.
  spot(row) {
    const [left, top] = this.view.origin();
    return [left + this.view.scale("x")(row.x), top + this.view.scale("y")(row.score)];
  }

  near(event) {
    if (!this.view) return null;
    const box = this.place.getBoundingClientRect();
    const far = row => {
      const [x, y] = this.spot(row);
      return Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    };
    const found = best(this.rows, row => -far(row));
    return found && far(found) <= NEAR_PX ? found : null;
  }

  hover(event) {
    const row = event.buttons ? null : this.near(event);
    this.tip.hidden = !row;
    if (!row) return;
    const [x, y] = this.spot(row), right = x > this.place.clientWidth / 2;
    this.tip.textContent = this.on.describe(row.id);
    Object.assign(this.tip.style, {top: `${y + 12}px`, left: right ? "" : `${x + 12}px`,
      right: right ? `${this.place.clientWidth - x + 12}px` : ""});
  }

  look(id) {
    this.looked = id;
    this.view.signal("looked", id).runAsync();
    this.on.look(id);
  }

  key(event) {
    const moves = {ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowUp: ["score", 1],
      ArrowDown: ["score", -1]};
    const nearer = () => this.zoom(1 / ZOOM);
    const acts = {"+": nearer, "=": nearer, "-": () => this.zoom(ZOOM),
      0: () => this.whole(), Escape: () => { this.look(""); this.on.compare(""); },
      Enter: () => this.looked && this.on.compare(this.looked)};
    const ours = Object.hasOwn(moves, event.key) || Object.hasOwn(acts, event.key);
    // With these keys held it is the browser's: back, zoom.
    if (!this.view || !ours || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (event.key in acts) acts[event.key]();
    else this.step(...moves[event.key]);
  }

  // Go to the next point along an axis, from the choice where none is looked at.
  step(field, way) {
    const sorted = [...this.rows].sort((a, b) => a[field] - b[field] || a.id.localeCompare(b.id));
    if (!sorted.length) return;
    const here = sorted.findIndex(row => row.id === this.looked);
    const next = here < 0 ? sorted.findIndex(row => row.chosen) : here + way;
    this.look(sorted[Math.min(sorted.length - 1, Math.max(0, next))].id);
  }

  // Zoom about the point that is looked at, else about the choice, else about the middle.
  zoom(factor) {
    const about = this.rows.find(row => row.id === this.looked)
      ?? this.rows.find(row => row.chosen);
    const zoomX = this.view.signal("log") ? vega.zoomLog : vega.zoomLinear;
    this.view
      .signal("xdom", zoomX(this.view.signal("xdom"), about?.x ?? null, factor))
      .signal("ydom", vega.zoomLinear(this.view.signal("ydom"), about?.score ?? null, factor))
      .runAsync();
  }

  // Show all points again.
  async whole() {
    const log = this.view.signal("log");
    this.view.signal("xdom", padded(this.rows.map(row => row.x), log))
      .signal("ydom", padded(this.rows.flatMap(row => [row.low, row.high]), false));
    await this.view.runAsync();
  }
}
