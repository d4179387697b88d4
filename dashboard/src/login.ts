// The login page works without this: it says why one is here again, and keeps the wall's hash.

/** The node sends a refused token back to `/login?failed`. */
const REFUSED =
  "This token is not accepted: it is unknown, has expired, or lacks the scope read. " +
  "Check that all of it was copied.";

const wish = new URLSearchParams(location.hash.slice(1));
if (wish.get("theme") === "light") document.documentElement.dataset["theme"] = "light";

// Redirects hand a fragment on, so the wall opens with the metric and theme it had.
const form = document.getElementById("form");
if (form instanceof HTMLFormElement) form.action += location.hash;

const error = document.getElementById("error");
const token = document.getElementById("token");
if (new URLSearchParams(location.search).has("failed") && error && token) {
  error.textContent = REFUSED;
  token.setAttribute("aria-invalid", "true");
  token.setAttribute("aria-describedby", "error help");
}

export {};
