// Small pictures of files, which the daemon makes, or else this page. They are asked for when they stay in view, two at a time.

import { h, icon, put, say, show } from "/dom.js";
import { fileLook, mediaLook } from "/look.js";
import { call } from "/session.js";
import { t } from "/words.js";

const KEPT = 200;
const AT_ONCE = 2;
const STAYS = 250;
const PICTURED = ["video", "image"];
const known = new Map();
const looks = new Map(); // what the page itself can look at, by the address of the preview
const queue = [];
let busy = 0;

/** The preview at this address: `image` is a data URL or null, `format` a list of words. Null if there is none. `first`: before others that wait. */
export function preview(path, first = false) {
  if (!known.has(path)) keep(known, path, inTurn(() => made(path), first).catch(() => { known.delete(path); return null; }));
  return known.get(path);
}

function keep(map, path, value) {
  if (map.size >= KEPT) map.delete(map.keys().next().value);
  map.set(path, value);
}

/** The daemon's preview; without ffmpeg it has none, and the page looks itself. */
async function made(path) {
  const found = await call("GET", path);
  const { look, isServed } = looks.get(path) ?? {};
  const asks = look && !found.image && !found.format.length && (!isServed || found.unseen);
  const own = asks ? await look().catch(() => null) : null; // null: a format that the browser cannot play
  if (!own && (asks || found.unseen)) known.delete(path); // there may be one later
  return own ? { ...found, ...own } : found;
}

/** Lets the page look into a file of its own for this preview. */
export function offer(path, file) {
  if (file instanceof File) keep(looks, path, { look: () => fileLook(file) });
}

/** The address of the preview of a job's input. */
export const inputPath = (job, name) => `/console/previews/jobs/${encodeURIComponent(job)}?input=${encodeURIComponent(name)}`;

/** Lets the page look at a result, or at an input of a job that is done, as its players do. True if it may look from now on. */
function offerServed(path, job, one, query) {
  if (looks.has(path) || job.outcome?.event !== "done") return false;
  const look = async () => {
    const { url } = await call("POST", `/console/jobs/${encodeURIComponent(job.id)}/ticket`);
    return mediaLook(`${url}&${query}=${encodeURIComponent(one.name)}`, one.shown, one.size);
  };
  keep(looks, path, { look, isServed: true });
  return true;
}

async function inTurn(work, first) {
  if (busy < AT_ONCE) busy += 1;
  else await new Promise((go) => { if (first) queue.unshift(go); else queue.push(go); });
  try {
    return await work();
  } finally {
    const next = queue.shift();
    if (next) next();
    else busy -= 1;
  }
}

const soon = new Map();
const seen = new IntersectionObserver((found) => {
  for (const { target, isIntersecting } of found) {
    clearTimeout(soon.get(target));
    soon.delete(target);
    if (isIntersecting) soon.set(target, setTimeout(() => look(target), STAYS)); // not for all that a scroll passes
  }
});

function look(target) {
  soon.delete(target);
  seen.unobserve(target);
  fill(target);
}

async function fill(thumb) {
  const path = thumb.dataset.of;
  const found = await preview(path);
  if (!found?.image || thumb.dataset.of !== path) return;
  thumb.replaceChildren(h("img", { src: found.image, alt: "" }));
  thumb.title = found.format.join("  ·  ");
}

/** What the engine has so far of a job that runs: a picture, or the end of a text. Asked for once a second while it is in view. */
export class SoFar {
  constructor() {
    this.root = h("div", { class: "so-far", hidden: true });
    this.number = 0;
  }

  async update(job, card) {
    this.runs = !job.outcome && job.last?.event === "running";
    if (!this.runs) {
      this.number = 0;
      show(this.root, false);
    }
    const { top, bottom } = card.getBoundingClientRect();
    if (!this.runs || this.asks || document.hidden || bottom <= 0 || top >= innerHeight) return;
    this.asks = true;
    const found = await call("GET", `/console/jobs/${encodeURIComponent(job.id)}/preview?seen=${this.number}`).catch(() => ({}));
    this.asks = false;
    if (!found.number || !this.runs) return;
    this.number = found.number;
    const [tag, props] = found.data ? ["img", { alt: t("card.so_far") }] : ["p", { dir: "auto" }];
    if (this.root.firstChild?.localName !== tag) this.root.replaceChildren(h(tag, props));
    if (found.data) put(this.root.firstChild, "src", `data:${found.media};base64,${found.data}`); // a new element has no height until it is decoded
    else say(this.root.firstChild, found.text.slice(-600));
    show(this.root, true);
  }
}

/** An empty place for a picture. */
export const thumb = () => h("span", { class: "thumb", "aria-hidden": "true" });

/** Shows the picture of a job in its place: of the result, or else of an input. False if the job has none. */
export function picture(place, job) {
  const shows = (one) => one.here && PICTURED.includes(one.shown);
  const made = job.outcome ? job.outputs.find(shows) : null;
  const given = job.inputs.find(shows);
  const path = made ? `/console/previews/jobs/${encodeURIComponent(job.id)}?output=${encodeURIComponent(made.name)}` : given ? inputPath(job.id, given.name) : "";
  const looksNow = path !== "" && offerServed(path, job, made ?? given, made ? "name" : "input");
  if ((place.dataset.of ?? "") === path) {
    if (looksNow) seen.observe(place);
    return path !== "";
  }
  place.dataset.of = path;
  place.replaceChildren(icon((made ?? given)?.shown ?? "file"));
  if (path) seen.observe(place);
  return path !== "";
}
