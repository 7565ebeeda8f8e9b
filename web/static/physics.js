// Angles 2θ [°], scattering vectors Q [1/Å], spacings d [Å], and where the lines of a candidate stand.

const RADIANS = Math.PI / 180;

/** Q = 4π sin θ / λ of an angle 2θ. */
export function qOf(twoTheta, wavelength) {
  return (4 * Math.PI * Math.sin((twoTheta / 2) * RADIANS)) / wavelength;
}

/** 2θ of Q; NaN beyond the wavelength's reach. */
export function twoThetaOf(q, wavelength) {
  return (2 * Math.asin((q * wavelength) / (4 * Math.PI))) / RADIANS;
}

/** Angles measured at one wavelength on an axis: "q", "d", or 2θ at another wavelength. */
export function onAxis(twoTheta, wavelength, axis, shown) {
  if (axis === "q") return twoTheta.map((angle) => qOf(angle, wavelength));
  if (axis === "d") return twoTheta.map((angle) => (angle > 0 ? (2 * Math.PI) / qOf(angle, wavelength) : null));
  if (wavelength === shown) return twoTheta;
  return twoTheta.map((angle) => twoThetaOf(qOf(angle, wavelength), shown));
}

/**
 * Where lines are measured [°], for a strain Δd/d and a zero error [°] set by hand.
 * `candidate.q` are those of the cell that was fitted with the mean strain `candidate.strain`.
 */
export function linesOf(candidate, strain, zero, wavelength) {
  const moved = (1 - strain) / (1 - candidate.strain);
  return candidate.q.map((q) => twoThetaOf(q * moved, wavelength) + zero);
}
