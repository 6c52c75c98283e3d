// The hits: cards that can be opened, marked, selected.

import { show } from "./api.js";
import { $, cameraOf, make, span, when } from "./dom.js";

export function card(hit, on) {
  const { rank, similarity, probability, person } = hit;
  const image = make("img", { alt: "", loading: "lazy" });
  show(image, person.thumbnail);
  const open = make(
    "button",
    {
      type: "button",
      className: "picture",
      "aria-label": `Open hit ${rank}`,
      onclick: () => on.open(person.id),
    },
    image,
    make("span", { className: "rank", textContent: String(rank) }),
  );
  const scale = make("div", { className: "scale", "aria-hidden": "true" }, make("i"));
  scale.firstChild.style.width = `${Math.max(similarity, 0) * 100}%`;
  const marks = {};
  for (const [name, label] of [
    ["right", "Right"],
    ["wrong", "Wrong"],
  ]) {
    marks[name] = make("button", {
      type: "button",
      className: `mark-${name}`,
      textContent: label,
      "aria-label": `Hit ${rank} is ${name}`,
      "aria-pressed": "false",
      onclick: () => {
        const now = marks[name].getAttribute("aria-pressed") === "true" ? null : name;
        for (const [each, button] of Object.entries(marks)) {
          button.setAttribute("aria-pressed", String(each === now));
        }
        on.mark(person.id, now);
      },
    });
  }
  const select = make("input", {
    type: "checkbox",
    "aria-label": `Select hit ${rank}`,
    onchange: () => on.select(person, select.checked),
  });
  const lines = [cameraOf(person), when(person), span(person)].filter(Boolean);
  return make(
    "li",
    { className: "hit" },
    open,
    make(
      "div",
      { className: "facts" },
      make(
        "p",
        { className: "similarity" },
        make("strong", { textContent: similarity.toFixed(3) }),
        make("span", { textContent: " similarity" }),
      ),
      scale,
      probability === null
        ? null
        : make("p", {
            className: "probability",
            textContent: `${percent(probability)} probability of the same person`,
          }),
      ...lines.map((text, row) =>
        make("p", { className: row ? "hint" : "camera-name", textContent: text }),
      ),
      make("p", { className: "hint file", textContent: person.name || person.source }),
      make("p", { className: "hint", textContent: `detection ${person.score.toFixed(2)}` }),
      make(
        "div",
        { className: "buttons" },
        marks.right,
        marks.wrong,
        make("button", {
          type: "button",
          textContent: "More like this",
          "aria-label": `More like hit ${rank}`,
          onclick: () => on.more(person),
        }),
        on.canErase ? make("label", { className: "check" }, select, "Select") : null,
      ),
    ),
  );
}

// Never as certain.
function percent(probability) {
  if (probability > 0.99) return "> 99 %";
  return probability < 0.01 ? "< 1 %" : `${Math.round(100 * probability)} %`;
}

export function chip(person, label, remove) {
  const image = make("img", { alt: "" });
  show(image, `/api/v1/people/${person.id}/thumbnail`);
  return make(
    "li",
    { className: "chip" },
    image,
    make("span", { textContent: label }),
    remove
      ? make("button", {
          type: "button",
          className: "quiet",
          textContent: "Remove",
          "aria-label": `Remove person ${person.id}`,
          onclick: remove,
        })
      : null,
  );
}

export function showEmpty(...children) {
  $("empty").replaceChildren(...children);
  $("empty").hidden = children.length === 0;
}
