// The filters of a search.

import { $, make } from "./dom.js";

const FIELDS = ["since", "until", "min-height", "min-score"];

// Lists the "cameras" or "sources" of the archive; chosen ones stay chosen.
export function offer(kind, choices, least) {
  const before = new Set(chosen(kind));
  $(kind).replaceChildren(
    ...choices.map(({ name, people }) =>
      make(
        "label",
        { className: "check" },
        make("input", { type: "checkbox", value: name, checked: before.has(name) }),
        make("span", { textContent: name }),
        make("span", { className: "count", textContent: String(people) }),
      ),
    ),
  );
  $(`${kind}-set`).hidden = choices.length < least;
}

const chosen = (kind) =>
  [...$(kind).querySelectorAll("input:checked")].map((input) => input.value);

export function values() {
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const list = (kind) => (chosen(kind).length ? chosen(kind) : null);
  const time = (id) => ($(id).value === "" ? null : new Date($(id).value).getTime() / 1000);
  return {
    cameras: list("cameras"),
    sources: list("sources"),
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
  for (const input of document.querySelectorAll("#cameras input, #sources input")) {
    input.checked = false;
  }
  show();
}

export function show() {
  const set =
    FIELDS.filter((id) => $(id).value !== "").length +
    chosen("cameras").length +
    chosen("sources").length;
  $("filters-set").textContent = set ? `(${set} set)` : "";
}
