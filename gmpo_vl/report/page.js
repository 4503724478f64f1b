"use strict";
// Values under the pointer, for every chart.
for (const svg of document.querySelectorAll("svg[data-series]")) {
  const series = JSON.parse(svg.dataset.series), frame = JSON.parse(svg.dataset.frame);
  const cursor = svg.querySelector(".cursor"), tip = document.createElement("div");
  const xs = [...new Set(series.flatMap(s => s.points.map(p => p[0])))].sort((a, b) => a - b);
  tip.className = "tip"; tip.hidden = true; svg.parentNode.append(tip);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
    const wanted = ((event.clientX - box.left) / box.width * width - frame.first) / frame.scale;
    const x = xs.reduce((a, b) => Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
    const at = frame.first + x * frame.scale, lines = ["step " + x];
    for (const s of series) { const p = s.points.find(p => p[0] === x); if (p) lines.push(s.name + "  " + p[1]); }
    cursor.setAttribute("x1", at); cursor.setAttribute("x2", at); cursor.style.visibility = "visible";
    tip.replaceChildren(...lines.map(text => Object.assign(document.createElement("div"), { textContent: text })));
    tip.hidden = false;
    const frameBox = svg.parentNode.getBoundingClientRect();
    const left = box.left - frameBox.left + at / width * box.width, room = frameBox.width;
    tip.style.top = (box.top - frameBox.top + 8) + "px";
    tip.style.left = Math.max(4, Math.min(left + 10, room - tip.offsetWidth - 4)) + "px";
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; cursor.style.visibility = "hidden"; });
}
// The gallery's filters: a card is shown while one of its answers is.
const filters = document.querySelector(".filters");
if (filters) {
  const cards = [...document.querySelectorAll("#gallery .card")], output = filters.querySelector("output");
  const apply = () => {
    const { verdict, step, kind } = Object.fromEntries(new FormData(filters));
    let shown = 0;
    for (const card of cards) {
      let answers = 0;
      for (const answer of card.querySelectorAll(".answer")) {
        answer.hidden = Boolean(verdict) && !answer.classList.contains(verdict);
        answers += !answer.hidden;
      }
      card.hidden = !answers || (step && card.dataset.step !== step) || (kind && card.dataset.kind !== kind);
      shown += !card.hidden;
    }
    output.textContent = shown + " of " + cards.length + " groups";
  };
  filters.hidden = false;
  filters.addEventListener("change", apply);
  filters.addEventListener("submit", event => event.preventDefault());
  apply();
}
