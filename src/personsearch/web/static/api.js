// Requests to the server. The key is asked for where needed, and kept for this tab only.

import { $ } from "./dom.js";

const KEPT = "personsearch key";
let asking = null;

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function askForKey(why) {
  if (asking === null) {
    asking = new Promise((done) => {
      $("key-why").textContent = why;
      $("key-input").value = "";
      $("key").showModal();
      $("key-form").onsubmit = () => {
        sessionStorage.setItem(KEPT, $("key-input").value.trim());
        $("key-input").value = "";
        done();
      };
    }).finally(() => {
      asking = null;
    });
    // The page is empty without a key, so the dialog cannot be cancelled.
    $("key").oncancel = (event) => event.preventDefault();
  }
  return asking;
}

export function hasKey() {
  return sessionStorage.getItem(KEPT) !== null;
}

export async function changeKey() {
  sessionStorage.removeItem(KEPT);
  await askForKey("");
}

export async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    const key = sessionStorage.getItem(KEPT);
    if (key) headers.Authorization = `Bearer ${key}`;
    let answer;
    try {
      answer = await fetch(path, { ...options, headers, credentials: "omit" });
    } catch {
      throw new Refused(0, "The server does not answer. Is it still running?");
    }
    if (answer.status === 401) {
      sessionStorage.removeItem(KEPT);
      await askForKey(key ? "This key is not valid." : "");
      continue;
    }
    if (answer.ok) return answer;
    let text = `The server answered ${answer.status}.`;
    try {
      text = (await answer.json()).detail;
    } catch {
      // Not JSON: keep the text above.
    }
    throw new Refused(answer.status, text);
  }
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) });
}

// A picture or clip as a URL that an element can show: only fetch can send the key.
export async function blob(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

export async function show(image, path) {
  try {
    const address = await blob(path);
    image.onload = () => URL.revokeObjectURL(address);
    image.src = address;
  } catch (error) {
    image.alt = error.message;
    image.classList.add("missing");
  }
}
