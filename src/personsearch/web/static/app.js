// The page: the query on one side, the results on the other.

import { changeKey, get, hasKey, post } from "./api.js";
import { $, make, say } from "./dom.js";
import * as filters from "./filters.js";
import * as queries from "./queries.js";
import { card, chip, showEmpty } from "./results.js";
import * as timeline from "./timeline.js";
import * as viewer from "./viewer.js";

const state = {
  store: null,
  right: new Map(), // people of the archive who are examples
  wrong: new Map(), // people of the archive who are counterexamples
  marks: new Map(), // right or wrong, of the shown hits
  selected: new Map(),
  answer: null,
  running: 0,
};

async function loadStore() {
  try {
    state.store = await get("/api/v1/store");
  } catch (error) {
    showEmpty(make("p", { textContent: error.message }));
    return;
  }
  const { store } = state;
  const people = store.people.toLocaleString();
  const cameras = store.cameras.length;
  const parts = [`${people} views of people`];
  if (cameras) parts.push(`${cameras} ${cameras === 1 ? "camera" : "cameras"}`);
  $("archive").textContent = parts.join(" · ");
  $("change-key").hidden = !hasKey();
  filters.offer("cameras", store.cameras, 1);
  filters.offer("sources", store.sources, 2);
  if (store.network === "failed") say(store.problem, true);
  if (!store.scopes.includes("search")) {
    showEmpty(make("p", { textContent: "This key does not allow searching." }));
  } else if (store.people === 0) {
    showEmpty(
      make("p", { textContent: "This archive is empty. Index photos or videos with:" }),
      make("pre", { tabIndex: 0, textContent: `personsearch index FOLDER --store ${store.uri}` }),
      make("p", { className: "hint", textContent: "Then reload this page." }),
    );
  } else if (state.answer === null) {
    showEmpty(
      make("p", { textContent: "People who are similar to the chosen person appear here." }),
      make("p", {
        className: "hint",
        textContent: "Query pictures stay in the server's memory for a short time.",
      }),
    );
  }
}

function refresh() {
  const count = queries.chosen().length + state.right.size;
  $("search").disabled = count === 0;
  const chips = [];
  for (const [list, label] of [
    [state.right, "Like this"],
    [state.wrong, "Not like this"],
  ]) {
    for (const person of list.values()) {
      chips.push(
        chip(person, label, () => {
          list.delete(person.id);
          refresh();
          $("search").focus();
        }),
      );
    }
  }
  $("chips").replaceChildren(...chips);
  $("examples").hidden = chips.length === 0;
}

async function search() {
  const run = ++state.running;
  const examples = queries.chosen();
  if (!examples.length && !state.right.size) {
    say("Choose at least one person first.", true);
    return;
  }
  say("Searching…");
  $("results").setAttribute("aria-busy", "true");
  try {
    const answer = await post("/api/v1/search", {
      examples,
      people: [...state.right.keys()],
      unlike: [...state.wrong.keys()],
      filters: filters.values(),
      top: filters.top(),
    });
    const found = await answer.json();
    if (run === state.running) showAnswer(found);
  } catch (error) {
    say(error.message, true);
    if (error.status === 404 && examples.length && /query picture/.test(error.message)) {
      queries.forgetAll();
      say(error.message, true);
    }
  } finally {
    if (run === state.running) $("results").removeAttribute("aria-busy");
  }
}

function showAnswer(answer) {
  state.answer = answer;
  state.marks.clear();
  state.selected.clear();
  const { hits } = answer;
  $("results-title").textContent = hits.length
    ? `${hits.length} ${hits.length === 1 ? "hit" : "hits"}`
    : "No hits";
  const on = { open, mark, select, more, canErase: state.store.scopes.includes("erase") };
  $("hits").replaceChildren(...hits.map((hit) => card(hit, on)));
  timeline.draw(answer.timeline, open);
  $("actions").hidden = hits.length === 0;
  $("note").hidden = hits.length === 0;
  if (hits.length) showEmpty();
  else showEmpty(make("p", { textContent: answer.reason ? `No hits: ${answer.reason}.` : "No hits." }));
  showMarks();
  say(`${hits.length} found in ${answer.seconds.toFixed(2)} s.`);
  if (window.matchMedia("(max-width: 60rem)").matches) $("results").scrollIntoView();
}

function open(person) {
  viewer.open(state.answer.hits, person);
}

function mark(person, how) {
  if (how) state.marks.set(person, how);
  else state.marks.delete(person);
  showMarks();
}

function select(person, on) {
  if (on) state.selected.set(person.id, person);
  else state.selected.delete(person.id);
  showMarks();
}

function showMarks() {
  $("again").hidden = state.marks.size === 0;
  $("erase").hidden = state.selected.size === 0;
  $("erase").textContent = `Erase ${state.selected.size}…`;
}

function more(person) {
  queries.chooseNobody();
  state.wrong.clear();
  state.right.clear();
  state.right.set(person.id, person);
  refresh();
  search();
}

function again() {
  for (const { person } of state.answer.hits) {
    const how = state.marks.get(person.id);
    if (how === "right") state.right.set(person.id, person);
    if (how === "wrong") state.wrong.set(person.id, person);
  }
  refresh();
  search();
  $("results").focus();
}

async function report(format) {
  const marked = (how) => [...state.marks].filter(([, mark]) => mark === how).map(([id]) => id);
  try {
    const answer = await post(`/api/v1/results/${state.answer.result}/report`, {
      format,
      right: marked("right"),
      wrong: marked("wrong"),
    });
    const address = URL.createObjectURL(await answer.blob());
    make("a", { href: address, download: `personsearch-report.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    say("The report was downloaded.");
  } catch (error) {
    say(error.message, true);
  }
}

function askToErase() {
  const people = [...state.selected.values()];
  const one = people.length === 1;
  $("confirm-text").textContent = `${one ? "This person is" : `These ${people.length} people are`} \
erased from the archive, with every view of their tracks. This cannot be undone. The photos and \
videos themselves are not changed.`;
  $("confirm-people").replaceChildren(...people.map((p) => chip(p, `person ${p.id}`, null)));
  $("confirm").showModal();
}

async function erase() {
  $("confirm").close();
  const ids = [...state.selected.keys()];
  try {
    const erased = await (await post("/api/v1/erase", { people: ids })).json();
    for (const id of ids) {
      state.right.delete(id);
      state.wrong.delete(id);
    }
    refresh();
    await loadStore();
    if (queries.chosen().length || state.right.size) await search();
    else showAnswer({ ...state.answer, hits: [], timeline: [] });
    say(`${erased.views} ${erased.views === 1 ? "view was" : "views were"} erased.`);
    $("results").focus();
  } catch (error) {
    say(error.message, true);
  }
}

function wire() {
  queries.whenChanged(refresh);
  viewer.setUp(more);
  $("file").addEventListener("change", async () => {
    const files = [...$("file").files];
    await queries.addFiles(files);
    $("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) {
      event.preventDefault();
      queries.addFiles(files);
    }
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    queries.addFiles([...event.dataTransfer.files]);
  });
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  $("filters").addEventListener("input", filters.show);
  $("clear-filters").onclick = filters.clear;
  $("again").onclick = again;
  $("report-html").onclick = () => report("html");
  $("report-csv").onclick = () => report("csv");
  $("erase").onclick = askToErase;
  $("confirm-no").onclick = () => $("confirm").close();
  $("confirm-yes").onclick = erase;
  $("change-key").onclick = async () => {
    await changeKey();
    await loadStore();
  };
}

wire();
refresh();
loadStore();
