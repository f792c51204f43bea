// Which point to take, what it rests on, and where two points break even. Nothing here knows of
// the document.
"use strict";
const FACTS = JSON.parse(document.getElementById("facts").textContent);
const JOULES_PER_KWH = 3.6e6;
const TOLERATED_LOSS = 1; // points of score: less than this below the best is as good
const LIMITS = {energy: "lifecycle_energy", time: "inference_time", memory: "memory",
  money: "money"};
const known = value => typeof value === "number" && Number.isFinite(value);

// The cost of a point for a number of requests, null where it is unknown.
function costOf(point, cost, requests) {
  if (requests === FACTS.requests) return point.costs[cost] ?? null;
  const [training, each] = cost === "lifecycle_energy"
    ? [point.costs.train_energy, known(point.joules_per_request)
      ? point.joules_per_request / JOULES_PER_KWH : null]
    : cost === "money" ? [point.money_training, point.money_per_request] : [null, null];
  if (cost !== "lifecycle_energy" && cost !== "money") return point.costs[cost] ?? null;
  if (known(training) && requests === 0) return training;
  return known(training) && known(each) ? training + requests * each : null;
}

// The first of these that any point knows is to be least, as `longwatt choose` has it.
const OBJECTIVES = ["lifecycle_energy", "inference_time", "memory", "money", "train_energy"];

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0)
    / Math.max(1, values.length - 1));
}

// What is computed of one or two points, kept under their names.
const KEPT = new Map();
function once(name, points, compute) {
  const key = JSON.stringify([name, ...points.map(p => p.id)]);
  if (!KEPT.has(key)) KEPT.set(key, compute());
  return KEPT.get(key);
}

// How far below its score a point may come out on as many other examples: both vary.
const margin = point => !point.resampled ? 0 : once("margin", [point], () =>
  (point.imported ? 1 : Math.SQRT2) * FACTS.z_kept * deviation(point.resampled));

// The score that a point keeps with this margin; none is below 0.
const lowest = (score, point) => Math.max(0, score - margin(point));

const paired = (one, other) => Boolean(one.resampled && other.resampled
  && one.field === other.field && one.resampled.length === other.resampled.length);

// Whether resamples say how sure a comparison with another point is.
const comparable = (one, other) => one.spread_known !== false && paired(one, other);

// By how much a point may be below another and still not be told from it.
const tolerance = (one, other) => !paired(one, other) ? TOLERATED_LOSS
  : once("tolerance", [one, other], () => Math.max(TOLERATED_LOSS,
    FACTS.z * deviation(one.resampled.map((score, n) => score - other.resampled[n]))));

// Why a point does not keep the limits, or "" where it does.
function broken(point, need) {
  if (point.diverged) return "diverged";
  if (!known(point.score)) return "score unknown";
  if (need.score !== null && lowest(point.score, point) < need.score) {
    return point.score < need.score ? "score too low" : "score not surely enough";
  }
  for (const [name, cost] of Object.entries(LIMITS)) {
    if (need[name] === null) continue;
    const value = costOf(point, cost, need.requests);
    if (!known(value)) return `${name} unknown`;
    if (value > need[name] * (1 + 1e-9)) return `too much ${name}`;
  }
  return "";
}

// How much of what is asked for a point lacks: the shares by which limits are missed.
function lacks(point, need) {
  if (point.diverged || !known(point.score)) return Infinity;
  const short = need.score === null ? 0 : need.score - lowest(point.score, point);
  let all = Math.max(0, short) / Math.max(need.score ?? 1, 1e-9);
  for (const [name, cost] of Object.entries(LIMITS)) {
    if (need[name] === null) continue;
    const value = costOf(point, cost, need.requests);
    if (!known(value)) return Infinity;
    all += Math.max(0, value / need[name] - 1);
  }
  return all;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1), low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

// The score of one point less that of another, with an interval where both share resamples.
const difference = (one, other) => once("difference", [one, other], () => {
  const value = one.score - other.score;
  if (!paired(one, other)) return {value, low: null, high: null};
  const drawn = one.resampled.map((score, n) => score - other.resampled[n]).sort((a, b) => a - b);
  const tail = (1 - FACTS.confidence) / 2;
  return {value, low: quantile(drawn, tail), high: quantile(drawn, 1 - tail)};
});

const best = (points, score) =>
  points.reduce((found, p) => found === null || score(p) > score(found) ? p : found, null);

const objectiveOf = (points, requests) =>
  OBJECTIVES.find(cost => points.some(p => known(costOf(p, cost, requests)))) ?? null;

// Points whose score is high enough: with a least score those that keep it, else all that are not
// told from the best.
function admitted(points, need, score) {
  if (need.score !== null) return points.filter(p => lowest(score(p), p) >= need.score);
  const top = best(points, score);
  return points.filter(p => score(top) - score(p) <= tolerance(p, top));
}

// The cheapest of some points, of equally cheap ones that of the highest score.
const cheapest = (points, cost, requests) => points.reduce((found, p) => {
  if (found === null) return p;
  const less = costOf(p, cost, requests) - costOf(found, cost, requests);
  return less < 0 || (less === 0 && p.score > found.score) ? p : found;
}, null);

// The choice among points: what was chosen, by which cost, how sure, and what it rests on.
function choose(points, need) {
  const sound = points.filter(p => !p.diverged && known(p.score));
  const cost = objectiveOf(sound, need.requests), scoreless = {...need, score: null};
  const within = sound.filter(p => broken(p, scoreless) === "");
  const priced = within.filter(p => cost === null || known(costOf(p, cost, need.requests)));
  const good = priced.length ? admitted(priced, need, p => p.score) : [];
  const chosen = cost === null ? best(good, p => p.score) : cheapest(good, cost, need.requests);
  const sure = chosen && certainty(priced, need, cost, chosen);
  const nearest = chosen ? null : best(sound.filter(p => Number.isFinite(lacks(p, need))),
    p => -lacks(p, need));
  return {chosen, cost, top: best(priced, p => p.score), good, sure, nearest,
    unpriced: within.filter(p => !priced.includes(p))};
}

// The share of resamples in which the same rule chooses the same point.
function certainty(points, need, cost, chosen) {
  if (points.some(p => !comparable(p, chosen)) || cost === null) return null;
  const same = chosen.resampled.filter((_, n) =>
    cheapest(admitted(points, need, p => p.resampled[n]), cost, need.requests) === chosen);
  return same.length / chosen.resampled.length;
}

// Find the points that no other beats: costs no more, scores no less, and one is better.
function onFront(points, cost, score) {
  const order = [...points].sort((p, q) => cost(p) - cost(q)), found = new Set();
  let cheaper = -Infinity;
  for (let start = 0, end = 0; start < order.length; start = end) {
    while (end < order.length && cost(order[end]) === cost(order[start])) end += 1;
    const alike = order.slice(start, end), top = Math.max(...alike.map(score));
    alike.filter(p => score(p) === top && top > cheaper).forEach(p => found.add(p));
    cheaper = Math.max(cheaper, top);
  }
  return found;
}

// Whether one point that costs no more decidedly scores no less than another.
function beats(one, other, cost) {
  if (one === other || cost(one) > cost(other) || one.score < other.score) return false;
  const {low} = difference(one, other);
  return cost(one) < cost(other) ? low >= 0 : low > 0;
}

// Whether each point is on the front of a cost among points that are shown, as summary.csv judges
// it among all.
function fronts(points, name, requests) {
  const cost = p => costOf(p, name, requests);
  const priced = points.filter(p => known(cost(p)) && known(p.score) && !p.diverged)
    .sort((p, q) => q.score - p.score); // those that beat most come first
  const line = onFront(priced, cost, p => p.score);
  const found = new Map(points.map(p => [p, {status: null, share: null, line: line.has(p)}]));
  if (!priced.length || priced.some(p => !comparable(p, priced[0]))) {
    priced.forEach(p => { found.get(p).status = line.has(p) ? "on" : "dominated"; });
    return found;
  }
  const count = priced[0].resampled.length, often = new Map(priced.map(p => [p, 0]));
  for (let n = 0; n < count; n++) {
    onFront(priced, cost, p => p.resampled[n]).forEach(p => often.set(p, often.get(p) + 1));
  }
  for (const p of priced) {
    const share = often.get(p) / count, beaten = priced.some(q => beats(q, p, cost));
    const status = beaten ? "dominated" : share >= FACTS.confidence ? "on" : "undecided";
    Object.assign(found.get(p), {status, share});
  }
  return found;
}

// From how many requests on a point takes less energy than another that costs less to train.
// "always" and "never" are of the first point.
function breakEven(one, other) {
  const once = other.costs.train_energy, mine = one.costs.train_energy;
  const each = other.joules_per_request, own = one.joules_per_request;
  if (![once, mine, each, own].every(known)) return {when: "unknown"};
  if (mine === once && own === each) return {when: "equal"};
  if (mine <= once && own <= each) return {when: "always"};
  if (mine >= once && own >= each) return {when: "never"};
  const requests = (mine - once) * JOULES_PER_KWH / (each - own);
  return {when: own < each ? "from" : "up to", requests};
}
