// The reader's wishes: from the controls and the address to the choice, the plot and the table.
"use strict";
const $ = id => document.getElementById(id);
const STEPS = 1000; // of a slider
const ROUND = Array.from({length: 28}, (_, n) => [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3));
const AMOUNTS = [...new Set([0, ...ROUND, FACTS.requests])].sort((a, b) => a - b);
const AXES = {model: "Models", budget: "Budgets", seq_len: "Tokens"};
const NAMES = {model: p => p.model_title, budget: p => p.budget_title, seq_len: p => p.seq_len};
const SLIDERS = {"max-energy": "energy", "max-time": "time", "max-memory": "memory",
  "max-money": "money"};
const DATASETS = Object.keys(FACTS.datasets).filter(d => FACTS.points.some(p => p.dataset === d));
const noLimits = () => ({score: null, energy: null, time: null, memory: null, money: null});
const STATE = {
  dataset: DATASETS[0], cost: FACTS.default_cost, log: true, every: false, compared: "",
  need: {requests: FACTS.requests, ...noLimits()},
  hidden: {model: [], budget: [], seq_len: []}, sort: null,
};

// Points of other splits or metrics may not be compared with these; the table has them.
const inDataset = () => FACTS.points.filter(p => p.dataset === STATE.dataset
  && p.field === FACTS.datasets[STATE.dataset].field);
const passes = p => Object.keys(AXES).every(a => !STATE.hidden[a].includes(String(p[a])));
const valuesOf = cost => inDataset().map(p => costOf(p, cost, STATE.need.requests)).filter(known);
const unmoved = () => STATE.need.requests === FACTS.requests && inDataset().every(passes)
  && ["score", ...Object.keys(LIMITS)].every(name => STATE.need[name] === null);

const costsOffered = () => Object.keys(FACTS.costs).filter(cost => cost !== "money"
  || FACTS.points.some(p => known(p.costs.money)));

// Sliders: a place between the least and the most that is known; at one end there is no limit.
function range(name) {
  const cost = LIMITS[name];
  const values = name === "score" ? inDataset().map(p => p.score).filter(known)
    : valuesOf(cost).filter(value => value > 0);
  return values.length ? [Math.min(...values), Math.max(...values)] : null;
}

function limitAt(name, place) {
  const ends = range(name);
  if (!ends || (name === "score" ? place <= 0 : place >= STEPS)) return null;
  const [low, high] = ends;
  if (name === "score") return low + (high - low) * place / STEPS;
  return low * (high / low) ** (place / (STEPS - 1));
}

function placeOf(name, value) {
  const ends = range(name);
  if (!ends || value === null) return name === "score" ? 0 : STEPS;
  const [low, high] = ends;
  const share = name === "score" ? (value - low) / (high - low || 1) * STEPS
    : Math.log(value / low) / (Math.log(high / low) || 1) * (STEPS - 1);
  return Math.round(Math.min(name === "score" ? STEPS : STEPS - 1, Math.max(0, share)));
}

function recommended() {
  const one = FACTS.recommendations[STATE.dataset];
  return unmoved() && one && one.words?.length ? one : null;
}

// The choice: the study's own where nothing was moved, else computed here.
function choice(points) {
  const found = choose(points, STATE.need), given = recommended();
  if (!given) return found;
  const chosen = FACTS.points.find(p => p.id === given.chosen) ?? null;
  return {...found, chosen, sure: given.sure};
}

function showChoice(found) {
  const given = recommended();
  const words = given ? [...given.words] : choiceWords(found, STATE.need, STATE.dataset);
  const heading = document.createElement("h3");
  heading.textContent = FACTS.datasets[STATE.dataset].title;
  const how = document.createElement("p");
  how.className = "small";
  how.textContent = given ? "This is the study's own recommendation."
    : "Computed here from what you set, on all examples.";
  $("choice").dataset.chosen = found.chosen?.id ?? "";
  $("choice").replaceChildren(heading, ...words.map(paragraph), how, otherDatasets());
}

// The study's recommendations for the other datasets, each a way to it.
function otherDatasets() {
  const list = document.createElement("ul");
  list.className = "others";
  for (const name of DATASETS.filter(one => one !== STATE.dataset)) {
    const item = document.createElement("li"), button = document.createElement("button");
    Object.assign(button, {type: "button", textContent: FACTS.datasets[name].title});
    button.addEventListener("click", () => { goTo(name); $("dataset").focus(); });
    item.append(button, `: ${FACTS.recommendations[name]?.words?.[0] ?? "no recommendation"}`);
    list.append(item);
  }
  return list;
}

// Show another dataset, without limits: scores of two mean different things.
function goTo(dataset) {
  STATE.dataset = dataset;
  STATE.hidden = {model: [], budget: [], seq_len: []};
  Object.assign(STATE.need, noLimits());
  STATE.compared = "";
  makeFilters();
  update();
}

function paragraph(text) {
  const one = document.createElement("p");
  one.textContent = text;
  return one;
}

// The study's own places towards the front where these are its points and requests.
let lastFronts = {key: "", found: new Map()}; // limits that move do not change them
function frontsShown(points) {
  const key = JSON.stringify([STATE.dataset, STATE.cost, STATE.need.requests, STATE.hidden]);
  if (key === lastFronts.key) return lastFronts.found;
  const computed = fronts(points, STATE.cost, STATE.need.requests);
  const whole = STATE.need.requests === FACTS.requests && inDataset().every(passes);
  const found = !whole ? computed : new Map([...computed].map(([p, own]) =>
    [p, {...own, ...p.frontier?.[STATE.cost]}]));
  lastFronts = {key, found};
  return found;
}

function describe(id) {
  const point = FACTS.points.find(p => p.id === id);
  if (!point) return "";
  const cost = costOf(point, STATE.cost, STATE.need.requests), notes = notesOn(point);
  const {status, share, by} = frontsShown(inDataset().filter(passes)).get(point) ?? {};
  const above = (by ?? []).map(name => FACTS.points.find(p => p.id === name)).filter(Boolean);
  const on = {on: "on the front", undecided: "perhaps on the front",
    dominated: `dominated${above.length ? ` by ${above.map(titleOf).join(" and by ")}` : ""}`};
  const often = known(share) ? ` (on the front in ${percent(share)} of resamples)` : "";
  return `${titleOf(point)}${notes ? ` (${notes})` : ""}: score ${scoreWords(point)}, `
    + `${FACTS.costs[STATE.cost].title.toLowerCase()} ${inUnit(STATE.cost, cost)}`
    + `${status ? `, ${on[status]}${often}` : ""}.`
    + `${point.energy_words ? ` Energy: ${point.energy_words}.` : ""}`;
}

// What a row of the table says of the choice.
function choiceOf(point, found, chosenIds) {
  if (chosenIds.has(point.id)) return "chosen";
  if (point.dataset !== STATE.dataset) return "";
  if (point.field !== FACTS.datasets[point.dataset].field) return "other examples or metric";
  if (!passes(point)) return "filtered out";
  const why = broken(point, STATE.need);
  if (why) return why;
  if (found.good.includes(point)) return "qualifies";
  return found.unpriced.includes(point) ? "cost unknown" : "score below the best";
}

function showTable(found, front) {
  $("cells").classList.toggle("single", !STATE.every);
  const others = Object.entries(FACTS.recommendations).filter(([d]) => d !== STATE.dataset);
  const elsewhere = STATE.every ? others.map(([, one]) => one.chosen) : [];
  const chosen = new Set([found.chosen?.id, ...elsewhere]);
  fillTable(STATE, new Map(FACTS.points.map(point => [point.id, {
    point,
    front: (front.get(point) ?? point.frontier?.[STATE.cost])?.status,
    choice: choiceOf(point, found, chosen),
    shown: point.dataset === STATE.dataset ? passes(point) : STATE.every,
  }])));
}

function showCompared(found) {
  const other = FACTS.points.find(p => p.id === STATE.compared);
  const shown = Boolean(other && found.chosen && other !== found.chosen
    && other.dataset === STATE.dataset);
  $("compared").hidden = !shown;
  if (!shown) return;
  const heading = document.createElement("h3");
  heading.textContent = "Compared with the choice";
  $("compared").replaceChildren(heading,
    ...comparedWords(found.chosen, other, STATE.need.requests).map(paragraph));
}

function showControls() {
  const {need} = STATE;
  $("requests").value = AMOUNTS.indexOf(need.requests);
  $("requests").setAttribute("aria-valuetext", amount(need.requests));
  $("requests-shown").textContent = amount(need.requests);
  showLimit("min-score", "score", need.score === null ? "any" : need.score.toFixed(1));
  for (const [id, name] of Object.entries(SLIDERS)) {
    showLimit(id, name, need[name] === null ? "no limit" : inUnit(LIMITS[name], need[name]));
  }
  $("dataset").value = STATE.dataset;
  $("cost").value = STATE.cost;
  $("log").checked = STATE.log;
  $("every-dataset").checked = STATE.every;
}

function showLimit(id, name, words) {
  const absent = range(name) === null, text = absent ? "not known" : words;
  $(id).disabled = absent;
  $(id).value = placeOf(name, STATE.need[name]);
  $(id).setAttribute("aria-valuetext", text);
  $(`${id}-shown`).textContent = text;
}

// Boxes for models, budgets and lengths, each with the looks of its points.
function makeFilters() {
  $("filters").replaceChildren(...Object.entries(AXES).map(([axis, title]) => {
    const values = new Map(inDataset().map(p => [String(p[axis]), NAMES[axis](p)])
      .sort(axis === "seq_len" ? ([a], [b]) => a - b : () => 0));
    if (values.size < 2) return "";
    const group = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = title;
    group.append(legend, ...[...values].map(([value, name]) => filterBox(axis, value, name)));
    return group;
  }));
}

function filterBox(axis, value, name) {
  const label = document.createElement("label"), box = document.createElement("input");
  Object.assign(box, {type: "checkbox", checked: !STATE.hidden[axis].includes(value)});
  Object.assign(box.dataset, {axis, value});
  box.addEventListener("change", () => {
    const others = STATE.hidden[axis].filter(one => one !== value);
    STATE.hidden[axis] = box.checked ? others : [...others, value];
    update();
  });
  label.append(box, ...(axis === "model" ? [swatch(value)] : []), ` ${name}`);
  return label;
}

function swatch(model) {
  const mark = document.createElement("span");
  Object.assign(mark, {className: "swatch", textContent: SHAPES[shapeOf(model)]});
  mark.style.color = colourOf(model);
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

function showLegend(points) {
  const models = new Map(points.map(p => [p.model, p.model_title]));
  $("legend").replaceChildren(...[...models].map(([model, title]) => {
    const item = document.createElement("li");
    item.append(swatch(model), ` ${title}`);
    return item;
  }));
}

function plotText(rows, points, found) {
  const front = rows.filter(row => row.line).length, absent = points.length - rows.length;
  const zeros = rows.filter(row => row.zero).length;
  return `${cellsIn(rows.length)} of ${FACTS.datasets[STATE.dataset].title}, ${front} on the front `
    + `(joined by the line; faint points are dominated, half-faint ones undecided; numbers are `
    + `input lengths in tokens). `
    + (rows.some(row => row.chosen) ? "The ring marks the choice. " : "")
    + (absent ? `${cellsIn(absent)} cannot be drawn: this cost or the score is unknown. ` : "")
    + (zeros ? `${cellsIn(zeros)} with a cost of 0 ${zeros === 1 ? "stands" : "stand"} at the left `
      + "edge, which has no place on a logarithmic axis. " : "")
    + "Vertical lines through points are intervals of the score.";
}

// Limits that lie on the plot's axes.
function limitLines() {
  const name = Object.keys(LIMITS).find(key => LIMITS[key] === STATE.cost);
  const lines = value => known(value) ? [{at: value}] : [];
  return {x: lines(name && STATE.need[name]), y: lines(STATE.need.score)};
}

let plot = null;
function update() {
  const points = inDataset().filter(passes), found = choice(points);
  const front = frontsShown(points);
  const rows = plotRows(points, STATE, found, front);
  showControls();
  showChoice(found);
  showTable(found, front);
  if (STATE.sort) sortTable(STATE.sort.column, STATE.sort.descending);
  showCompared(found);
  showLegend(points);
  $("plot-text").textContent = plotText(rows, points, found);
  remember();
  const drawn = plot?.show(STATE, rows, limitLines(), STATE.compared);
  if (plot) look(plot.looked);
  return drawn;
}

// Say what the point is that is looked at, by the axis and the requests that are shown.
function look(id) {
  const words = describe(id);
  if ($("looked").textContent !== words) $("looked").textContent = words;
}

// The address holds what differs from the start, so that a choice can be shared.
function remember() {
  const kept = new URLSearchParams(), {need} = STATE;
  if (STATE.dataset !== DATASETS[0]) kept.set("dataset", STATE.dataset);
  if (STATE.cost !== FACTS.default_cost) kept.set("axis", STATE.cost);
  if (!STATE.log) kept.set("scale", "linear");
  if (STATE.every) kept.set("rows", "all");
  if (need.requests !== FACTS.requests) kept.set("requests", need.requests);
  for (const name of ["score", ...Object.keys(LIMITS)]) {
    if (need[name] !== null) kept.set(name, need[name]);
  }
  for (const axis of Object.keys(AXES)) {
    STATE.hidden[axis].forEach(value => kept.append(`no_${axis}`, value));
  }
  if (STATE.compared) kept.set("compared", STATE.compared);
  if (STATE.sort) kept.set("sort", `${STATE.sort.descending ? "-" : ""}${STATE.sort.column}`);
  const hash = kept.toString();
  if (hash === location.hash.slice(1)) return;
  // Within a report the page has no address of its own.
  try { history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); }
  catch { /* nothing to share then */ }
}

// Take from the address what this page knows; anything else in it means nothing.
function recall() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = name => given.get(name)?.trim() && known(Number(given.get(name)))
    ? Number(given.get(name)) : null;
  const limit = name => number(name) > 0 ? number(name) : null;
  const among = (names, name, otherwise) => names.includes(name) ? name : otherwise;
  STATE.dataset = among(DATASETS, given.get("dataset"), DATASETS[0]);
  STATE.cost = among(costsOffered(), given.get("axis"), FACTS.default_cost);
  STATE.log = given.get("scale") !== "linear";
  STATE.every = given.get("rows") === "all";
  const asked = number("requests");
  const requests = Number.isSafeInteger(asked) && asked >= 0 ? asked : FACTS.requests;
  STATE.need.requests = requests;
  if (!AMOUNTS.includes(requests)) AMOUNTS.push(requests);
  AMOUNTS.sort((a, b) => a - b);
  $("requests").max = AMOUNTS.length - 1;
  STATE.need.score = number("score");
  for (const name of Object.keys(LIMITS)) STATE.need[name] = limit(name);
  for (const axis of Object.keys(AXES)) {
    const there = inDataset().map(p => String(p[axis]));
    STATE.hidden[axis] = given.getAll(`no_${axis}`).filter(value => there.includes(value));
  }
  STATE.compared = among(inDataset().map(p => p.id), given.get("compared"), "");
  const column = (given.get("sort") ?? "").replace(/^-/, "");
  STATE.sort = HEADS.some(head => head.dataset.column === column)
    ? {column, descending: given.get("sort").startsWith("-")} : null;
}

function compare(id) {
  STATE.compared = id;
  update();
}

const option = (value, text) => Object.assign(document.createElement("option"),
  {value, textContent: text});

function listen() {
  $("dataset").addEventListener("change", event => goTo(event.target.value));
  $("cost").addEventListener("change", event => { STATE.cost = event.target.value; update(); });
  $("log").addEventListener("change", event => { STATE.log = event.target.checked; update(); });
  $("every-dataset").addEventListener("change", event => {
    STATE.every = event.target.checked;
    update();
  });
  $("requests").addEventListener("input", event => {
    STATE.need.requests = AMOUNTS[Number(event.target.value)];
    update();
  });
  $("min-score").addEventListener("input", event => {
    STATE.need.score = limitAt("score", Number(event.target.value));
    update();
  });
  for (const [id, name] of Object.entries(SLIDERS)) {
    $(id).addEventListener("input", event => {
      STATE.need[name] = limitAt(name, Number(event.target.value));
      update();
    });
  }
  $("reset").addEventListener("click", () => {
    Object.assign(STATE.need, {requests: FACTS.requests, ...noLimits()});
    STATE.hidden = {model: [], budget: [], seq_len: []};
    makeFilters();
    update();
  });
  $("zoom-in").addEventListener("click", () => plot?.zoom(1 / ZOOM));
  $("zoom-out").addEventListener("click", () => plot?.zoom(ZOOM));
  $("zoom-all").addEventListener("click", () => plot?.whole());
  $("download").addEventListener("click", downloadTable);
  HEADS.forEach(head => head.firstElementChild.addEventListener("click", () => {
    const {column} = head.dataset, again = head.getAttribute("aria-sort") === "ascending";
    STATE.sort = {column, descending: again};
    sortTable(column, again);
    remember();
  }));
  ROWS.forEach(({row, id}) => row.querySelector(".name").addEventListener("click", () => {
    const point = FACTS.points.find(p => p.id === id);
    if (point.dataset !== STATE.dataset) goTo(point.dataset);
    compare(id);
  }));
  addEventListener("hashchange", () => { recall(); makeFilters(); update(); });
  let width = 0; // paper is no other width: the style sheet fits the plot to it
  new ResizeObserver(() => {
    if ($("plot").clientWidth === width || matchMedia("print").matches) return;
    width = $("plot").clientWidth;
    if (plot) update();
  }).observe($("plot"));
}

async function begin() {
  if (!DATASETS.length) return; // the page says so in words
  $("dataset").append(...DATASETS.map(d => option(d, FACTS.datasets[d].title)));
  $("cost").append(...costsOffered().map(cost => option(cost, FACTS.costs[cost].title)));
  $("axis-reason").textContent = FACTS.default_cost === "lifecycle_energy" ? ""
    : `No energy of ${requestsIn(FACTS.requests)} is known, so the axis shows `
      + `${FACTS.costs[FACTS.default_cost].title.toLowerCase()}.`;
  recall();
  makeFilters();
  $("play").hidden = false;
  $("max-money").parentElement.hidden = !FACTS.points.some(p => known(p.costs.money));
  $("narrow").open = innerWidth > 830; // else the plot would be far below
  listen();
  update();
  try {
    await unpackVega();
    plot = new Plot($("plot"), {look, compare, describe});
    await update();
  } catch (error) {
    $("plot").textContent = `The plot cannot be drawn here: ${error.message}. All of its numbers `
      + "are in the table below.";
  }
}
begin().then(() => { document.body.dataset.ready = "yes"; });
