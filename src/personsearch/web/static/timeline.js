// When the hits were seen, a line for each camera.

import { $, drawn } from "./dom.js";

const ROW = 34;
const BOTTOM = 24;
let shown = null;

export function draw(lines, open) {
  shown = { lines, open };
  $("timeline").hidden = lines.length === 0;
  if (lines.length) redraw();
}

function redraw() {
  const { lines, open } = shown;
  const all = lines.flatMap((line) => line.sightings);
  let first = Math.min(...all.map((one) => one.since));
  let last = Math.max(...all.map((one) => one.until));
  if (last - first < 60) [first, last] = [first - 30, last + 30];
  const width = Math.max($("timeline-lines").clientWidth, 260);
  const height = lines.length * ROW + BOTTOM;
  const left = Math.min(120, width * 0.28);
  const x = (time) => left + 12 + ((time - first) / (last - first)) * (width - left - 28);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group" });
  svg.setAttribute("aria-label", "Hits by camera and time");
  lines.forEach((line, row) => {
    const y = row * ROW + ROW / 2;
    const name = line.camera ?? "no camera";
    const label = drawn("text", { x: left - 4, y: y + 4, class: "camera" });
    const most = Math.floor(left / 7.5);
    label.textContent = name.length > most ? `${name.slice(0, most - 1)}…` : name;
    label.append(Object.assign(drawn("title"), { textContent: name }));
    svg.append(label, drawn("line", { x1: left + 4, x2: width - 6, y1: y, y2: y, class: "lane" }));
    // The best on top.
    for (const one of [...line.sightings].sort((a, b) => b.rank - a.rank)) {
      svg.append(mark(one, name, x(one.since), x(one.until), y, open));
    }
  });
  const inside = last - first < 86400 * 2;
  const format = new Intl.DateTimeFormat(undefined, {
    month: "short",
    day: "numeric",
    ...(inside ? { hour: "2-digit", minute: "2-digit" } : { year: "numeric" }),
  });
  const ticks = width > 560 ? 3 : 2;
  for (let tick = 0; tick < ticks; tick += 1) {
    const time = first + ((last - first) * tick) / (ticks - 1);
    const anchor = tick === 0 ? "start" : tick === ticks - 1 ? "end" : "middle";
    const text = drawn("text", { x: x(time), y: height - 6, class: "tick", "text-anchor": anchor });
    text.textContent = format.format(new Date(time * 1000));
    svg.append(text);
  }
  $("timeline-lines").replaceChildren(svg);
}

function mark(one, camera, x1, x2, y, open) {
  const radius = one.rank <= 3 ? 8 : 6;
  const about = `Rank ${one.rank}, ${camera}, ${new Date(one.since * 1000).toLocaleString()}, similarity ${one.similarity.toFixed(3)}`;
  const node = drawn(
    "rect",
    {
      x: x1 - radius,
      y: y - radius,
      width: Math.max(x2 - x1, 0) + 2 * radius,
      height: 2 * radius,
      rx: radius,
      class: one.rank <= 3 ? "mark best" : "mark",
      role: "button",
      tabindex: "0",
      "aria-label": about,
    },
    Object.assign(drawn("title"), { textContent: about }),
  );
  node.addEventListener("click", () => open(one.person));
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(one.person);
    }
  });
  return node;
}

new ResizeObserver(() => {
  if (shown?.lines.length) redraw();
}).observe($("timeline-lines"));
