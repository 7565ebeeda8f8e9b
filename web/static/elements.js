// Which elements candidates must, may and must not contain: three fields, and a periodic table that fills them.

const STATES = ["", "must", "may_only", "excluded"];
const SAID = { "": "free", must: "must be there", may_only: "may be there", excluded: "must not be there" };
const ROWS = [
  "H                                                  He",
  "Li Be                               B  C  N  O  F  Ne",
  "Na Mg                               Al Si P  S  Cl Ar",
  "K  Ca Sc Ti V  Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
  "Rb Sr Y  Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I  Xe",
  "Cs Ba La Hf Ta W  Re Os Ir Pt Au Hg Tl Pb Bi",
  "      Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu",
  "      Th Pa U  Np Pu Am Cm",
];

/** Symbols of a field, each once. */
export function symbols(text) {
  return [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
}

/** The form's three fields as the server takes them. */
export function chosen(form) {
  return Object.fromEntries(["must", "may_only", "excluded"].map((name) => [name, symbols(form.elements[name].value)]));
}

/** The choice in some words; empty where everything is allowed. */
export function said({ must, may_only, excluded }) {
  return [must.length ? `with ${must.join(" ")}` : "", may_only.length ? `of ${may_only.join(" ")} alone` : "",
    excluded.length ? `without ${excluded.join(" ")}` : ""].filter(Boolean).join(", ");
}

/** Builds the table; a press moves an element on to the next of STATES. */
export function periodicTable(table, form, known) {
  const buttons = new Map();
  const show = () => {
    const now = chosen(form);
    for (const [symbol, button] of buttons) {
      const state = STATES.find((name) => name && now[name].includes(symbol)) ?? "";
      button.dataset.state = state;
      button.setAttribute("aria-label", `${symbol}: ${SAID[state]}`);
    }
  };
  ROWS.forEach((row, y) => {
    for (let x = 0; x < 18; x += 1) {
      const symbol = row.slice(3 * x, 3 * x + 3).trim();
      if (!symbol || !known.includes(symbol)) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = symbol;
      button.style.gridColumn = String(x + 1);
      button.style.gridRow = String(y + 1);
      button.addEventListener("click", () => {
        const next = STATES[(STATES.indexOf(button.dataset.state) + 1) % STATES.length];
        for (const name of STATES.slice(1)) {
          const others = symbols(form.elements[name].value).filter((other) => other !== symbol);
          form.elements[name].value = (name === next ? [...others, symbol] : others).join(" ");
        }
        form.dispatchEvent(new Event("input"));
      });
      buttons.set(symbol, button);
      table.append(button);
    }
  });
  form.addEventListener("input", show);
  show();
}
