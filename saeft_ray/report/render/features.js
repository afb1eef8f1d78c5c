"use strict"
// The list of features follows the form; the form's state is in the address: #search=seven&method=ft&sort=q
const list = document.getElementById("features")
const features = [...list.children]
const controls = ["search", "method", "verdict", "sort"].map(id => document.getElementById(id))
const read = ([method, verdict, sure, size, q]) => ({ method, verdict, sure, size, q })
const changes = new Map(features.map(feature => [feature, JSON.parse(feature.dataset.changes).map(read)]))
const says = ({ dataset }, search) => {
  const text = `${dataset.name} ${dataset.words} ${dataset.index}`.toLowerCase()
  return search.toLowerCase().split(/\s+/).every(word => text.includes(word))
}
const has = (change, verdict) => !verdict || change.verdict === verdict || (verdict === "sure" && change.sure)
// What the list is sorted by, the smallest first; `told` are the changes under the chosen method.
const keys = {
  "": (_, told) => -Math.max(...told.map(change => change.size + 1000 * change.sure)),
  effect: (_, told) => -Math.max(...told.map(change => change.size)),
  q: (_, told) => Math.min(...told.map(change => change.q)),
  live: data => -data.live,
  index: data => Number(data.index),
  name: data => (data.name ? 0 : 1) + data.name,
}
const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a < b ? -1 : Number(a > b))
function show() {
  const [search, method, verdict, sort] = controls.map(control => control.value)
  let shown = 0
  const sorted = features.map(feature => {
    const told = changes.get(feature).filter(change => !method || change.method === method)
    feature.hidden = !says(feature, search) || (method + verdict !== "" && !told.some(change => has(change, verdict)))
    shown += !feature.hidden
    return [keys[sort](feature.dataset, told), feature]
  })
  list.append(...sorted.sort(([a], [b]) => compare(a, b)).map(([, feature]) => feature))
  document.getElementById("count").textContent = `${shown} of ${features.length} features`
}
const asked = new URLSearchParams(location.hash.slice(1))
for (const control of controls) {
  if (asked.has(control.id)) control.value = asked.get(control.id)
  control.addEventListener("input", () => {
    history.replaceState(null, "", "#" + new URLSearchParams(controls.filter(c => c.value).map(c => [c.id, c.value])))
    show()
  })
}
document.querySelector("form").addEventListener("submit", event => event.preventDefault())
show()
// Folded tables are printed. Features are printed as they are on the screen: all of them open are a hundred pages.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not(.feature)")) folded.open = true
})
