// What is known of one job: its id, its files, its cost, and a log of what it did. It is asked for when it is opened.

import { costOf } from "/costs.js";
import { button, h, put } from "/dom.js";
import { kindTitle } from "/kinds.js";
import { report, why } from "/sentences.js";
import { call } from "/session.js";
import { begin, take } from "/store.js";
import { clock, t } from "/words.js";

/** The details of a job; `asked` runs a call and shows its refusal. `update(job)` follows the job while they are open. */
export class Details {
  constructor(asked) {
    this.asked = asked;
    this.box = h("div");
    this.root = h("details", { class: "card-detail", ontoggle: () => this.ask() }, h("summary", { text: t("card.details") }), this.box);
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
      ...job.outputs.map((one) => ["path", h("span", {}, h("code", { text: one.path }), " ", one.here ? this.folder(one) : null)]),
    ];
    const said = report(job);
    this.box.replaceChildren(...(said ? [h("p", { text: said })] : []),
      h("dl", { class: "facts-list" }, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", { text: t(`detail.${name}`) }), h("dd", {}, value)))),
      h("ol", { class: "log", tabindex: "0", "aria-label": t("detail.log") }, ...[...lines(card)].map(([at, text]) => h("li", {}, h("time", { text: clock(at, true) }), h("span", { text })))));
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
