// Numbers and choices in words.
"use strict";
const NA = "NA";
const ENERGY_COSTS = ["train_energy", "lifecycle_energy"];

function short(value) {
  if (!known(value)) return NA;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) { // as Python writes it: 1.23e-05
    return value.toExponential(2).replace(/([+-])(\d)$/, "$10$2");
  }
  return value.toLocaleString("en", {maximumSignificantDigits: size >= 1000 ? 21 : 3,
    maximumFractionDigits: size >= 100 ? 0 : 6});
}

// An energy in the unit that people would use, or in that of another beside it.
function energy(kwh, beside = kwh) {
  if (!known(kwh)) return NA;
  const size = Math.abs(beside);
  if (size >= 1000) return `${short(kwh / 1000)} MWh`;
  if (size >= 0.1 || size === 0) return `${short(kwh)} kWh`;
  return size >= 1e-4 ? `${short(kwh * 1000)} Wh` : `${short(kwh * JOULES_PER_KWH)} J`;
}

const unitOf = cost => (cost === "money" && FACTS.currency) || FACTS.costs[cost].unit;
const inUnit = (cost, value) => !known(value) ? NA
  : ENERGY_COSTS.includes(cost) ? energy(value) : `${short(value)} ${unitOf(cost)}`;
const percent = share => `${Math.round(100 * share)} %`;
const amount = n => Math.round(n).toLocaleString("en");
const requestsIn = n => `${amount(n)} ${Math.round(n) === 1 ? "request" : "requests"}`;
const cellsIn = n => `${amount(n)} ${n === 1 ? "cell" : "cells"}`;

function notesOn(point) {
  const flags = point.energy_flags ?? [];
  return [point.random_weights ? "random weights" : "", point.diverged ? "diverged" : "",
    point.imported ? "imported" : "", point.energy_source === "estimate" ? "energy estimated" : "",
    flags.length ? `energy flagged ${flags.join(", ")}` : ""].filter(Boolean).join(", ");
}

// Axes behind a model's name, where points of a dataset differ in them.
const TOLD_BY = ["budget_title", "protocol", "inference"];
const titleOf = point => once("title", [point], () => {
  const beside = FACTS.points.filter(p => p.dataset === point.dataset);
  const telling = TOLD_BY.filter(axis => new Set(beside.map(p => p[axis])).size > 1);
  return [point.model_title, point.seq_len === null ? "" : `${point.seq_len} tokens`,
    ...telling.map(axis => point[axis])].filter(Boolean).join(", ");
});

function scoreWords(point) {
  if (!known(point.score)) return NA;
  const around = known(point.score_low) && known(point.score_high)
    ? ` (${point.score_low.toFixed(1)} to ${point.score_high.toFixed(1)})` : "";
  return `${point.score.toFixed(1)}${around}`;
}

const scoreName = dataset => FACTS.datasets[dataset].score_name;
const estimated = point => point.energy_source === "estimate" ? " (estimated)" : "";

// The choice in sentences, the first what to take.
function choiceWords(found, need, dataset) {
  if (!found.chosen) return nothingWords(found, need);
  const {chosen, cost, top, good} = found, caveat = notesOn(chosen);
  const words = [`Take ${titleOf(chosen)}${caveat ? ` (${caveat})` : ""}: `
    + `${scoreName(dataset)} ${scoreWords(chosen)}.`];
  const spent = costOf(chosen, "lifecycle_energy", need.requests);
  words.push(known(spent)
    ? `For ${requestsIn(need.requests)} it takes ${energy(spent)}${estimated(chosen)}, `
      + `${energy(chosen.costs.train_energy, spent)} of it for training.`
    : "Its energy is not known.");
  const by = cost === null ? "best score (no cost is known)"
    : `least ${FACTS.costs[cost].title.toLowerCase()}`
      + (cost === "lifecycle_energy" ? "" : " (no energy is known)");
  const among = need.score !== null
    ? `${cellsIn(good.length)} that ${good.length === 1 ? "keeps" : "keep"} `
      + `${need.score.toFixed(1)} with a margin for other examples`
    : `${cellsIn(good.length)} that cannot be told from the best score `
      + `(${titleOf(top)}, ${top.score.toFixed(1)}), or ${good.length === 1 ? "is" : "are"} `
      + "at most 1 point below it";
  const limits = Object.keys(LIMITS).filter(name => need[name] !== null);
  const within = limits.length ? `, within your ${limits.join(", ")}` : "";
  words.push(`It has the ${by} of ${among}${within}.`);
  if (found.unpriced.length) {
    words.push(`${cellsIn(found.unpriced.length)} could not be considered: the cost is unknown.`);
  }
  words.push(sureWords(found.sure));
  return words;
}

const sureWords = sure => sure === null || sure === undefined
  ? "How sure this is, is not known: not all cells have scores of every example."
  : `Sure: ${percent(sure)} of the resamples choose it too.`;

function nothingWords(found, need) {
  if (!found.nearest) return ["Nothing qualifies, and no cell has all the numbers to come near."];
  const near = found.nearest, misses = [];
  if (need.score !== null && near.score < need.score) {
    misses.push(`its score is ${near.score.toFixed(1)}, not ${need.score.toFixed(1)}`);
  } else if (need.score !== null && near.score - margin(near) < need.score) {
    const kept = (near.score - margin(near)).toFixed(1);
    misses.push(`its score of ${near.score.toFixed(1)} may come out as ${kept} on other examples, `
      + `not ${need.score.toFixed(1)}`);
  }
  for (const [name, cost] of Object.entries(LIMITS)) {
    const value = costOf(near, cost, need.requests);
    if (need[name] !== null && value > need[name]) {
      misses.push(`its ${name} is ${inUnit(cost, value)}, not ${inUnit(cost, need[name])}`);
    }
  }
  return ["Nothing qualifies.", `The nearest is ${titleOf(near)}: ${misses.join(", and ")}.`];
}

// Another point beside the choice, in sentences.
function comparedWords(chosen, other, requests) {
  const words = [`${titleOf(other)}: ${scoreWords(other)}`
    + `${notesOn(other) ? ` (${notesOn(other)})` : ""}.`];
  const {value, low, high} = difference(other, chosen);
  if (known(value)) {
    const around = low === null ? "" : ` (${low.toFixed(1)} to ${high.toFixed(1)}, paired)`;
    words.push(`Its score is ${value < 0 ? "lower" : "higher"} by ${Math.abs(value).toFixed(1)} `
      + `points than that of the choice; difference ${value.toFixed(1)}${around}.`
      + (low <= 0 && high >= 0 && low !== null ? " The scores cannot be told apart." : ""));
  }
  const [own, theirs] = [chosen, other].map(p => costOf(p, "lifecycle_energy", requests));
  if (known(own) && known(theirs) && own > 0) {
    words.push(`For ${requestsIn(requests)} it takes ${energy(theirs)}${estimated(other)}, `
      + `${short(theirs / own)} times as much as the choice.`);
  }
  words.push(evenWords(breakEven(chosen, other)));
  return words;
}

function evenWords({when, requests}) {
  return "Break-even: " + {
    unknown: "not known, since an energy is not.",
    equal: "none, both take the same energy.",
    always: "none, the choice takes less energy for any number of requests.",
    never: "none, the choice takes more energy for any number of requests.",
    from: `the choice takes less energy from ${requestsIn(requests ?? 0)} on.`,
    "up to": `the choice takes less energy up to ${requestsIn(requests ?? 0)}.`,
  }[when];
}
