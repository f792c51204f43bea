// The table of all cells: sorted by any column, rows hidden by filters, written as CSV.
"use strict";
const BODY = document.querySelector("#cells tbody");
const ROWS = [...BODY.rows].map(row => ({row, id: row.dataset.id}));
const HEADS = [...document.querySelectorAll("#cells thead th")];
const cellIn = (row, column) => column === "cell" ? row.cells[0]
  : row.querySelector(`td[data-column="${column}"]`);

function setCell(row, column, text, value) {
  const cell = cellIn(row, column);
  if (!cell) return;
  cell.textContent = text;
  cell.dataset.value = value ?? text;
}

// Fill in what depends on the state, and hide the rows that filters leave out.
function fillTable(state, views) {
  for (const {row, id} of ROWS) {
    const {point, front, choice, shown} = views.get(id);
    for (const cost of ["lifecycle_energy", "money"]) {
      const value = costOf(point, cost, state.need.requests);
      if (state.need.requests !== FACTS.requests && cost in FACTS.costs) {
        setCell(row, cost, short(value), known(value) ? String(value) : "");
      } else {
        const cell = cellIn(row, cost);
        if (cell) restore(cell, value);
      }
    }
    setCell(row, "front", front ?? NA, front ?? "");
    setCell(row, "choice", choice);
    row.hidden = !shown;
    row.classList.toggle("chosen", choice === "chosen");
    row.classList.toggle("compared", id === state.compared);
  }
  const count = ROWS.filter(({row}) => !row.hidden).length;
  document.getElementById("row-count").textContent = `${cellsIn(count)} of ${ROWS.length}`;
}

// Put back what the page was written with.
const WRITTEN = new Map(["lifecycle_energy", "money"].flatMap(cost =>
  ROWS.map(({row}) => cellIn(row, cost)).filter(Boolean).map(cell => [cell, cell.textContent])));
function restore(cell, value) {
  cell.textContent = WRITTEN.get(cell);
  cell.dataset.value = known(value) ? String(value) : "";
}

// Sort by a column; what is unknown stands last either way.
function sortTable(column, descending) {
  const key = row => {
    const text = cellIn(row, column).dataset.value;
    return text !== "" && cellIn(row, column).classList.contains("n") ? Number(text) : text;
  };
  const order = (a, b) => {
    const [one, other] = [key(a.row), key(b.row)];
    if (one === "" || other === "") return (one === "") - (other === "");
    const less = typeof one === "number" ? one - other : String(one).localeCompare(other);
    return descending ? -less : less;
  };
  const sorted = [...ROWS].sort(order).map(({row}) => row);
  // Rows that stay where they are keep the focus.
  if (sorted.some((row, place) => row !== BODY.rows[place])) BODY.append(...sorted);
  for (const head of HEADS) {
    if (head.dataset.column === column) {
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    } else head.removeAttribute("aria-sort");
  }
}

// A text for CSV that no spreadsheet takes for a formula.
function inCsv(text) {
  const number = /^[+-]?[\d.,]*(e[+-]?\d+)?( \([-+\d., to]+\))?$/.test(text);
  const safe = /^[=@+-]/.test(text) && !number ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function tableAsCsv() {
  const clean = cell => cell.textContent.replace(/\s+/g, " ").trim();
  const shown = [...BODY.rows].filter(row => !row.hidden);
  const lines = [["id", ...HEADS.map(head => clean(head.firstElementChild))],
    ...shown.map(row => [row.dataset.id, ...[...row.cells].map(clean)])];
  return lines.map(line => line.map(inCsv).join(",")).join("\n") + "\n";
}

function downloadTable() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([tableAsCsv()], {type: "text/csv"}));
  link.download = `${FACTS.study}_cells.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}
