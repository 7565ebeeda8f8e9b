// The page: files in, questions to the server, and what the person chose. Everything lives in `state`, and goes with the page.

import { aboveBaseline, degrees, fileName, percent, picture, report, save, strain, verdict, xy } from "./downloads.js";
import { chosen, periodicTable, said } from "./elements.js";
import { COLOURS, figure, inkOf, rootTicks, sticks } from "./figure.js";

const $ = (id) => document.getElementById(id);
const PATIENCE_MS = 120_000; // for one answer
const AT_ONCE = 2; // files that are asked about
const MOST_FILES = 50; // of one drop

/** patterns: {pattern, file, colour, compared, shown: Set of candidates' ids, hands: Map, focused: id}; waiting: files without a wavelength. */
const state = { about: null, patterns: [], active: null, waiting: [], asked: 0, wavelength: "" };

// ---- asking

async function ask(file) {
  const query = new URLSearchParams({ name: file.name, wavelength: state.wavelength });
  const elements = chosen($("elements"));
  for (const [name, list] of Object.entries(elements)) query.set(name, list.join(" "));
  const answer = await fetch(`api/identify?${query}`, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" }, signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return { ...(await answer.json()), asked: said(elements) };
}

async function askAll(files) {
  const queue = [...files];
  state.asked += queue.length;
  const next = async () => {
    while (queue.length) {
      const file = queue.shift();
      tell(`Asking about ${file.name} …${state.asked > 1 ? ` (${state.asked} to go)` : ""}`);
      try {
        take(file, await ask(file));
      } catch (error) {
        complain(plainly(file, error));
      }
      state.asked -= 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  if (!state.asked) tell(state.patterns.length ? `${state.patterns.length} pattern${state.patterns.length > 1 ? "s" : ""} answered.` : "");
}

function plainly(file, error) {
  if (error.name === "TimeoutError") return `${file.name}: no answer in ${PATIENCE_MS / 1000} s. Try again later, or with fewer files at once.`;
  if (error instanceof TypeError) return `${file.name}: the server does not answer. Is \`imitation-refinement web\` still running?`;
  return error.message;
}

function take(file, answer) {
  answer.rejected.forEach(complain);
  for (const pattern of answer.patterns) {
    pattern.asked = answer.asked;
    const before = state.patterns.find((one) => one.file === file && one.pattern.name === pattern.name);
    const entry = before ?? { file, colour: COLOURS[state.patterns.length % COLOURS.length], compared: false };
    Object.assign(entry, { pattern, shown: new Set(pattern.candidates.slice(0, 1).map((one) => one.id)), hands: new Map(), focused: pattern.candidates[0]?.id });
    if (!before) state.patterns.push(entry);
    if (!state.active) state.active = entry;
  }
  if (answer.asks_wavelength) {
    state.waiting.push(file);
    askWavelength();
  }
  showPatterns();
  showAnswer();
}

function askWavelength() {
  const names = state.waiting.map((file) => file.name);
  $("ask").hidden = !names.length;
  if (!names.length) return;
  const which = names.length > 2 ? `${names[0]} and ${names.length - 1} more do` : names.length > 1 ? `${names.join(" and ")} do` : `${names[0]} does`;
  $("ask-text").textContent = `${which} not say the wavelength. Which one was it? A line's name, or a number in Å (or with its unit).`;
  $("wavelength").focus();
}

function add(list) {
  const files = [...list];
  if (files.length > MOST_FILES) complain(`${files.length} files at once: the first ${MOST_FILES} are taken. For a folder use \`imitation-refinement identify\`.`);
  const good = files.slice(0, MOST_FILES).filter((file) => {
    if (file.size > state.about.most_bytes) {
      complain(`${file.name}: is larger than ${state.about.most_bytes / 2 ** 20} MB. Split it, or use \`imitation-refinement identify\` on the command line.`);
      return false;
    }
    return true;
  });
  askAll(good);
}

// ---- telling

function tell(text) {
  $("status").textContent = text;
}

function complain(text) {
  const line = document.createElement("p");
  line.textContent = text;
  const close = document.createElement("button");
  close.textContent = "×";
  close.setAttribute("aria-label", "take this message away");
  close.addEventListener("click", () => line.remove());
  line.append(close);
  $("messages").append(line);
}

function cell(row, text, { number = false, of = "", small = "" } = {}) {
  const made = row.insertCell();
  made.append(text);
  if (number) made.className = "number";
  if (of) made.dataset.of = of;
  if (small) {
    const more = document.createElement("small");
    more.textContent = small;
    made.append(document.createElement("br"), more);
  }
  return made;
}

// ---- showing

function showPatterns() {
  $("patterns").replaceChildren(...state.patterns.map((entry) => {
    const item = document.createElement("li");
    item.classList.toggle("active", entry === state.active);
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = entry.colour;
    const name = document.createElement("button");
    name.className = "name";
    name.textContent = entry.pattern.name;
    name.setAttribute("aria-current", String(entry === state.active));
    const small = document.createElement("small");
    small.textContent = verdict(entry.pattern);
    name.append(small);
    name.addEventListener("click", () => {
      state.active = entry;
      showPatterns();
      showAnswer();
    });
    const compare = document.createElement("input");
    compare.type = "checkbox";
    compare.checked = entry.compared;
    const label = document.createElement("label");
    label.append(compare, "compare");
    compare.setAttribute("aria-label", `compare ${entry.pattern.name}`);
    compare.addEventListener("change", () => {
      entry.compared = compare.checked;
      draw();
    });
    const gone = document.createElement("button");
    gone.textContent = "×";
    gone.setAttribute("aria-label", `take ${entry.pattern.name} away`);
    gone.addEventListener("click", () => {
      state.patterns = state.patterns.filter((other) => other !== entry);
      if (state.active === entry) state.active = state.patterns[0] ?? null;
      showPatterns();
      showAnswer();
    });
    item.append(swatch, name, label, gone);
    return item;
  }));
}

function showAnswer() {
  const entry = state.active;
  for (const id of ["answer", "tools", "plot"]) $(id).hidden = !entry;
  $("empty").hidden = Boolean(entry);
  showHand();
  if (!entry) return;
  const { pattern } = entry;
  $("verdict").textContent = `${pattern.name}: ${verdict(pattern)}`;
  $("why").replaceChildren(...[...pattern.why, ...pattern.remarks].map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
  for (const part of document.querySelectorAll(".refined-only")) part.hidden = !pattern.refined;
  $("no-refiner").hidden = Boolean(pattern.refined);
  showSystems(pattern);
  showCandidates(entry);
  draw();
}

function showSystems(pattern) {
  const body = $("systems").tBodies[0];
  body.replaceChildren();
  const first = Math.max(...pattern.systems.map((system) => system.answer));
  for (const system of pattern.systems) {
    const row = body.insertRow();
    row.classList.toggle("first", system.answer === first);
    cell(row, system.name);
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.width = `${6 * system.answer}rem`;
    const shown = cell(row, "");
    shown.append(bar, percent(system.answer));
    cell(row, percent(system.search), { number: true });
    cell(row, percent(system.networks), { number: true });
  }
}

function colourOf(entry, candidate) {
  return COLOURS[entry.pattern.candidates.indexOf(candidate) % COLOURS.length];
}

function handOf(entry, candidate) {
  return entry.hands.get(candidate.id) ?? { strain: candidate.strain, zero: candidate.zero_error };
}

function showCandidates(entry) {
  const body = $("candidates").tBodies[0];
  body.replaceChildren();
  for (const candidate of entry.pattern.candidates) {
    const row = body.insertRow();
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = entry.shown.has(candidate.id);
    box.setAttribute("aria-label", `lines of ${candidate.formula} ${candidate.id}`);
    box.addEventListener("change", () => {
      if (box.checked) {
        entry.shown.add(candidate.id);
        entry.focused = candidate.id;
      } else entry.shown.delete(candidate.id);
      showHand();
      draw();
    });
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.cssText = "display:inline-block";
    swatch.style.background = colourOf(entry, candidate);
    cell(row, "").append(box, swatch);
    cell(row, candidate.formula, { small: [candidate.id, candidate.made].filter(Boolean).join("; ") }).title = candidate.source;
    cell(row, `${candidate.symbol} (${candidate.space_group})`, { small: candidate.crystal_system, of: "space group" });
    cell(row, percent(candidate.probability), { number: true, of: "probability" });
    cell(row, percent(candidate.score), { number: true, of: "score" });
    cell(row, strain(candidate.strain), { number: true, of: "strain" });
    cell(row, degrees(candidate.zero_error), { number: true, of: "zero error" });
    cell(row, `${candidate.explains} of ${entry.pattern.peaks}`, { number: true, of: "peaks" });
    const last = cell(row, "");
    const byHand = document.createElement("button");
    byHand.textContent = "by hand";
    byHand.setAttribute("aria-label", `set ${candidate.formula} ${candidate.id} by hand`);
    byHand.addEventListener("click", () => {
      entry.focused = candidate.id;
      entry.shown.add(candidate.id);
      box.checked = true;
      showHand();
      draw();
      $("zero").focus();
    });
    const cif = document.createElement("button");
    cif.textContent = "CIF";
    cif.title = "cell, space group and lines; without atoms, which the library does not keep";
    cif.setAttribute("aria-label", `CIF of ${candidate.formula} ${candidate.id}, without atoms`);
    cif.addEventListener("click", () => save(fileName({ name: `${candidate.formula}_${candidate.id}` }, ".cif"), candidate.cif, "chemical/x-cif"));
    last.append(byHand, " ", cif);
  }
  if (!entry.pattern.candidates.length) body.insertRow().insertCell().textContent = "none";
}

// ---- by hand

function focused() {
  const entry = state.active;
  const candidate = entry?.pattern.candidates.find((one) => one.id === entry.focused && entry.shown.has(one.id));
  return candidate ? { entry, candidate } : null;
}

function showHand() {
  const now = focused();
  $("hand").hidden = !now;
  if (!now) return;
  const { entry, candidate } = now;
  const hand = handOf(entry, candidate);
  $("hand-name").textContent = `${candidate.formula} ${candidate.id}`;
  for (const end of ["", "-number"]) {
    $(`zero${end}`).value = hand.zero.toFixed(3);
    $(`strain${end}`).value = (100 * hand.strain).toFixed(2);
  }
  const stretch = (1 + hand.strain) / (1 + candidate.strain);
  const [a, b, c, ...angles] = candidate.cell;
  $("hand-cell").textContent = `Cell: ${[a, b, c].map((edge) => (edge * stretch).toFixed(4)).join(", ")} Å; ${angles.map((angle) => angle.toFixed(2)).join(", ")}°`;
}

function setHand(name, value) {
  const now = focused();
  if (!now || !Number.isFinite(value)) return;
  const hand = { ...handOf(now.entry, now.candidate), [name]: value };
  now.entry.hands.set(now.candidate.id, hand);
  showHand();
  const plot = $("plot"), own = [...(plot.data ?? [])].flatMap((trace, i) => (trace.meta?.id === now.candidate.id ? [i] : []));
  if (!own.length) return;
  const moved = own.map((i) => sticks(now.candidate, hand, now.entry.pattern, choice(), plot.data[i].meta.row));
  Plotly.restyle(plot, { x: moved.map((one) => one.x), y: moved.map((one) => one.y), text: moved.map((one) => one.text) }, own);
}

// ---- the plot

function choice() {
  const radio = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  const curves = Object.fromEntries([...document.querySelectorAll("#curves input")].map((box) => [box.name, box.checked]));
  return { axis: radio("axis"), scale: radio("scale"), curves, wavelength: state.active.pattern.wavelength, pan: $("pan").checked };
}

function shownNow() {
  const entry = state.active;
  const compared = state.patterns.filter((one) => one.compared);
  return {
    active: entry.pattern,
    compared: compared.length > 1 ? compared : [],
    candidates: entry.pattern.candidates.filter((one) => entry.shown.has(one.id)).map((candidate) => ({
      candidate, hand: handOf(entry, candidate), colour: colourOf(entry, candidate), focused: entry.focused === candidate.id,
    })),
  };
}

async function draw() {
  if (!state.active) return;
  const plot = $("plot"), now = choice(), shown = shownNow();
  const { traces, layout } = figure(shown, now, inkOf(document.documentElement, false), plot.clientWidth);
  const begun = plot.data === undefined;
  await Plotly.react(plot, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: true, doubleClick: "reset" });
  if (begun) plot.on("plotly_relayout", refreshRootTicks);
  const several = new Set(shown.compared.map((one) => one.pattern.wavelength)).size > 1;
  $("plot-note").textContent = several && now.axis === "two_theta" ? `Other wavelengths than ${now.wavelength} Å are shown at the angles that this one would have.` : "";
}

function refreshRootTicks(event) {
  const plot = $("plot");
  if (!state.active || choice().scale !== "root" || !Object.keys(event).some((key) => key.startsWith("yaxis."))) return;
  const [low, high] = plot.layout.yaxis.range;
  const { tickvals, ticktext } = rootTicks(low, high);
  if (String(tickvals) !== String(plot.layout.yaxis.tickvals)) Plotly.relayout(plot, { "yaxis.tickvals": tickvals, "yaxis.ticktext": ticktext });
}

/** Moves and zooms the plot's axis by keys and buttons. */
function look(where) {
  const plot = $("plot");
  if (!plot.layout) return;
  if (where === "all") {
    Plotly.relayout(plot, { "xaxis.autorange": choice().axis === "d" ? "reversed" : true, ...(choice().scale === "log" ? {} : { "yaxis.autorange": true }) });
    return;
  }
  const [low, high] = plot.layout.xaxis.range;
  const middle = (low + high) / 2, half = (high - low) / 2;
  const [shift, factor] = { left: [-0.4, 1], right: [0.4, 1], in: [0, 0.6], out: [0, 1 / 0.6] }[where];
  Plotly.relayout(plot, { "xaxis.range": [middle + shift * half - factor * half, middle + shift * half + factor * half] });
}

const KEYS = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", "−": "out", 0: "all", Home: "all" };

// ---- away with it

async function takeAway(what) {
  const entry = state.active, { pattern } = entry;
  if (what === "xy") return save(fileName(pattern, "_refined.xy"), xy(pattern, pattern.refined, "refined"), "text/plain");
  if (what === "above") return save(fileName(pattern, "_above_baseline.xy"), aboveBaseline(pattern), "text/plain");
  const shown = shownNow();
  shown.candidates.forEach((one) => Object.assign(one, { focused: false })); // its lines through the pattern are help to move them
  const printed = figure(shown, choice(), inkOf(null, true), 720);
  const x = $("plot").layout.xaxis.range;
  Object.assign(printed.layout.xaxis, { range: x, autorange: false }); // as far as the person zoomed in
  if (what === "report") {
    const svg = await picture(printed, "svg");
    return save(fileName(pattern, ".html"), report(pattern, (one) => handOf(entry, one), entry.shown, svg, state.about), "text/html");
  }
  const made = await picture(printed, what);
  return save(fileName(pattern, `.${what}`), made, "image/svg+xml");
}

// ---- wiring

function dress() {
  const wanted = $("theme").value || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = wanted;
  draw();
}

async function begin() {
  dress();
  const answer = await fetch("api/about");
  if (!answer.ok) return complain(await answer.text());
  state.about = await answer.json();
  $("model").textContent = `${state.about.crystals.toLocaleString("en")} crystals in the library, ${state.about.networks} network${state.about.networks > 1 ? "s" : ""}; version ${state.about.version}`;
  $("forms").textContent = state.about.extensions.join(" ");
  $("files").accept = state.about.extensions.join(",");
  for (const name of Object.keys(state.about.lines)) $("lines").append(new Option(name, name));
  periodicTable($("table"), $("elements"), state.about.elements);

  $("files").addEventListener("change", () => {
    add($("files").files);
    $("files").value = "";
  });
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") add(event.dataTransfer.files);
    });
  }
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    state.wavelength = $("wavelength").value.trim();
    if (!state.wavelength) return;
    const files = state.waiting.splice(0);
    askWavelength();
    askAll(files);
  });
  const again = () => {
    $("elements-said").textContent = said(chosen($("elements"))) || "(any)";
    return askAll(new Set(state.patterns.map((one) => one.file)));
  };
  $("elements").addEventListener("submit", (event) => {
    event.preventDefault();
    again();
  });
  $("any").addEventListener("click", () => {
    $("elements").reset();
    $("elements").dispatchEvent(new Event("input"));
    again();
  });
  $("tools").addEventListener("change", draw);
  $("tools").addEventListener("click", (event) => event.target.dataset.view && look(event.target.dataset.view));
  $("plot").addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    look(KEYS[event.key]);
  });
  for (const end of ["", "-number"]) {
    $(`zero${end}`).addEventListener("input", (event) => setHand("zero", event.target.valueAsNumber));
    $(`strain${end}`).addEventListener("input", (event) => setHand("strain", event.target.valueAsNumber / 100));
  }
  $("hand").addEventListener("submit", (event) => event.preventDefault());
  $("fitted").addEventListener("click", () => {
    const now = focused();
    now.entry.hands.delete(now.candidate.id);
    setHand("zero", now.candidate.zero_error);
    now.entry.hands.delete(now.candidate.id);
    showHand();
  });
  $("downloads").addEventListener("click", (event) => event.target.dataset.take && takeAway(event.target.dataset.take).catch((error) => complain(`Not made: ${error.message}`)));
  $("theme").addEventListener("change", dress);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
}

begin();
