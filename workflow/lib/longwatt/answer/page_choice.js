// Which point to take, what it rests on, and where two points break even. Nothing here knows of
// the document.
"use strict";
const FACTS = JSON.parse(document.getElementById("facts").textContent);
const JOULES_PER_KWH = 3.6e6;
const TOLERATED_LOSS = 1; // points of score: less than this below the best is as good
const LIMITS = {energy: "lifecycle_energy", time: "inference_time", memory: "memory"};
const known = value => typeof value === "number" && Number.isFinite(value);

// The cost of a point for a number of requests, null where it is unknown.
function costOf(point, cost, requests) {
  if (requests === FACTS.requests) return point.costs[cost] ?? null;
  const [once, each] = cost === "lifecycle_energy"
    ? [point.costs.train_energy, known(point.joules_per_request)
      ? point.joules_per_request / JOULES_PER_KWH : null]
    : cost === "money" ? [point.money_training, point.money_per_request] : [null, null];
  if (cost !== "lifecycle_energy" && cost !== "money") return point.costs[cost] ?? null;
  return known(once) && known(each) ? once + requests * each : null;
}

// Why a point keeps the limits not, or "" where it keeps them.
function broken(point, need) {
  if (point.diverged) return "diverged";
  if (!known(point.score)) return "score unknown";
  if (need.score !== null && point.score < need.score) return "score too low";
  for (const [name, cost] of Object.entries(LIMITS)) {
    if (need[name] === null) continue;
    const value = costOf(point, cost, need.requests);
    if (!known(value)) return `${name} unknown`;
    if (value > need[name] * (1 + 1e-9)) return `too much ${name}`;
  }
  return "";
}

// How far a point is from the limits: factors add up by their logarithms.
function distance(point, need) {
  if (point.diverged || !known(point.score)) return Infinity;
  let far = need.score === null ? 0
    : Math.max(0, need.score - point.score) / Math.max(need.score, 1);
  for (const [name, cost] of Object.entries(LIMITS)) {
    if (need[name] === null) continue;
    const value = costOf(point, cost, need.requests);
    if (!known(value)) return Infinity;
    far += Math.max(0, Math.log(value / need[name]));
  }
  return far;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1), low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

// The score of one point less that of another, with an interval where both share resamples.
function difference(one, other) {
  const value = one.score - other.score;
  const paired = one.resampled && other.resampled && one.dataset === other.dataset
    && one.resampled.length === other.resampled.length;
  if (!paired) return {value, low: null, high: null};
  const drawn = one.resampled.map((score, n) => score - other.resampled[n]).sort((a, b) => a - b);
  const tail = (1 - FACTS.confidence) / 2;
  return {value, low: quantile(drawn, tail), high: quantile(drawn, 1 - tail)};
}

const best = (points, score) =>
  points.reduce((found, p) => found === null || score(p) > score(found) ? p : found, null);

// What the choice is made by: energy where any is known, else time, else the score alone.
function choiceCost(points, requests) {
  const found = ["lifecycle_energy", "inference_time"]
    .find(cost => points.some(p => known(costOf(p, cost, requests))));
  return found ?? null;
}

// The cheapest of points that are good enough, null without one.
function cheapest(points, cost, requests, score) {
  if (cost === null) return best(points, score);
  const priced = points.filter(p => known(costOf(p, cost, requests)));
  return priced.reduce((found, p) => {
    if (found === null) return p;
    const less = costOf(p, cost, requests) - costOf(found, cost, requests);
    return less < 0 || (less === 0 && score(p) > score(found)) ? p : found;
  }, null);
}

// How much below the best a point may be and still be as good.
function allowance(top, point) {
  const {value, low, high} = difference(top, point);
  return low === null ? TOLERATED_LOSS : Math.max(TOLERATED_LOSS, value - low, high - value);
}

// The choice among points: what was chosen, by which cost, how sure, and what it rests on.
function choose(points, need) {
  const meeting = points.filter(p => broken(p, need) === "");
  const top = best(meeting, p => p.score), cost = choiceCost(meeting, need.requests);
  const good = need.score !== null ? meeting : meeting.filter(p =>
    top.score - p.score <= allowance(top, p));
  const chosen = cheapest(good, cost, need.requests, p => p.score);
  const unpriced = cost === null ? [] : good.filter(p => !known(costOf(p, cost, need.requests)));
  const sure = chosen && certainty(points, need, cost, chosen);
  const nearest = meeting.length ? null : points
    .filter(p => Number.isFinite(distance(p, need)))
    .reduce((a, p) => a === null || distance(p, need) < distance(a, need) ? p : a, null);
  return {chosen, cost, top, meeting, good, unpriced, sure, nearest};
}

// The share of resamples in which the same rule chooses the same point.
function certainty(points, need, cost, chosen) {
  const scoreless = {...need, score: null};
  const able = points.filter(p => broken(p, scoreless) === "");
  if (able.some(p => !p.resampled)) return null;
  const count = chosen.resampled.length;
  const top = best(able, p => p.score);
  const allowed = new Map(able.map(p => [p, allowance(top, p)]));
  let same = 0;
  for (let n = 0; n < count; n++) {
    const score = p => p.resampled[n];
    const least = need.score ?? score(best(able, score));
    const good = able.filter(p =>
      need.score !== null ? score(p) >= least : least - score(p) <= allowed.get(p));
    if (cheapest(good, cost, need.requests, score) === chosen) same += 1;
  }
  return same / count;
}

const dominates = (other, p, cost, score) => cost(other) <= cost(p) && score(other) >= score(p)
  && (cost(other) < cost(p) || score(other) > score(p));

// Whether one point that costs no more decidedly scores no less than another.
function beats(one, other, cost) {
  if (one === other || cost(one) > cost(other)) return false;
  const {low} = difference(one, other);
  return cost(one) < cost(other) ? low >= 0 : low > 0;
}

// Whether each point is on the front of a cost among points that are shown, as summary.csv judges
// it among all.
function fronts(points, name, requests) {
  const cost = p => costOf(p, name, requests);
  const priced = points.filter(p => known(cost(p)) && known(p.score) && !p.diverged);
  const resampled = priced.every(p => p.resampled);
  return new Map(points.map(p => {
    if (!priced.includes(p)) return [p, {status: null, share: null, line: false}];
    const line = !priced.some(q => dominates(q, p, cost, q => q.score));
    if (!resampled) return [p, {status: line ? "on" : "dominated", share: null, line}];
    let on = 0;
    p.resampled.forEach((_, n) => {
      on += !priced.some(q => dominates(q, p, cost, q => q.resampled[n]));
    });
    const share = on / p.resampled.length;
    const status = priced.some(q => beats(q, p, cost)) ? "dominated"
      : share >= FACTS.confidence ? "on" : "undecided";
    return [p, {status, share, line}];
  }));
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
