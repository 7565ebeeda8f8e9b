// What the plot shows: traces and layout for Plotly, made from the answers and the choices. Nothing here is kept.

import { linesOf, onAxis } from "./physics.js";

export const COLOURS = ["#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#7f9c00", "#0072b2", "#b15928", "#888888"];
const LABELS = { two_theta: "2θ [°]", q: "Q [1/Å]", d: "d [Å]" };
const LINES = "lines of ";

/** The colours of the page, or those of a printed figure. */
export function inkOf(root, printed) {
  if (printed) {
    return { ground: "#ffffff", text: "#000000", soft: "#333333", grid: "#e5e5e5", measured: "#222222", refined: "#0072b2",
      baseline: "#d55e00", difference: "#7a5195" };
  }
  const style = getComputedStyle(root);
  const names = ["ground", "text", "soft", "grid", "measured", "refined", "baseline", "difference"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/**
 * Lines of one candidate, apart by gaps, on the plot's axis, with what they are.
 * In a row under the pattern they are as high as √I; without a row they run through the pattern from end to end.
 */
export function sticks(candidate, hand, pattern, choice, row) {
  const angles = linesOf(candidate, hand.strain, hand.zero, pattern.wavelength);
  const places = onAxis(angles, pattern.wavelength, choice.axis, choice.wavelength);
  const first = pattern.two_theta[0], last = pattern.two_theta.at(-1);
  const x = [], y = [], text = [];
  angles.forEach((angle, i) => {
    if (!(angle >= first && angle <= last)) return;
    x.push(places[i], places[i], null);
    if (row === null) y.push(0, 1, null);
    else y.push(row, row + 0.1 + 0.75 * Math.sqrt(candidate.height[i]), null);
    const said = `${candidate.formula} (${candidate.hkl[i]})<br>2θ ${angle.toFixed(3)}°, ${(100 * candidate.height[i]).toFixed(1)} %`;
    text.push(said, said, "");
  });
  return { x, y, text };
}

/** Measured less baseline, and less the refined pattern where there is one. */
export function differenceOf(pattern) {
  return pattern.intensity.map((value, i) =>
    pattern.baseline[i] === null ? null : value - pattern.baseline[i] - (pattern.refined ? pattern.refined[i] : 0));
}

/**
 * The figure.
 *
 * @param shown what is seen: { active, compared: [{pattern, colour}], candidates: [{candidate, hand, colour, focused}] }
 * @param choice { axis, scale, curves: {measured, …}, wavelength }
 */
export function figure(shown, choice, ink, width) {
  const { active, compared, candidates } = shown;
  const traces = [], many = compared.length > 1;
  const scaled = scaler(choice.scale);
  let least = Infinity, most = 0;
  const curve = (name, pattern, values, colour, more = {}, lift = 0) => {
    for (const value of values) {
      if (value > most) most = value;
      if (value > 0 && value < least) least = value;
    }
    traces.push({
      type: "scatter", mode: "lines", name, x: onAxis(pattern.two_theta, pattern.wavelength, choice.axis, choice.wavelength),
      y: values.map((value) => (lift ? scaled(value) + lift : scaled(value))), customdata: values, hovertemplate: "%{x:.4f}: %{customdata:.5g}<extra>" + plain(name) + "</extra>",
      line: { color: colour, width: 1.2 }, connectgaps: false, ...more,
    });
  };
  if (many) {
    compared.forEach(({ pattern, colour }, i) => {
      const values = pattern.refined && choice.curves.refined && !choice.curves.measured ? pattern.refined : pattern.intensity;
      const top = values.reduce((a, b) => Math.max(a, b), 0);
      const lift = choice.scale === "log" ? 0 : 1.05 * (compared.length - 1 - i) * scaled(100);
      curve(pattern.name, pattern, values.map((value) => (100 * value) / top), colour, {}, lift);
    });
  } else {
    if (choice.curves.measured) curve("measured", active, active.intensity, ink.measured);
    if (choice.curves.baseline) curve("baseline", active, active.baseline, ink.baseline, { line: { color: ink.baseline, width: 1.5, dash: "dash" } });
    if (choice.curves.refined && active.refined) curve("refined", active, active.refined, ink.refined);
    if (choice.curves.difference) {
      const values = differenceOf(active);
      traces.push({
        type: "scatter", mode: "lines", name: active.refined ? "difference" : "above baseline", yaxis: "y2", y: values,
        x: onAxis(active.two_theta, active.wavelength, choice.axis, choice.wavelength), line: { color: ink.difference, width: 1 },
        hovertemplate: "%{x:.4f}: %{y:.5g}<extra>" + (active.refined ? "difference" : "above baseline") + "</extra>",
      });
    }
  }
  if (choice.curves.lines && active.unexplained.length) {
    traces.push({ type: "scatter", mode: "markers", name: "no candidate", yaxis: "y4", y: active.unexplained.map(() => 0.97),
      x: onAxis(active.unexplained, active.wavelength, choice.axis, choice.wavelength), hovertemplate: "%{x:.3f}<extra>explained by no candidate</extra>",
      marker: { symbol: "triangle-down", size: 9, color: ink.baseline } });
  }
  const difference = !many && choice.curves.difference;
  const rows = choice.curves.lines ? candidates : [];
  rows.forEach(({ candidate, hand, colour, focused }, i) => {
    const row = rows.length - 1 - i;
    const meta = { id: candidate.id, row };
    if (focused) {
      traces.push({ type: "scatter", mode: "lines", meta: { id: candidate.id, row: null }, yaxis: "y4", ...sticks(candidate, hand, active, choice, null),
        hoverinfo: "skip", line: { color: colour, width: 1, dash: "dot" }, opacity: 0.55, showlegend: false });
    }
    traces.push({
      type: "scatter", mode: "lines", name: LINES + candidate.formula, meta, yaxis: "y3", ...sticks(candidate, hand, active, choice, row),
      hovertemplate: "%{text}<extra></extra>", line: { color: colour, width: focused ? 2.2 : 1.5 }, showlegend: false,
    });
  });
  const narrow = width < 600;
  const lines = rows.length ? Math.min(0.34, 0.07 * rows.length + 0.02) : 0;
  const below = difference ? 0.2 : 0;
  const axis = { gridcolor: ink.grid, linecolor: ink.soft, zerolinecolor: ink.grid, tickcolor: ink.soft, ticks: "outside", automargin: true };
  const layout = {
    paper_bgcolor: ink.ground, plot_bgcolor: ink.ground, font: { color: ink.text, size: narrow ? 11 : 13 },
    margin: { l: narrow ? 44 : 64, r: 12, t: 12, b: 58 }, hovermode: "closest", dragmode: choice.pan ? "pan" : "zoom", uirevision: `${choice.axis}`,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: narrow ? 10 : 12 } }, showlegend: true,
    xaxis: { ...axis, anchor: rows.length ? "y3" : difference ? "y2" : "y", title: { text: axisLabel(choice), standoff: 6 }, automargin: false,
      type: choice.axis === "d" ? "log" : "linear", ...(choice.axis === "d" ? { autorange: "reversed", dtick: "D2" } : {}) },
    yaxis: { ...axis, domain: [lines + below + (below || lines ? 0.03 : 0), 1], title: { text: intensityLabel(many, choice.scale) }, uirevision: choice.scale + many,
      type: choice.scale === "log" ? "log" : "linear", ...(choice.scale === "root" ? rootTicks(0, Math.sqrt(most)) : {}),
      showticklabels: !many || choice.scale === "log",
      ...(choice.scale === "log" && most > 0 ? { range: [Math.log10(Math.max(least, most * 1e-5)) - 0.05, Math.log10(most) + 0.05] } : {}) },
  };
  if (difference) layout.yaxis2 = { ...axis, domain: [lines + (lines ? 0.03 : 0), lines + below], nticks: 4, zerolinecolor: ink.soft };
  if (traces.some((trace) => trace.yaxis === "y4")) {
    layout.yaxis4 = { overlaying: "y", range: [0, 1], fixedrange: true, visible: false };
  }
  if (rows.length) {
    layout.yaxis3 = { ...axis, domain: [0, lines], range: [-0.08, rows.length], fixedrange: true, showgrid: false, zeroline: false, ticks: "",
      tickvals: rows.map((_, i) => rows.length - 0.6 - i), ticktext: rows.map(({ candidate }) => formulaHtml(candidate.formula, narrow ? 9 : 14)),
      tickfont: { size: narrow ? 9 : 11 } };
  }
  return { traces, layout };
}

/** A plot's axis in words. */
export function axisLabel(choice) {
  return choice.axis === "two_theta" ? `${LABELS.two_theta} at ${choice.wavelength.toPrecision(6).replace(/0+$/, "")} Å` : LABELS[choice.axis];
}

function intensityLabel(many, scale) {
  return (many ? "intensity, maximum 100" : "intensity") + (scale === "root" ? " (root)" : "");
}

function scaler(scale) {
  if (scale === "root") return (value) => (value === null ? null : Math.sqrt(Math.max(value, 0)));
  if (scale === "log") return (value) => (value > 0 ? value : null);
  return (value) => value;
}

/** Ticks of a root axis between two places on it, at round intensities. */
export function rootTicks(low, high) {
  const tickvals = [], ticktext = [], apart = (high - low) / 9;
  const tick = (place, text) => {
    tickvals.push(place);
    ticktext.push(text);
  };
  if (low <= 0) tick(0, "0");
  const power = Math.floor(Math.log10(Math.max(high * high, 1e-30)));
  for (let p = power - 4; p <= power; p += 1) {
    for (const digit of [1, 2, 5]) {
      const value = digit * 10 ** p, place = Math.sqrt(value);
      if (place < low || place > high || place - (tickvals.at(-1) ?? -Infinity) < apart) continue;
      tick(place, String(Number(value.toPrecision(3))));
    }
  }
  return { tickmode: "array", tickvals, ticktext };
}

/** A formula with lowered amounts for Plotly, cut at so many characters. */
function formulaHtml(formula, most) {
  const cut = formula.length > most ? `${formula.slice(0, most - 1)}…` : formula;
  return plain(cut).replace(/(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)/g, "<sub>$1</sub>");
}

/** Text that Plotly takes for no markup. */
function plain(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%\{/g, "% {");
}
