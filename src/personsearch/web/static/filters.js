// Which people are searched.

import { $, make } from "./dom.js";

const FIELDS = ["since", "until", "min-height", "min-score"];

export function setCameras(cameras) {
  const before = new Set(values().cameras);
  $("cameras").replaceChildren(
    ...cameras.map(({ name, people }) =>
      make(
        "label",
        { className: "check" },
        make("input", { type: "checkbox", value: name, checked: before.has(name) }),
        make("span", { textContent: name }),
        make("span", { className: "count", textContent: String(people) }),
      ),
    ),
  );
  $("cameras-set").hidden = cameras.length === 0;
}

export function values() {
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const time = (id) => ($(id).value === "" ? null : new Date($(id).value).getTime() / 1000);
  return {
    cameras: [...$("cameras").querySelectorAll("input:checked")].map((input) => input.value),
    since: time("since"),
    until: time("until"),
    min_height: number("min-height"),
    min_score: number("min-score"),
  };
}

export function top() {
  return Math.min(Math.max(Math.round(Number($("top").value)) || 24, 1), 500);
}

export function clear() {
  for (const id of FIELDS) $(id).value = "";
  for (const input of $("cameras").querySelectorAll("input")) input.checked = false;
  tell();
}

export function tell() {
  const set = FIELDS.filter((id) => $(id).value !== "").length + values().cameras.length;
  $("filters-set").textContent = set ? `(${set} set)` : "";
}
