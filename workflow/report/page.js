"use strict";
// The list of clips, which can be filtered and sorted and is drawn while one scrolls; and the viewer, which follows the sound.
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
let order = { key: "deviation", falling: true };

// The list has no columns for values that are the same for all clips.
const varied = ["machine", "section", "domain", "label"].filter((key) => new Set(clips.map((clip) => clip[key])).size > 1);
const labelled = clips.some((clip) => clip.label);
const columns = ["play", "image", ...varied, "deviation", "verdict", "file"];

function verdict(clip) {
  const decision = clip.decisions[form.model.value];
  if (decision !== 0 && decision !== 1) return { word: "not decided", kind: "unjudged", rank: 6 };
  const flagged = decision === 1;
  if (!clip.label) return { word: flagged ? "anomalous" : "normal", kind: "unjudged", rank: flagged ? 4 : 5 };
  if (flagged) return clip.label === "anomaly" ? { word: "found", kind: "right", rank: 2 } : { word: "false alarm", kind: "wrong", rank: 1 };
  return clip.label === "anomaly" ? { word: "missed", kind: "wrong", rank: 0 } : { word: "passed", kind: "right", rank: 3 };
}

function value(clip, key) {
  if (key === "deviation") return clip.deviations[form.model.value] ?? -Infinity;
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
  const higher = (a, b) => a.scores[form.model.value] - b.scores[form.model.value];
  shown.sort(([a, one], [b, other]) => sign * ((typeof a === "string" ? a.localeCompare(b) : a === b ? 0 : a - b) || higher(one, other)));
  shown = shown.map(([, clip]) => clip);
  for (const head of document.querySelectorAll("th[data-key]")) {
    if (head.dataset.key === order.key) head.setAttribute("aria-sort", order.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const wrong = shown.filter((clip) => verdict(clip).kind === "wrong").length;
  of("count").textContent = `${shown.length} of ${clips.length} clips` + (labelled ? `, ${wrong} wrong` : "");
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
  // An observer reports only when the mark comes into view; observe it again while it stays in view.
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
  const contents = { ...clip, play, image, domain: clip.domain || "?", label: clip.label || "?", deviation: deviation(clip), verdict: judged.word, file: clip.words || clip.file };
  for (const column of columns) {
    const cell = line.insertCell();
    cell.dataset.column = column;
    cell.append(contents[column]);
    if (column === "deviation") cell.className = "number";
    if (column === "verdict") cell.className = judged.kind;
  }
  if (clip === current) line.setAttribute("aria-current", "true");
  return line;
}

function score(clip) { return clip.scores[form.model.value].toPrecision(4); }
function deviation(clip) { return clip.deviations[form.model.value]?.toFixed(1) ?? "–"; }
function media(clip, kind) { return address(`${machines[clip.machine].folder}/${clip.row}.${kind}`); }

// The address of a file: beside the page or, in the single-file version, an object made from the block of that name.
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
  of("logmel").src = media(clip, "webp");
  of("logmel").alt = `Log-mel spectrogram of ${clip.file}`;
  axes(machine);
  curve(clip, machine);
  shares(clip, machine);
  player.src = media(clip, "flac");
  tell();
  follow();
  if (resume) player.play().catch(() => {});
  if (!quietly) history.replaceState(null, "", `#${clip.id}`);
}

// --- beside the log-mel ---

function ticks(id, places, side) {
  const all = places.map(([share, text]) => {
    const tick = document.createElement("span");
    tick.style[side] = percent(share);
    tick.textContent = text;
    return tick;
  });
  of(id).replaceChildren(...all);
  return all;
}

function across(machine, seconds) { return (seconds - machine.span[0]) / (machine.span[1] - machine.span[0]); }

function axes(machine) {
  const last = ticks("hertz", [...machine.frequencies, [1, "kHz"]], "bottom").at(-1);
  last.className = "unit";
  last.style.transform = "translateY(100%)";
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find((one) => machine.seconds / one <= 6) ?? machine.seconds;
  const times = Array.from({ length: Math.floor(machine.seconds / step + 1e-9) + 1 }, (_, number) => number * step);
  ticks("seconds", times.map((time) => [Math.min(Math.max(across(machine, time), 0), 1), `${+time.toFixed(1)}${time === 0 ? " s" : ""}`]), "left");
}

function put(svg, shapes) {
  svg.replaceChildren(...shapes.map(([name, attributes]) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, text] of Object.entries(attributes)) shape.setAttribute(key, text);
    return shape;
  }));
}

// The scores of the windows: a curve through the middles of the windows, and lines as long as the windows.
function curve(clip, machine) {
  const windowed = machine.windowed;
  const known = windowed !== null && clip.windows.length > 0;
  for (const id of ["curve", "values"]) of(id).toggleAttribute("hidden", !known);
  of("extent").hidden = !known || clip.worst === null;
  if (!known) return;
  const limit = machine.thresholds[windowed.model][clip.section];
  const height = (share) => 950 - 900 * share;
  const at = (number) => 1000 * across(machine, windowed.first + number * windowed.each);
  const half = 500 * windowed.length / (machine.span[1] - machine.span[0]);
  const points = clip.windows.map((one, number) => [at(number), height(one / 1000)]);
  const shapes = [["path", { class: "windows", d: points.map(([x, y]) => `M${x - half} ${y}h${2 * half}`).join("") }]];
  shapes.push(["path", { d: `M${points.map((point) => point.join(" ")).join("L")}` }]);
  if (clip.worst !== null) {
    const top = Math.min(...points.map(([, y]) => y));
    const middle = 1000 * across(machine, clip.worst);
    shapes.push(["path", { class: "worst", d: `M${middle - half} ${top}h${2 * half}` }]);
    Object.assign(of("extent").style, { left: percent((middle - half) / 1000), width: percent(2 * half / 1000) });
  }
  if (limit !== null) {
    const y = height((limit - windowed.low) / (windowed.high - windowed.low));
    shapes.push(["line", { class: "threshold", x1: 0, x2: 1000, y1: y, y2: y }]);
  }
  put(of("curve"), shapes);
  const label = `Scores of its windows over time` + (clip.worst === null ? "" : `, highest from ${span(worst(clip))} s`);
  of("curve").setAttribute("aria-label", label);
  ticks("values", [0, 0.5, 1].map((share) => [1 - height(share) / 1000, (windowed.low + share * (windowed.high - windowed.low)).toPrecision(2)]), "bottom");
}

// The share of each frequency band in the squared distance, relative to the largest of the clip.
function shares(clip, machine) {
  const known = machine.spectral !== null && clip.shares.length > 0;
  of("shares").toggleAttribute("hidden", !known);
  if (!known) return;
  const most = Math.max(...clip.shares, 1);
  put(of("shares"), clip.shares.map((share, number) => {
    const [low, high] = [machine.spectral.edges[number], machine.spectral.edges[number + 1]].map((edge) => 1000 - 1000 * edge.place);
    return ["rect", { x: 0, y: high + 0.1 * (low - high), width: 1000 * share / most, height: 0.8 * (low - high) }];
  }));
  of("shares").setAttribute("aria-label", `Shares of the frequency bands, largest from ${band(clip, machine)}`);
}

function tell() {
  const clip = current;
  const machine = machines[clip.machine];
  const model = form.model.value;
  const limit = machine.thresholds[model][clip.section];
  const judged = verdict(clip);
  of("name").textContent = clip.file;
  const facts = [
    `${clip.machine}, section ${clip.section}`, clip.domain, clip.label, clip.words,
    `${data.titles[model]} ${score(clip)}` + (limit === null ? "" : ` (threshold ${limit.toPrecision(4)})`)];
  const word = document.createElement("strong");
  word.className = judged.kind;
  word.textContent = judged.word;
  of("facts").replaceChildren(`${facts.filter(Boolean).join(" · ")}: `, word);
  of("worst").hidden = clip.worst === null;
  const said = [];
  if (machine.windowed) {
    const { model, length } = machine.windowed;
    said.push(`Below: the scores of the windows of ${data.titles[model]}. A thin line is as long as its window (${length.toFixed(1)} s), the thick one joins their middles, the dashed one is the threshold.`);
    if (clip.worst !== null) said.push(`Most anomalous from ${span(worst(clip))} s.`);
    else said.push("The windows are nearly as long as the clip, so they do not tell when something was.");
  }
  if (machine.spectral) said.push(`On the right: the share of each frequency band in the squared distance of ${data.titles[machine.spectral.model]}; the largest is ${Math.max(...clip.shares) / 10} %, from ${band(clip, machine)}.`);
  of("explained").textContent = said.join(" ");
}

function band(clip, machine) {
  const number = clip.shares.indexOf(Math.max(...clip.shares));
  return [number, number + 1].map((edge) => (machine.spectral.edges[edge].hertz / 1000).toFixed(2)).join(" to ") + " kHz";
}

// The seconds at which the window with the highest score begins and ends.
function worst(clip) {
  const machine = machines[clip.machine];
  const half = machine.windowed.length / 2;
  return [Math.max(clip.worst - half, 0), Math.min(clip.worst + half, machine.seconds)];
}
function span(seconds) { return seconds.map((one) => one.toFixed(1)).join(" to "); }

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
  const share = across(machine, player.currentTime);
  of("cursor").style.left = percent(Math.min(Math.max(share, 0), 1));
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
of("over").addEventListener("click", (event) => {
  if (!current) return;
  const machine = machines[current.machine];
  const frame = of("over").getBoundingClientRect();
  const share = (event.clientX - frame.left) / frame.width;
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
    order = { key, falling: order.key === key ? !order.falling : key === "deviation" };
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
  form[key].closest("label").hidden = !varied.includes(key);
}
form.wrong.closest("label").hidden = !labelled;
for (const head of document.querySelectorAll("th[data-column]")) head.hidden = !columns.includes(head.dataset.column);
update();
const asked = byId.get(decodeURIComponent(location.hash.slice(1)));
if (asked) { choose(asked, false); of("viewer").scrollIntoView({ block: "center" }); }
else if (shown.length) choose(shown[0], false, true);
