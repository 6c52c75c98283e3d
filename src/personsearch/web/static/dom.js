// Small helpers: data is inserted as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.startsWith("aria-")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function drawn(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Places a box in pixels over a scaled picture, in percent.
export function place(node, box, width, height) {
  const [x1, y1, x2, y2] = box;
  node.style.left = `${(100 * Math.max(x1, 0)) / width}%`;
  node.style.top = `${(100 * Math.max(y1, 0)) / height}%`;
  node.style.width = `${(100 * (Math.min(x2, width) - Math.max(x1, 0))) / width}%`;
  node.style.height = `${(100 * (Math.min(y2, height) - Math.max(y1, 0))) / height}%`;
}

export function say(text, wrong = false) {
  const status = $("status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

// A bare name such as "1" would be unclear.
export function cameraOf(person) {
  return person.camera === null ? "" : `camera ${person.camera}`;
}

export function when(person) {
  if (person.time !== null) {
    return new Date(person.time * 1000).toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "medium",
    });
  }
  return person.position === null ? "" : `at ${clock(person.position)}`;
}

export function span(person) {
  const track = person.track;
  if (track === null || track.last <= track.first) return "";
  return `seen ${clock(track.first)} to ${clock(track.last)}`;
}
