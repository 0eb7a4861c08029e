// Which files belong together, by their names. `streams/jobs/pairs.py` has the same rule, and says it in words. Pure.

const ROLES = new Set(["video", "videos", "vid", "picture", "image", "audio", "audios", "aud", "voice", "voiceover", "speech", "sound",
  "narration", "视频", "影片", "画面", "音频", "语音", "声音", "配音", "旁白"]);
const UNSPACED = [...ROLES].filter((word) => !/^[a-z]/.test(word));
const KEY = "\n";

/**
 * The jobs of many files. Each of `groups` is an input: `names` are the names of the files for it, `required` whether a
 * job needs one, `roles` more words that say what such a file is. Each job has an index for each group, or -1.
 */
export function pairsOf(groups) {
  const roles = new Set([...ROLES, ...groups.flatMap((group) => group.roles ?? [])]);
  const free = groups.map((group) => new Map(group.names.map((name, at) => [at, name])));
  const jobs = [];
  const use = (found) => {
    jobs.push(...found);
    for (const job of found) job.forEach((at, group) => free[group].delete(at));
  };
  const needed = groups.map((group) => group.required);
  const bare = (name) => bareWords(name, roles);
  if (free.filter((files) => files.size).length > 1) {
    use(same(free.map((files) => keys(files, (name) => [stem(name)])), needed));
    use(same(free.map((files) => keys(files, bare)), needed));
    if (free.length === 2) {
      use(longer(free[0], free[1], bare));
      use(longer(free[1], free[0], bare).map(([one, other]) => [other, one]));
    }
    use(same(free.map((files) => rests(keys(files, bare))), needed));
    if (!jobs.length) use(matched(free.map((files) => [...files.keys()]), needed, true));
  }
  free.forEach((files, group) => {
    if (needed.some((need, at) => need && at !== group)) return;
    use([...files.keys()].map((at) => groups.map((_, other) => (other === group ? at : -1))));
  });
  return { jobs: jobs.sort((one, other) => compared(one, other)), single: free.map((files) => [...files.keys()]) };
}

function compared(one, other) {
  const differs = one.findIndex((at, group) => at !== other[group]);
  return differs < 0 ? 0 : one[differs] - other[differs];
}

const stem = (name) => name.split(/[/\\]/).at(-1).replace(/\.[a-z0-9]{1,10}$/i, "").normalize("NFC").toLowerCase().normalize("NFC");

/** The words and numbers of a stem; leading zeros do not count. */
function words(text) {
  const found = text.match(/[\p{L}\p{M}]+|\p{N}+/gu) ?? [text];
  return found.map((word) => (/^\p{N}/u.test(word) ? word.replace(/^0+/, "") || "0" : word));
}

/** The words of a name, without those at its ends that say what the file is. */
function bareWords(name, roles) {
  const all = words(stem(name));
  while (all.length && roles.has(all[0])) all.shift();
  while (all.length && roles.has(all.at(-1))) all.pop();
  if (all.length) {
    all[0] = all[0].slice(UNSPACED.find((role) => all[0].startsWith(role))?.length ?? 0);
    const last = all.length - 1;
    all[last] = all[last].slice(0, all[last].length - (UNSPACED.find((role) => all[last].endsWith(role))?.length ?? 0));
  }
  return all;
}

const keys = (files, key) => new Map([...files].map(([at, name]) => [at, key(name)]));

/** The jobs of files with the same key. */
function same(sides, needed) {
  const found = new Map();
  sides.forEach((side, group) => side.forEach((parts, at) => {
    const key = parts.join(KEY);
    if (!found.has(key)) found.set(key, sides.map(() => []));
    found.get(key)[group].push(at);
  }));
  return [...found.values()].flatMap((lists) => matched(lists, needed));
}

/** One file with many, or in their order if there are several of more than one input; `only` refuses the latter. */
function matched(lists, needed, only = false) {
  const many = lists.filter((list) => list.length > 1);
  if (lists.filter((list) => list.length).length < 2 || lists.some((list, at) => needed[at] && !list.length)) return [];
  if (only && many.length > 1) return [];
  const count = many.length ? Math.min(...many.map((list) => list.length)) : 1;
  return Array.from({ length: count }, (_, at) => lists.map((list) => (list.length ? list[list.length > 1 ? at : 0] : -1)));
}

/** Each of the longer names with the longest of the others that it begins with. */
function longer(shorter, files, bare) {
  const known = new Map();
  for (const [at, parts] of keys(shorter, bare)) if (parts.length && !known.has(parts.join(KEY))) known.set(parts.join(KEY), at);
  const found = [];
  for (const [at, parts] of keys(files, bare)) {
    for (let length = parts.length - 1; length > 0; length -= 1) {
      const partner = known.get(parts.slice(0, length).join(KEY));
      if (partner === undefined) continue;
      found.push([partner, at]);
      break;
    }
  }
  return found;
}

/** The words of each name, without those that all have in common at their ends. */
function rests(side) {
  const all = [...side.values()];
  if (all.length < 2) return side;
  const shortest = Math.max(0, Math.min(...all.map((parts) => parts.length)) - 1);
  const common = (at) => all.every((parts) => parts.at(at) === all[0].at(at));
  let head = 0;
  while (head < shortest && common(head)) head += 1;
  let tail = 0;
  while (tail < shortest - head && common(-1 - tail)) tail += 1;
  return new Map([...side].map(([at, parts]) => [at, parts.slice(head, parts.length - tail)]));
}
