// The choice of several jobs, and what can be done with all of them.

import { button, by, h, put, say, show } from "/dom.js";
import { refused } from "/sentences.js";
import { call } from "/session.js";
import { number, t } from "/words.js";

const chosen = new Set();
let last = null;

/** A box to choose a job with; `title` is what the job is called. */
export function chooser(id, title) {
  const box = h("input", { type: "checkbox", class: "choose", "aria-label": t("choose.one", { name: title }), "data-choose": id });
  box.checked = chosen.has(id);
  return box;
}

/** Connects the bar. `undo` runs what can be taken back, `toast(text, bad)` shows a message, `removed(ids)` follows a cancel. */
export function selection({ undo, toast, cancelled }) {
  const said = h("p", { class: "choose-said", role: "status" });
  const all = button(t("choose.all"), "check", selectAll);
  const tools = [all, button(t("choose.cancel"), "close", () => act("open")), button(t("choose.retry"), "again", () => act("failed")),
    button(t("choose.save"), "down", () => act("save")), button(t("choose.remove"), "bin", () => act("results")), button(t("choose.none"), "", clear)];
  const bar = by("choose-bar");
  bar.append(said, h("div", { class: "tools" }, ...tools));
  const mode = by("choose-mode");
  mode.addEventListener("click", () => {
    if (document.body.toggleAttribute("data-choosing")) update();
    else clear();
  });

  addEventListener("click", (event) => {
    const box = event.target.closest?.("[data-choose]");
    if (!box) return;
    const boxes = [...document.querySelectorAll("[data-choose]")];
    const [from, to] = [boxes.findIndex((one) => one.dataset.choose === last), boxes.indexOf(box)].sort((one, other) => one - other);
    const range = event.shiftKey && from >= 0 ? boxes.slice(from, to + 1) : [box];
    for (const one of range) {
      if (box.checked) chosen.add(one.dataset.choose);
      else chosen.delete(one.dataset.choose);
    }
    last = box.dataset.choose;
    document.body.toggleAttribute("data-choosing", document.body.hasAttribute("data-choosing") || chosen.size > 0);
    update();
  });

  function update() {
    for (const box of document.querySelectorAll("[data-choose]")) box.checked = chosen.has(box.dataset.choose);
    const on = document.body.hasAttribute("data-choosing");
    put(mode, "aria-pressed", String(on));
    show(bar, on);
    for (const one of tools.slice(1, -1)) one.disabled = !chosen.size;
    say(said, t(chosen.size === 1 ? "choose.count.one" : "choose.count", { count: number(chosen.size) }));
  }

  function clear() {
    if (bar.contains(document.activeElement)) mode.focus();
    chosen.clear();
    document.body.removeAttribute("data-choosing");
    update();
  }

  async function selectAll() {
    const ids = await asked(() => call("GET", "/console/ids"));
    for (const id of Object.values(ids ?? {}).flat()) chosen.add(id);
    update();
  }

  async function asked(what) {
    try {
      return await what();
    } catch (error) {
      toast(refused(error), true);
      return null;
    }
  }

  /** Does something with those jobs that it fits: the chosen ones, or those of a batch. */
  async function act(which, batch = "") {
    const found = await asked(() => call("GET", `/console/ids?batch=${encodeURIComponent(batch)}`));
    const fits = which === "save" ? "results" : which;
    const ids = (found?.[fits] ?? []).filter((id) => batch || chosen.has(id));
    if (!found) return;
    if (!ids.length) return void toast(t(`choose.nothing.${fits}`));
    if (!batch) clear();
    if (which === "save") return save(ids, batch);
    const count = number(ids.length);
    const one = ids.length === 1 ? ".one" : "";
    if (which === "open") return undo.later("cancel", ids, t(`undo.cancels${one}`, { count }), cancelled);
    if (which === "results") return undo.later("remove", ids, t(`undo.removes${one}`, { count }));
    return retry(ids);
  }

  /** Starts jobs again; one that is refused does not stop the others. */
  async function retry(ids) {
    let begun = 0;
    let why = null;
    for (const id of ids) {
      try {
        await call("POST", `/console/jobs/${encodeURIComponent(id)}/retry`, {});
        begun += 1;
      } catch (error) {
        why ??= error;
        if (!error.status || error.status === 401) break; // nothing answers, or nothing to this page
      }
    }
    if (begun) toast(t(`choose.retried${begun === 1 ? ".one" : ""}`, { count: number(begun) }));
    if (why) toast(refused(why), true);
  }

  /** Saves all results as one file. */
  async function save(jobs, name) {
    const found = await asked(() => call("POST", "/console/archives", { jobs, name }));
    if (found) h("a", { href: found.url, download: "" }).click();
  }

  const rows = new Map();
  let asking = 0;

  /** Shows a line for each batch that is unfinished or ended recently. */
  async function showBatches() {
    asking = 0;
    const { batches } = await call("GET", "/console/batches").catch(() => ({}));
    if (!batches) return;
    for (const name of rows.keys()) if (!batches.some((one) => one.name === name)) rows.delete(name);
    for (const { name } of batches) if (!rows.has(name)) rows.set(name, batchRow(name));
    const list = by("batches");
    const wanted = batches.map(({ name }) => rows.get(name).root);
    if (wanted.some((row, at) => list.children[at] !== row) || list.children.length !== wanted.length) list.replaceChildren(...wanted);
    show(list, batches.length > 0);
    for (const one of batches) rows.get(one.name).update(one);
  }

  function batchRow(name) {
    const tool = (key, icon, which) => {
      const made = button(t(key), icon, () => act(which, name), "quiet small");
      put(made, "aria-label", `${t(key)}: ${name}`);
      return made;
    };
    const said = h("span", { class: "hint" });
    const [cancel, retry, save_] = [tool("choose.cancel", "close", "open"), tool("choose.retry", "again", "failed"), tool("batch.save", "down", "save")];
    const find = () => { // its jobs, by the search
      const search = by("past-search");
      search.value = name;
      search.dispatchEvent(new Event("input"));
      search.scrollIntoView();
      search.focus({ preventScroll: true });
    };
    const root = h("li", { class: "batch-line" }, h("button", { class: "link-button", type: "button", title: t("batch.open"), onclick: find }, h("bdi", { text: name })), said, h("div", { class: "tools" }, cancel, retry, save_));
    return { root, update({ jobs, open, done }) {
      const failed = jobs - open - done;
      say(said, t(failed ? "batch.state.failed" : "batch.state", { count: number(jobs), done: number(done), failed: number(failed) }));
      show(cancel, open > 0);
      show(retry, failed > 0);
      show(save_, done > 0);
    } };
  }

  put(mode, "aria-pressed", "false");
  return { batchesSoon: () => { asking ||= setTimeout(showBatches, 500); } };
}
