
"use strict"
// A click on a column's title sorts its table; a second click turns the order. #sort=2,1 does it on arrival.
const number = text => parseFloat(text.replace(/\u2212/g, "-").replace(/^[<=\s]+/, "").replace(/^(-?|\+)\./, "$10."))
const shown = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "")
function sort(table, column) {
  const head = table.tHead.rows[0].cells[column]
  const down = head.getAttribute("aria-sort") === "descending"
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", down ? "ascending" : "descending")
  const sign = down ? 1 : -1
  const rows = [...table.tBodies[0].rows].map(row => [row, shown(row, column), number(shown(row, column))])
  rows.sort(([, a, x], [, b, y]) => {
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1
    return sign * (isNaN(x) ? b.localeCompare(a) * -1 : x - y)
  })
  for (const [row] of rows) table.tBodies[0].append(row)
}
const tables = [...document.querySelectorAll("table")]
for (const table of tables)
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0
    head.addEventListener("click", () => sort(table, column))
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(table, column) })
  })
const wanted = /^#sort=(\d+),(\d+)$/.exec(location.hash)
if (wanted && tables[wanted[1]]) sort(tables[wanted[1]], Number(wanted[2]))
// What is folded on the screen is printed.
addEventListener("beforeprint", () => { for (const folded of document.querySelectorAll("details")) folded.open = true })
