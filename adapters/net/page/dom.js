// Creates and changes elements. Text is never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: `class`, `text`, `on…` listeners, and attributes; false and null leave one out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A drawing of 16 by 16 made of strokes. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "ico");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

const PATHS = {
  video: "M2.5 4.5h8v7h-8zM10.5 7.2l3-1.7v5l-3-1.7",
  audio: "M3 6.5v3M6 4v8M9 5.5v5M12 3v10",
  eye: "M1.5 8s2.4-4.5 6.5-4.5S14.5 8 14.5 8 12.1 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6",
  image: "M2.5 3.5h11v9h-11zM2.5 11l3.2-3.2 2.6 2.6 2-2 3.2 3.2M10.3 6.2h.1",
  text: "M4 2.5h5.5l3 3v8H4zM6 7h4.5M6 9.3h4.5M6 11.4h2.5",
  file: "M4 2.5h5.5l3 3v8H4zM9.5 2.5v3h3",
  play: "M5.5 3.5l6.5 4.5-6.5 4.5z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  more: "M4 6l4 4 4-4",
  down: "M8 2.5v7.5M4.8 7.2L8 10.4l3.2-3.2M3 13.2h10",
  close: "M4 4l8 8M12 4l-8 8",
  again: "M12.8 8a4.8 4.8 0 1 1-1.5-3.5M12.9 2.2v2.9H10",
  plus: "M8 3.5v9M3.5 8h9",
  minus: "M3.5 8h9",
  check: "M3.5 8.4l3 3 6-6.6",
  bin: "M3 4.5h10M6.2 4.5v-2h3.6v2M4.4 4.5l.6 9h6l.6-9",
  dice: "M3 3h10v10H3zM5.8 5.8h.01M10.2 5.8h.01M8 8h.01M5.8 10.2h.01M10.2 10.2h.01",
  grip: "M6 4h.01M10 4h.01M6 8h.01M10 8h.01M6 12h.01M10 12h.01",
  gear: "M2 4.5h6M11 4.5h3M2 11.5h3M8 11.5h6M9.5 3v3M6.5 10v3",
  now: "M3.5 3.5l6 4.5-6 4.5zM12.5 3.5v9",
};

/** Sets text if it differs: screen readers do not repeat it, and a selection stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute if it differs. */
export function put(element, name, value) {
  const wanted = value === null || value === undefined || value === false ? null : String(value === true ? "" : value);
  if (element.getAttribute(name) === wanted) return;
  if (wanted === null) element.removeAttribute(name);
  else element.setAttribute(name, wanted);
}

/** Shows or hides. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** A button with a drawing and a word. */
export function button(word, drawing, onclick, more = "quiet") {
  return h("button", { class: `button ${more}`, type: "button", title: word || null, onclick }, drawing ? icon(drawing) : null, h("span", { text: word }));
}

/** A name from outside, isolated so that it cannot change the direction of the text around it. It breaks after `_`, `-` and dots. */
export function named(text) {
  const parts = String(text).split(/(?<=[_.-])(?=[^_.-])/);
  return h("bdi", { title: text }, ...parts.flatMap((part, at) => (at ? [h("wbr"), part] : [part])));
}

/** A job's files in a title: `names`, each with what `after(index)` gives, and how many are left out. */
export function titled(names, more, after = () => null) {
  const plus = () => h("span", { class: "with", "aria-hidden": "true", text: "+" });
  const parts = names.flatMap((name, at) => [at ? plus() : null, named(name), after(at)]);
  return more ? [...parts, plus(), h("span", { class: "more", text: more })] : parts;
}

export const by = (id) => document.getElementById(id);

// A press also counts if the page has moved its button before it is let go, as late news of a file can do.
let pressed = null;
addEventListener("mousedown", ({ button, target, x, y }) => { pressed = button ? null : { on: target.closest("button"), x, y }; });
addEventListener("mouseup", ({ target, x, y }) => {
  const { on, ...at } = pressed ?? {};
  pressed = null;
  if (on?.isConnected && !on.contains(target) && Math.hypot(x - at.x, y - at.y) < 8) on.click();
});
