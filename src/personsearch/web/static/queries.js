// Query pictures: sent once, then shown with a box for everyone detected in them.

import { ask, show } from "./api.js";
import { $, make, place, say } from "./dom.js";

const queries = [];
let changed = () => {};

export function whenChanged(callback) {
  changed = callback;
}

export function chosen() {
  return queries.flatMap((query) =>
    query.people.filter((p) => p.chosen).map((p) => ({ query: query.id, box: p.box })),
  );
}

export function chooseNobody() {
  for (const query of queries) {
    for (const person of query.people) setChosen(person, false);
  }
}

// The server keeps a picture for a short time; afterwards it has to be sent again.
export function forgetAll() {
  for (const query of [...queries]) remove(query);
}

export async function addFiles(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/") && file.type !== "") {
      say(`${file.name || "This"} is not a picture.`, true);
      continue;
    }
    say("Detecting people in the picture…");
    try {
      const headers = { "Content-Type": file.type || "application/octet-stream" };
      const answer = await ask("/api/v1/queries", { method: "POST", headers, body: file });
      add(await answer.json(), file.name || "pasted picture");
    } catch (error) {
      say(error.message, true);
    }
  }
}

function add(found, name) {
  const query = { id: found.id, width: found.width, height: found.height, people: [] };
  const image = make("img", { alt: `Query picture ${name}`, draggable: false });
  query.stage = make("div", { className: "stage" }, image);
  query.stage.style.aspectRatio = `${found.width} / ${found.height}`;
  const close = make("button", {
    type: "button",
    className: "quiet",
    textContent: "Remove",
    "aria-label": `Remove ${name}`,
    onclick: () => {
      remove(query);
      ask(`/api/v1/queries/${query.id}`, { method: "DELETE" }).catch(() => {});
    },
  });
  const caption = make("figcaption", {}, make("span", { textContent: name }), close);
  query.node = make("figure", { className: "query" }, query.stage, caption, byNumbers(query));
  queries.push(query);
  $("queries").append(query.node);
  show(image, `/api/v1/queries/${found.id}/picture`);
  for (const person of found.people) addPerson(query, person.box, person.score);
  if (found.people.length === 1) setChosen(query.people[0], true);
  drawing(query);
  const count = found.people.length;
  if (count === 0) say("Nobody was found. Draw a box around the person.");
  else if (count === 1) say("One person was found and chosen.");
  else say(`${count} people were found. Choose the person to search for.`);
  $("choose").hidden = false;
  changed();
}

function remove(query) {
  query.node.remove();
  queries.splice(queries.indexOf(query), 1);
  $("choose").hidden = queries.length === 0;
  say("");
  changed();
}

function addPerson(query, box, score) {
  const number = query.people.length + 1;
  const about = score === null ? "drawn by you" : `detection score ${score.toFixed(2)}`;
  const person = { box, chosen: false };
  person.node = make(
    "button",
    {
      type: "button",
      className: "box",
      title: `Person ${number}, ${about}`,
      "aria-label": `Person ${number}, ${about}`,
      "aria-pressed": "false",
      onclick: () => {
        setChosen(person, !person.chosen);
        changed();
      },
    },
    make("span", { textContent: String(number), "aria-hidden": "true" }),
  );
  place(person.node, box, query.width, query.height);
  query.people.push(person);
  // Small boxes lie on top of large ones, so that each can be reached.
  person.node.style.zIndex = String(10000 - Math.min(9999, Math.round(share(box, query) * 9999)));
  query.stage.append(person.node);
  return person;
}

function share([x1, y1, x2, y2], { width, height }) {
  return ((x2 - x1) * (y2 - y1)) / (width * height);
}

function setChosen(person, on) {
  person.chosen = on;
  person.node.setAttribute("aria-pressed", String(on));
}

// A box drawn by dragging.
function drawing(query) {
  const { stage } = query;
  let from = null;
  let frame = null;
  const at = (event) => {
    const area = stage.getBoundingClientRect();
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    return [
      inside(((event.clientX - area.left) / area.width) * query.width, query.width),
      inside(((event.clientY - area.top) / area.height) * query.height, query.height),
    ];
  };
  const box = ([x1, y1], [x2, y2]) => [
    Math.min(x1, x2),
    Math.min(y1, y2),
    Math.max(x1, x2),
    Math.max(y1, y2),
  ];
  const end = () => {
    frame?.remove();
    from = frame = null;
  };
  stage.addEventListener("pointerdown", (event) => {
    // A finger scrolls the page; a box by touch is typed below.
    if (event.button !== 0 || event.pointerType === "touch") return;
    if (event.target.closest(".box")) return;
    from = at(event);
    frame = make("div", { className: "drawing" });
    stage.append(frame);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (from) place(frame, box(from, at(event)), query.width, query.height);
  });
  stage.addEventListener("pointerup", (event) => {
    if (!from) return;
    const drawnBox = box(from, at(event));
    end();
    if (drawnBox[2] - drawnBox[0] >= 4 && drawnBox[3] - drawnBox[1] >= 4) own(query, drawnBox);
  });
  stage.addEventListener("pointercancel", end);
}

function own(query, box) {
  setChosen(addPerson(query, box, null), true);
  say("Your box was added and chosen.");
  changed();
}

// A box typed as numbers.
function byNumbers(query) {
  const fields = ["left", "top", "right", "bottom"].map((name, row) =>
    make("input", {
      type: "number",
      min: 0,
      max: row % 2 ? query.height : query.width,
      placeholder: name,
      "aria-label": `${name}, pixels`,
    }),
  );
  const add = () => {
    const box = fields.map((field) => Number(field.value));
    if (fields.some((field) => field.value === "") || box[0] >= box[2] || box[1] >= box[3]) {
      say(`A box needs left < right and top < bottom, in ${query.width} x ${query.height}.`, true);
    } else {
      own(query, box);
      for (const field of fields) field.value = "";
    }
  };
  for (const field of fields) {
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        add();
      }
    });
  }
  const button = make("button", { type: "button", textContent: "Add box", onclick: add });
  return make(
    "details",
    { className: "numbers" },
    make("summary", { textContent: "Somebody is missing?" }),
    make("p", { className: "hint", textContent: "Draw a box on the picture, or type one." }),
    make("div", { className: "four" }, ...fields, button),
  );
}
