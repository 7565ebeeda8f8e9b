// What can be taken away; everything is made here from the answer, and asks the server for nothing.

import { differenceOf } from "./figure.js";

const CAVEAT = "A refined pattern is no counting data: give the measured one to Rietveld refinement.";

/** Gives a file to the person. */
export function save(name, content, type) {
  const link = document.createElement("a");
  const url = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A file's name made of a pattern's. */
export function fileName(pattern, end) {
  return `${pattern.name.replace(/[^\w.()+-]+/g, "_").replace(/^\.+/, "").slice(0, 100) || "pattern"}${end}`;
}

/** Angles and intensities as text with a head of comments. */
export function xy(pattern, values, what) {
  const head = [`${pattern.name}, ${what}`, CAVEAT, `wavelength ${pattern.wavelength} Å`].map((line) => `# ${line.replace(/\s+/g, " ")}\n`);
  const rows = pattern.two_theta.flatMap((angle, i) => (values[i] === null ? [] : [`${angle} ${values[i]}\n`]));
  return head.concat(rows).join("");
}

/** What is above the baseline, as text; a baseline is known where lines are looked for. */
export function aboveBaseline(pattern) {
  return xy(pattern, differenceOf({ ...pattern, refined: null }), "measured less its baseline");
}

/** The plot on white paper as SVG text or as a PNG's address, as wide as the page of a paper. */
export async function picture(figure, format) {
  const size = { width: 720, height: 540 };
  const layout = { ...figure.layout, ...size, autosize: false };
  const made = await Plotly.toImage({ data: figure.traces, layout, config: { staticPlot: true } }, { format, ...size, scale: format === "png" ? 4 : 1 });
  return format === "svg" ? decodeURIComponent(made.slice(made.indexOf(",") + 1)) : made;
}

/** A report that is one file: the answer, why, candidates with what was set by hand, and the figure. */
export function report(pattern, hands, chosen, svg, about) {
  const page = document.implementation.createHTMLDocument(`${pattern.name}: ${verdict(pattern)}`);
  const add = (parent, name, text = "") => {
    const made = page.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  page.documentElement.lang = "en";
  const charset = page.createElement("meta");
  charset.setAttribute("charset", "utf-8");
  const policy = page.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
  page.head.prepend(charset, policy);
  add(page.head, "style", "body{font:15px/1.45 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}" +
    "td,th{border-bottom:1px solid #ccc;padding:.2rem .6rem;text-align:left}img{max-width:100%}small{color:#555}");
  add(page.body, "h1", pattern.name);
  add(page.body, "p", verdict(pattern));
  const why = add(page.body, "ul");
  for (const sentence of [...pattern.why, ...pattern.remarks]) add(why, "li", sentence);
  const image = add(page.body, "img");
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  image.alt = "The pattern and the lines of the candidates";
  table(add, page.body, ["crystal system", "probability", "search", "networks"],
    pattern.systems.map((system) => [system.name, percent(system.answer), percent(system.search), percent(system.networks)]));
  add(page.body, "h2", "Candidates");
  table(add, page.body, ["phase", "space group", "entry", "probability", "score", "strain", "zero error", "peaks explained", "by hand", "source"],
    pattern.candidates.map((one) => {
      const hand = hands(one);
      const moved = hand.strain !== one.strain || hand.zero !== one.zero_error;
      return [one.formula, `${one.symbol} (${one.space_group})`, one.id, percent(one.probability), percent(one.score), strain(one.strain),
        degrees(one.zero_error), `${one.explains} of ${pattern.peaks}`, (moved ? `${strain(hand.strain)}, ${degrees(hand.zero)}` : "–") + (chosen.has(one.id) ? ", shown" : ""),
        [one.source, one.made].filter(Boolean).join("; ")];
    }));
  add(page.body, "p", `Wavelength ${pattern.wavelength} Å; ${pattern.two_theta.length} points from ${pattern.two_theta[0]}° to ${pattern.two_theta.at(-1)}°` +
    `${pattern.asked ? `; candidates ${pattern.asked}` : ""}. ${CAVEAT}`);
  add(page.body, "small", `imitation-refinement ${about.version}, ${about.crystals} crystals in the library, ${new Date().toISOString().slice(0, 16)} UTC`);
  return `<!doctype html>\n${page.documentElement.outerHTML}\n`;
}

function table(add, parent, names, rows) {
  const made = add(parent, "table");
  const head = add(made, "tr");
  names.forEach((name) => add(head, "th", name));
  rows.forEach((cells) => {
    const row = add(made, "tr");
    cells.forEach((cell) => add(row, "td", cell));
  });
}

/** The answer in one line. */
export function verdict(pattern) {
  const [first, second] = [...pattern.systems].sort((a, b) => b.answer - a.answer);
  if (first.search === null) return "No answer";
  const both = `${first.name} ${percent(first.answer)}, then ${second.name} ${percent(second.answer)}`;
  if (pattern.flag === "outside") return `No answer: outside of what can be answered (${both})`;
  return pattern.flag === "" ? `${first.name[0].toUpperCase()}${first.name.slice(1)}, ${percent(first.answer)}` : `Not sure: ${both}`;
}

/** A share; what is not quite nothing, or not quite all, is not shown as such. */
export function percent(value) {
  if (value === null) return "–";
  const shown = 100 * value;
  return `${shown > 0 && shown < 0.95 ? "< 1" : shown > 99.05 && shown < 100 ? "> 99" : shown.toFixed(0)} %`;
}

export function strain(value) {
  return `${signed(100 * value, 2)} %`;
}

export function degrees(value) {
  return `${signed(value, 3)}°`;
}

function signed(value, digits) {
  const shown = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(shown) > 0 ? "−" : "+") + shown;
}
