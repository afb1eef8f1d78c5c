"use strict"
// The list of features follows the form; the form's state is in the address: #search=seven&method=ft&sort=q
const list = document.getElementById("features")
const features = [...list.children]
const controls = ["search", "method", "verdict", "sort"].map(id => document.getElementById(id))
const matches = (feature, search, method, verdict) => {
  const { name, words, index, verdicts } = feature.dataset
  const text = `${name} ${words} ${index} ${verdicts}`.toLowerCase()
  const pairs = verdicts.split("\n").map(pair => pair.split("\t"))
  return search.toLowerCase().split(/\s+/).every(word => text.includes(word)) &&
    (!(method || verdict) || pairs.some(([m, v]) => (!method || m === method) && (!verdict || v === verdict)))
}
const orders = {
  effect: (a, b) => b.dataset.effect - a.dataset.effect,
  live: (a, b) => b.dataset.live - a.dataset.live,
  q: (a, b) => a.dataset.q - b.dataset.q,
  index: (a, b) => a.dataset.index - b.dataset.index,
  name: (a, b) => !a.dataset.name - !b.dataset.name || a.dataset.name.localeCompare(b.dataset.name),
}
function show() {
  const [search, method, verdict, sort] = controls.map(control => control.value)
  let shown = 0
  for (const feature of features) {
    feature.hidden = !matches(feature, search, method, verdict)
    shown += !feature.hidden
  }
  list.append(...(orders[sort] ? [...features].sort(orders[sort]) : features))
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
// What is folded on the screen is printed.
addEventListener("beforeprint", () => { for (const folded of document.querySelectorAll("details")) folded.open = true })
