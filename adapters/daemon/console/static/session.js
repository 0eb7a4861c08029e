// Login: a link's code is exchanged for a session, which is kept in the origin's storage and sent with each call.

const KEY = "wakestream.session";

/** A refused call: `code` is a word for programs, `status` the HTTP status, `numbers` the values in the sentence. */
export class Refusal extends Error {
  constructor(status, plain) {
    super(plain.error || `HTTP ${status}`);
    this.status = status;
    this.code = plain.code || "refused";
    this.numbers = plain;
  }
}

export const bearer = () => ({ Authorization: `Bearer ${localStorage.getItem(KEY) || ""}` });

/** Resolves when there is a session other than `shown`, from here or from another tab. */
export function renewed(shown) {
  return new Promise((go) => {
    const look = () => {
      if (bearer().Authorization === shown) return;
      removeEventListener("storage", look);
      removeEventListener("entered", look);
      go();
    };
    addEventListener("storage", look);
    addEventListener("entered", look);
    look();
  });
}

/** One call of the local API, which `keepalive` lets outlive the page. Throws `Refusal`, or `TypeError` without a response. */
export async function call(method, path, body, keepalive = false) {
  const response = await fetch(path, {
    method,
    headers: { ...bearer(), "Content-Type": "application/json" },
    body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    keepalive,
  });
  const plain = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, plain);
  return plain;
}

/** Whether there is a session, from the code in the address or an earlier one. Throws without a response. */
export async function enter(code = codeIn(location.hash)) {
  if (location.hash.includes("link=")) history.replaceState(null, "", location.pathname);
  if (!code && !localStorage.getItem(KEY)) return false;
  try {
    const plain = await call("POST", "/console/session", code ? { code } : {});
    localStorage.setItem(KEY, plain.session);
    dispatchEvent(new Event("entered"));
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) return false;
    throw error;
  }
}

/** The code in a link or in pasted text. */
export function codeIn(text) {
  const found = /(?:^|[#&])link=([\w-]+)/.exec(text) || /^\s*([\w-]{20,})\s*$/.exec(text);
  return found ? found[1] : "";
}
