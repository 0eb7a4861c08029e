// What is known of one job: its id, its files, its cost, and a log of what it did. It is asked for when it is opened.

import { costOf } from "/costs.js";
import { button, h, put } from "/dom.js";
import { kindTitle } from "/kinds.js";
import { made, sideBySide } from "/results.js";
import { report, why } from "/sentences.js";
import { call } from "/session.js";
import { begin, canRemake, take, titleText } from "/store.js";
import { newId } from "/transfer.js";
import { clock, duration, number, t } from "/words.js";

/** The details of a job; `asked` runs a call and shows its refusal. `update(job)` follows the job while they are open. */
export class Details {
  constructor(asked) {
    this.asked = asked;
    this.box = h("div");
    this.log = h("ol", { class: "log", tabindex: "0", "aria-label": t("detail.log") });
    this.root = h("details", { class: "card-detail", ontoggle: () => this.ask() }, h("summary", { text: t("card.details") }), this.box, this.log);
  }

  update(job) {
    const news = JSON.stringify([job.last, job.note, job.outcome, costOf(job.id)]);
    const old = news !== this.news;
    Object.assign(this, { job, news });
    put(this.root.firstChild, "aria-label", `${t("card.details")}: ${job.id}`);
    if (old) this.ask();
  }

  async ask() {
    if (!this.root.open || this.asking) return;
    this.asking = true;
    try {
      do {
        this.shown = this.news;
        const card = await this.asked(() => call("GET", `/console/jobs/${encodeURIComponent(this.job.id)}`));
        if (card) this.draw(card);
      } while (this.shown !== this.news && this.root.open && this.root.isConnected);
    } finally {
      this.asking = false;
    }
  }

  draw(card) {
    const job = begin(card);
    const rows = [
      ["id", h("code", { text: job.id })], ["kind", kindTitle(job.kind)], ["cost", costOf(job.id)],
      ["made", card.record.gpu ? [card.record.gpu, duration(card.record.seconds), card.record.version].filter(Boolean).join(" · ") : ""],
      ...job.outputs.map((one) => ["path", h("span", {}, h("code", { text: one.path }), " ", one.here ? this.folder(one) : null)]),
    ];
    const said = report(job);
    const family = card.family.filter((one) => made(one).length);
    const held = this.box.contains(document.activeElement) && document.activeElement;
    this.box.replaceChildren(...(said ? [h("p", { text: said })] : []), ...(canRemake(job) ? [this.varied ??= this.vary(card)] : []),
      ...(family.length > 1 ? [button(t("vary.compare", { count: number(family.length) }), "eye", () => this.compare(family), "quiet small")] : []),
      h("dl", { class: "facts-list" }, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", { text: t(`detail.${name}`) }), h("dd", {}, value)))));
    this.log.replaceChildren(...[...lines(card)].map(([at, text]) => h("li", {}, h("time", { text: clock(at, true) }), h("span", { text }))));
    if (held) (held.isConnected ? held : this.root.firstChild).focus({ preventScroll: true });
  }

  /** What makes more results of the same files: by chance, or with one parameter changed. */
  vary(card) {
    const more = (count, body) => this.asked(async () => {
      for (let left = count; left > 0; left -= 1) await call("POST", `/console/jobs/${encodeURIComponent(card.id)}/another`, { id: newId(), ...body });
    });
    const name = h("select", { "aria-label": t("vary.name") }, ...card.names.map((each) => h("option", { text: each })));
    const value = h("input", { "aria-label": t("vary.value"), placeholder: t("vary.value"), autocomplete: "off", required: true });
    const change = (event) => {
      event.preventDefault();
      more(1, { params: { [name.value]: value.value } });
    };
    return h("div", { class: "vary" }, button(t("vary.four"), "again", () => more(4, { vary: true }), "quiet small"),
      card.names.length ? h("form", { onsubmit: change }, h("span", { text: t("vary.one") }), name, value, h("button", { class: "button quiet small", text: t("card.another") })) : null);
  }

  /** Shows the results of the family in a window. */
  async compare(family) {
    const members = await this.asked(() => Promise.all(family.map(async (card) => ({ card, ...(await call("POST", `/console/jobs/${encodeURIComponent(card.id)}/ticket`)) }))));
    if (!members) return;
    const dialog = h("dialog", { class: "theatre", "aria-label": titleText(this.job), onclose: () => dialog.remove() }, sideBySide(members),
      h("div", { class: "theatre-foot" }, h("bdi", { text: titleText(this.job) }), button(t("card.hide"), "close", () => dialog.close(), "quiet")));
    document.body.append(dialog);
    dialog.showModal();
  }

  folder(one) {
    const show = () => this.asked(() => call("POST", `/console/jobs/${encodeURIComponent(this.job.id)}/folder`, { name: one.name }));
    return button(t("detail.folder"), "file", show, "quiet small");
  }
}

/** What the job did, as times and sentences; a sentence that repeats stands once. */
function* lines(card) {
  const job = begin({ ...card, events: [], outcome: null, state: "open" });
  let before = "";
  for (const event of card.events) {
    take(job, event);
    const said = card.outcome && event === card.events.at(-1) ? why(begin(card)) : why(job);
    if (said !== before) yield [event.at, said];
    before = said;
  }
}
