// The form for a new license or code: role, note and GPUs, with the same rules as the command line.

import { button, h, put, say, show } from "./dom.js";
import { t } from "./words.js";

export const ROLES = ["client", "worker", "monitor", "depot", "front", "admin"];
const TIED = ["worker", "monitor"];
const LONGEST = 200;

/** Fills a form. `read()` gives its values or null, `clear()` empties it, `busy(promise)` waits with a disabled button. */
export function fieldsOf(form, id, word) {
  const role = h("select", { id: `${id}-role` }, ...ROLES.filter((name) => id !== "invite" || name !== "front").map((name) => h("option", { value: name, text: t(`role.${name}`) })));
  const note = h("input", { id: `${id}-note`, maxlength: String(LONGEST), autocomplete: "off", placeholder: t("field.note.hint"), "aria-describedby": `${id}-wrong` });
  const gpus = h("input", { id: `${id}-gpus`, autocomplete: "off", spellcheck: "false", placeholder: t("field.gpus.hint"), "aria-describedby": `${id}-wrong` });
  const wrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert" });
  const send = h("button", { class: "button main", type: "submit", text: word });
  const gpuBox = field(gpus, t("field.gpus"));
  form.append(field(role, t("field.role")), field(note, t("field.note")), gpuBox, send, wrong);

  const names = () => gpus.value.split(",").map((name) => name.trim()).filter(Boolean);
  const look = () => {
    show(gpuBox, TIED.includes(role.value));
    say(wrong, "");
    put(gpus, "aria-invalid", null);
  };
  role.addEventListener("change", look);
  gpus.addEventListener("input", look);
  look();

  return {
    read() {
      const found = TIED.includes(role.value) ? names() : [];
      if (found.some((name) => name.length > 100)) {
        put(gpus, "aria-invalid", "true");
        say(wrong, t("field.gpus.long"));
        gpus.focus();
        return null;
      }
      return { role: role.value, note: note.value.trim(), gpus: found };
    },
    clear() {
      note.value = "";
      gpus.value = "";
    },
    async busy(promise) {
      send.disabled = true;
      try {
        return await promise;
      } finally {
        send.disabled = false;
      }
    },
  };
}

function field(control, label) {
  return h("div", { class: "field" }, h("label", { for: control.id, text: label }), control);
}

/** A button that copies what `text()` gives. */
export function copied(text, toast, word = t("copy")) {
  const made = button(word, null, async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(made.querySelector("span"), t("copied"));
      setTimeout(() => say(made.querySelector("span"), word), 2500);
    } catch {
      toast(t("copy.failed"), true);
    }
  });
  return made;
}
