// The whole picture of a hit with its box, or the clip around it.

import { blob, show } from "./api.js";
import { $, cameraOf, make, place, span, when } from "./dom.js";

let hits = [];
let at = 0;
let like = () => {};
let address = null;

export function setUp(moreLike) {
  like = moreLike;
  $("viewer-close").onclick = () => $("viewer").close();
  $("viewer-before").onclick = () => step(-1);
  $("viewer-after").onclick = () => step(1);
  $("viewer-clip").onclick = play;
  $("viewer-more").onclick = () => {
    $("viewer").close();
    like(hits[at].person);
  };
  $("viewer").addEventListener("close", empty);
  $("viewer").addEventListener("keydown", (event) => {
    if (event.target.tagName === "VIDEO") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
}

export function open(all, person) {
  hits = all;
  at = hits.findIndex((hit) => hit.person.id === person);
  if (at < 0) return;
  fill();
  if (!$("viewer").open) $("viewer").showModal();
}

function step(by) {
  const next = at + by;
  if (next < 0 || next >= hits.length) return;
  at = next;
  fill();
}

function empty() {
  if (address) URL.revokeObjectURL(address);
  address = null;
  $("viewer-stage").replaceChildren();
}

function fill() {
  empty();
  const { rank, similarity, person } = hits[at];
  $("viewer-title").textContent = `Hit ${rank}`;
  const facts = [
    `similarity ${similarity.toFixed(3)}`,
    `detection ${person.score.toFixed(2)}`,
    cameraOf(person),
    when(person),
    span(person),
    person.name || person.source,
  ];
  $("viewer-facts").textContent = facts.filter(Boolean).join(" · ");
  const image = make("img", { alt: `The picture that shows hit ${rank}` });
  const box = make("div", { className: "found" });
  place(box, person.box, person.width, person.height);
  const stage = $("viewer-stage");
  stage.style.aspectRatio = `${person.width} / ${person.height}`;
  stage.style.setProperty("--shape", person.width / person.height);
  stage.append(image, box);
  show(image, person.picture).then(() => {
    if (image.classList.contains("missing")) box.remove();
  });
  // A button that is switched off would lose the focus.
  $("viewer-before").setAttribute("aria-disabled", String(at === 0));
  $("viewer-after").setAttribute("aria-disabled", String(at === hits.length - 1));
  $("viewer-clip").hidden = person.clip === null;
}

async function play() {
  const { person } = hits[at];
  const stage = $("viewer-stage");
  empty();
  stage.replaceChildren(make("p", { className: "hint", textContent: "Cutting the clip…" }));
  try {
    address = await blob(person.clip);
    const video = make("video", { controls: true, autoplay: true, loop: true, muted: true });
    video.src = address;
    video.setAttribute("aria-label", "Clip around this moment");
    stage.replaceChildren(video);
  } catch (error) {
    stage.replaceChildren(make("p", { className: "hint", textContent: error.message }));
  }
}
