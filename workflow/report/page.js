"use strict";
// The list of clips: filtered, sorted, drawn as far as it is scrolled; and the viewer that follows the sound.
const data = JSON.parse(document.getElementById("data").textContent);
const of = (id) => document.getElementById(id);
const machines = Object.fromEntries(data.machines.map((machine) => [machine.machine, machine]));
const clips = data.machines.flatMap((machine) => machine.clips);
const byId = new Map();
for (const clip of clips) {
  clip.id = `${clip.machine}-${clip.row}`;
  clip.words = Object.entries(clip.attributes).map(([key, value]) => `${key} ${value}`).join(", ");
  clip.text = `${clip.file} ${clip.words}`.toLowerCase();
  byId.set(clip.id, clip);
}
const form = of("filters");
const player = of("player");
const BATCH = 60;
let shown = [];
let drawn = 0;
let current = null;
let order = { key: "score", falling: true };

function verdict(clip) {
  const flagged = clip.decisions[form.model.value] === 1;
  if (!clip.label) return { word: flagged ? "anomalous" : "normal", kind: "unjudged", rank: flagged ? 4 : 5 };
  if (flagged) return clip.label === "anomaly" ? { word: "found", kind: "right", rank: 2 } : { word: "false alarm", kind: "wrong", rank: 1 };
  return clip.label === "anomaly" ? { word: "missed", kind: "wrong", rank: 0 } : { word: "passed", kind: "right", rank: 3 };
}

function value(clip, key) {
  if (key === "score") return clip.scores[form.model.value];
  if (key === "verdict") return verdict(clip).rank;
  return clip[key];
}

function update() {
  const text = form.text.value.trim().toLowerCase();
  const fits = (clip) =>
    ["machine", "section", "domain", "label"].every((key) => form[key].value === "*" || clip[key] === form[key].value) &&
    (!form.wrong.checked || verdict(clip).kind === "wrong") && clip.text.includes(text);
  const sign = order.falling ? -1 : 1;
  shown = clips.filter(fits).map((clip) => [value(clip, order.key), clip]);
  shown.sort(([a], [b]) => sign * (typeof a === "number" ? a - b : a.localeCompare(b)));
  shown = shown.map(([, clip]) => clip);
  for (const head of document.querySelectorAll("th[data-key]")) {
    if (head.dataset.key === order.key) head.setAttribute("aria-sort", order.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const wrong = shown.filter((clip) => verdict(clip).kind === "wrong").length;
  of("count").textContent = `${shown.length} of ${clips.length} clips, ${wrong} wrong`;
  of("rows").replaceChildren();
  drawn = 0;
  of("list").scrollTop = 0;
  draw();
  if (current) tell();
}

function draw() {
  const rows = document.createDocumentFragment();
  for (const clip of shown.slice(drawn, drawn + BATCH)) rows.append(row(clip));
  drawn = Math.min(drawn + BATCH, shown.length);
  of("rows").append(rows);
  // An observer only speaks when the mark comes into view; ask again while it stays there.
  watcher.unobserve(of("more"));
  if (drawn < shown.length) watcher.observe(of("more"));
}
const watcher = new IntersectionObserver(
  (entries) => { if (entries.some((entry) => entry.isIntersecting)) draw(); }, { root: of("list"), rootMargin: "600px" });

function row(clip) {
  const line = document.createElement("tr");
  line.dataset.id = clip.id;
  const play = document.createElement("button");
  play.type = "button";
  play.className = "play";
  play.textContent = "▶";
  play.setAttribute("aria-label", `Play ${clip.file}`);
  const image = document.createElement("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.src = media(clip, "webp");
  const judged = verdict(clip);
  const cells = [play, image, clip.machine, clip.section, clip.domain || "?", clip.label || "?", score(clip), judged.word, clip.words || clip.file];
  for (const content of cells) line.insertCell().append(content);
  line.cells[6].className = "number";
  line.cells[7].className = judged.kind;
  if (clip === current) line.setAttribute("aria-current", "true");
  return line;
}

function score(clip) { return clip.scores[form.model.value].toPrecision(4); }
function media(clip, kind) { return address(`${machines[clip.machine].folder}/${clip.row}.${kind}`); }

// Where a file is: beside the page or, in the single-file version, in a block of that name, made a file when asked for.
const made = new Map();
function address(name) {
  const block = of(name);
  if (block === null) return name;
  if (!made.has(name)) made.set(name, URL.createObjectURL(bytes(block.textContent, block.type)));
  return made.get(name);
}
function bytes(base64, type) { return new Blob([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], { type }); }

function choose(clip, play, quietly = false) {
  const resume = play || (current !== null && !player.paused && !player.ended);
  current = clip;
  for (const line of of("rows").querySelectorAll("[aria-current]")) line.removeAttribute("aria-current");
  while (drawn < shown.length && shown.indexOf(clip) >= drawn) draw();
  const line = of("rows").querySelector(`[data-id="${CSS.escape(clip.id)}"]`);
  if (line) { line.setAttribute("aria-current", "true"); inside(line); }
  const machine = machines[clip.machine];
  const [left, bottom, width, height] = machine.box;
  of("picture").style.aspectRatio = `${machine.shape[0]} / ${machine.shape[1]}`;
  Object.assign(of("logmel").style, { left: percent(left), top: percent(1 - bottom - height), width: percent(width), height: percent(height) });
  Object.assign(of("cursor").style, { top: percent(1 - bottom - height), bottom: percent(machine.windowed ? 0.12 : bottom) });
  of("logmel").src = media(clip, "webp");
  of("logmel").alt = `Log-mel spectrogram of ${clip.file}`;
  of("frame").src = address(`${machine.folder}/frame.svg`);
  const curved = clip.worst !== null || clip.band !== null;
  of("curve").hidden = !curved;
  if (curved) {
    of("curve").src = media(clip, "svg");
    of("curve").alt = [
      clip.worst === null ? "" : `Scores of its windows over time, highest at ${clip.worst.toFixed(2)} s`,
      clip.band === null ? "" : `Shares of the frequency bands, largest from ${band(clip)}`].filter(Boolean).join(". ");
  }
  player.src = media(clip, "flac");
  tell();
  follow();
  if (resume) player.play().catch(() => {});
  if (!quietly) history.replaceState(null, "", `#${clip.id}`);
}

function tell() {
  const clip = current;
  const machine = machines[clip.machine];
  const model = form.model.value;
  const limit = machine.thresholds[model];
  const judged = verdict(clip);
  of("name").textContent = clip.file;
  const facts = [
    `${clip.machine}, section ${clip.section}`, clip.domain || "domain unknown", clip.label || "label unknown", clip.words,
    `${data.titles[model]} ${score(clip)}` + (limit === null ? "" : ` (threshold ${limit.toPrecision(4)})`)];
  const word = document.createElement("strong");
  word.className = judged.kind;
  word.textContent = judged.word;
  of("facts").replaceChildren(`${facts.filter(Boolean).join(" · ")}: `, word);
  of("worst").hidden = clip.worst === null;
  of("explained").textContent = machine.windowed
    ? `Below the log-mel: the score of each window of ${data.titles[machine.windowed]}, at its middle; their mean is that model's score of the clip, the dashed line its threshold.` +
      (clip.worst === null ? "" : ` Most anomalous between ${worst(clip).map((one) => one.toFixed(1)).join(" and ")} s.`)
    : "No model of this run scores windows, so there is no curve over time.";
  if (machine.spectral && clip.band !== null) {
    of("explained").textContent += ` On the right: the share of each frequency band in the squared distance of ${data.titles[machine.spectral]}; the largest is from ${band(clip)}.`;
  }
}

function band(clip) { return clip.band.map((one) => (one / 1000).toFixed(2)).join(" to ") + " kHz"; }

// The seconds at which the window with the highest score begins and ends.
function worst(clip) {
  const machine = machines[clip.machine];
  return [Math.max(clip.worst - machine.window / 2, 0), Math.min(clip.worst + machine.window / 2, machine.seconds)];
}

function percent(share) { return `${100 * share}%`; }

// In view within the list, without moving the page.
function inside(line) {
  const list = of("list");
  const top = line.offsetTop - line.closest("table").tHead.offsetHeight;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (line.offsetTop + line.offsetHeight > list.scrollTop + list.clientHeight) {
    list.scrollTop = line.offsetTop + line.offsetHeight - list.clientHeight;
  }
}

function step(by) {
  if (!shown.length) return;
  const place = shown.indexOf(current);
  const next = place < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(place + by, 0), shown.length - 1);
  if (shown[next] !== current) choose(shown[next], false);
}

function toggle() {
  if (!current) step(1);
  if (!current) return;
  if (player.paused) player.play().catch(() => {});
  else player.pause();
}

function follow() {
  if (!current) return;
  const machine = machines[current.machine];
  const [begin, end] = machine.span;
  const share = (player.currentTime - begin) / (end - begin);
  of("cursor").style.left = percent(machine.box[0] + machine.box[2] * Math.min(Math.max(share, 0), 1));
  if (!player.paused && !player.ended) requestAnimationFrame(follow);
}

function seek(seconds) {
  const machine = machines[current.machine];
  const to = () => { player.currentTime = Math.min(Math.max(seconds, 0), machine.seconds); };
  if (player.readyState) to();
  else {
    player.addEventListener("loadedmetadata", to, { once: true });
    player.load();
  }
}

for (const event of ["play", "seeked", "timeupdate", "ended"]) player.addEventListener(event, follow);
of("picture").addEventListener("click", (event) => {
  if (!current) return;
  const machine = machines[current.machine];
  const frame = of("picture").getBoundingClientRect();
  const share = ((event.clientX - frame.left) / frame.width - machine.box[0]) / machine.box[2];
  seek(machine.span[0] + share * (machine.span[1] - machine.span[0]));
});
of("next").addEventListener("click", () => step(1));
of("before").addEventListener("click", () => step(-1));
of("worst").addEventListener("click", () => { if (current && current.worst !== null) seek(worst(current)[0]); });
of("rows").addEventListener("click", (event) => {
  const clip = byId.get(event.target.closest("tr").dataset.id);
  const button = event.target.closest("button") !== null;
  if (button && clip === current) toggle();
  else choose(clip, button);
});
for (const head of document.querySelectorAll("th[data-key]")) {
  head.addEventListener("click", () => {
    const key = head.dataset.key;
    order = { key, falling: order.key === key ? !order.falling : key === "score" };
    update();
  });
}
form.addEventListener("input", update);
form.addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("input, select, textarea, audio")) return;
  const inList = event.target.closest("#list") !== null;
  if (event.key === "j" || (inList && event.key === "ArrowDown")) step(1);
  else if (event.key === "k" || (inList && event.key === "ArrowUp")) step(-1);
  else if (event.key === " " && current && !event.target.closest("button, a, summary")) toggle();
  else return;
  event.preventDefault();
});

for (const map of document.querySelectorAll(".map")) {
  map.addEventListener("click", (event) => {
    const mark = event.target.closest("[data-clip]");
    const clip = mark && byId.get(mark.dataset.clip);
    if (!clip) return;
    choose(clip, false);
    of("viewer").scrollIntoView({ block: "center" });
  });
  map.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-clip]");
    const clip = mark && byId.get(mark.dataset.clip);
    map.title = clip ? `${clip.section} ${clip.domain} ${clip.label}: ${clip.words || clip.file}` : "";
  });
}
for (const link of document.querySelectorAll("a[data-large]")) { // browsers open no data address as a page
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const [head, base64] = link.querySelector("img").src.split(",");
    open(URL.createObjectURL(bytes(base64, head.slice(5).split(";")[0])));
  });
}
for (const link of document.querySelectorAll("a[data-machine]")) {
  link.addEventListener("click", () => { form.machine.value = link.dataset.machine; update(); });
}

for (const key of ["machine", "section", "domain", "label"]) {
  const values = [...new Set(clips.map((clip) => clip[key]))].sort();
  form[key].append(new Option("all", "*"), ...values.map((one) => new Option(one || "unknown", one)));
}
update();
const asked = byId.get(decodeURIComponent(location.hash.slice(1)));
if (asked) { choose(asked, false); of("viewer").scrollIntoView({ block: "center" }); }
else if (shown.length) choose(shown[0], false, true);
