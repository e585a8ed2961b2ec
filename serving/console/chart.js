// A small line chart that says its last value in words.

import { h, s } from "./dom.js";
import { t } from "./words.js";

const WIDTH = 320, HEIGHT = 96, TOP = 6;

export function chart(title, lines, format, span) {
  const known = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const box = h("section", { class: "surface chart" }, h("h2", {}, title));
  if (!known.length) {
    box.append(h("p", { class: "muted no-data" }, t("no_data")));
    return box;
  }
  const most = Math.max(...known, 1e-9);
  const last = lines.map((line) => ({ ...line, now: [...line.values].reverse().find((value) => value !== null) ?? null })).filter((line) => line.now !== null);
  const said = last.map((line) => t("now_value", { name: line.name || title, value: format(line.now) })).join(", ");
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said, preserveAspectRatio: "none" },
    s("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1, class: "axis" }),
    lines.map((line, place) => s("path", { d: path(line.values, most), class: `line line-${place}` })));
  box.append(h("p", { class: "now" }, last.map((line, place) => h("span", { class: `now-${place}` }, h("strong", {}, format(line.now)), lines.length > 1 && h("span", { class: "muted" }, ` ${line.name}`)))),
    picture, h("p", { class: "muted small row between" }, h("span", {}, span), h("span", {}, `max ${format(most)}`)));
  return box;
}

// Gaps stay gaps.
function path(values, most) {
  const step = WIDTH / Math.max(values.length - 1, 1);
  let isOpen = false, drawn = "";
  values.forEach((value, place) => {
    if (value === null) isOpen = false;
    else {
      drawn += `${isOpen ? "L" : "M"}${(place * step).toFixed(1)} ${(HEIGHT - 1 - (value / most) * (HEIGHT - 1 - TOP)).toFixed(1)}`;
      isOpen = true;
    }
  });
  return drawn;
}
